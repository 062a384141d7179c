"""One image with its labels, as every kind of source hands it on."""

from dataclasses import dataclass

import cv2
import numpy as np

from model.places import BoolArray, DrawnRecipe, Int32Array, UInt8Array

# Pixel sizes this near to the one wanted are left as they are.
_GSD_SLACK = 1.05
_ALL_VALID = 254


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelCounts:
    """What became of an image's labels.

    Attributes:
        num_labels: features or ids of the image.
        num_repaired: polygons whose rings were invalid.
        num_dropped: labels without an area, or smaller than a pixel shows.
        num_unknown: labels whose ground counts as unknown: cut by the labelled area's edge, or too
            small.
        num_overlap_px: pixels that two labels claim.
    """

    num_labels: int = 0
    num_repaired: int = 0
    num_dropped: int = 0
    num_unknown: int = 0
    num_overlap_px: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImage:
    """An image with its labels.

    Attributes:
        stem: name of the file without its extension.
        gsd_m: pixel size in metres.
        image: RGB, uint8, shape (height, width, 3).
        ids: 0 ground, int32, shape (height, width).
        known: labelled ground, bool.
        valid: has image data, bool.
        has_instances: whether touching buildings have ids of their own.
        counts: what became of the labels.
        recipe: of a drawn image that is to be drawn again instead of stored.
    """

    stem: str
    gsd_m: float
    image: UInt8Array
    ids: Int32Array
    known: BoolArray
    valid: BoolArray
    has_instances: bool
    counts: LabelCounts
    recipe: DrawnRecipe | None = None


@dataclass(frozen=True, kw_only=True)
class SkippedImage:
    """An image that cannot be used.

    Attributes:
        stem: name of the file without its extension.
        reason: why not.
    """

    stem: str
    reason: str


def needs_shrinking(gsd_m: float, store_gsd_m: float) -> bool:
    """Whether an image is finer than what is stored."""
    return gsd_m * _GSD_SLACK < store_gsd_m


def shrink_pixels(
    image: UInt8Array, valid: BoolArray, size: tuple[int, int]
) -> tuple[UInt8Array, BoolArray]:
    """Area means of an image; a pixel is valid when all that it is made of are.

    Args:
        image: uint8, shape (height, width, 3).
        valid: bool, shape (height, width).
        size: new (height, width), not larger.
    """
    to = (size[1], size[0])
    smaller = cv2.resize(image, to, interpolation=cv2.INTER_AREA)
    share = cv2.resize(valid.astype(np.uint8) * 255, to, interpolation=cv2.INTER_AREA)
    return smaller, share >= _ALL_VALID


def shrink_labelled(labelled: LabelledImage, store_gsd_m: float) -> LabelledImage:
    """An image with raster labels at the pixel size for storing, if it is finer.

    Args:
        labelled: the image; square pixels.
        store_gsd_m: finest pixel size.
    """
    if not needs_shrinking(labelled.gsd_m, store_gsd_m):
        return labelled
    height, width = labelled.ids.shape
    scale = labelled.gsd_m / store_gsd_m
    size = (max(round(height * scale), 1), max(round(width * scale), 1))
    image, valid = shrink_pixels(labelled.image, labelled.valid, size)
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.int64)
    cols = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.int64)
    nearest = np.ix_(rows, cols)
    return LabelledImage(
        stem=labelled.stem,
        gsd_m=labelled.gsd_m * height / size[0],
        image=image,
        ids=labelled.ids[nearest],
        known=labelled.known[nearest] & valid,
        valid=valid,
        has_instances=labelled.has_instances,
        counts=labelled.counts,
    )
