"""Sources of images with masks: instance ids, or building and ground."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from model.errors import SourceError
from model.fill_mask import find_missing
from model.find_images import beside, find_images, read_mask, read_rgb
from model.labelled_image import LabelCounts, LabelledImage, SkippedImage, shrink_labelled
from model.places import BoolArray, Int32Array
from model.source_config import DatasetConfig, MaskSource

_MAX_SHOWN = 6


def read_mask_source(
    source: MaskSource, dataset: DatasetConfig
) -> Iterator[LabelledImage | SkippedImage]:
    """Every image of a source with its mask, in the order of names.

    Args:
        source: the source.
        dataset: pixel size for storing, fill colours.

    Raises:
        SourceError: if a name or pattern finds no image.
    """
    colours = dataset.fill_colours if source.fill_colours is None else source.fill_colours
    for path in find_images(source.name, source.images, source.max_images):
        try:
            labelled = _read_image(path, source, colours)
        except SourceError as error:
            yield SkippedImage(stem=path.stem, reason=str(error))
        else:
            yield shrink_labelled(labelled, dataset.store_gsd_m)


def _read_image(
    path: Path, source: MaskSource, colours: tuple[tuple[int, int, int], ...]
) -> LabelledImage:
    mask_path = beside(path, source.masks)
    if not mask_path.is_file():
        raise SourceError(f"there is no mask {mask_path}")
    image, mask = read_rgb(path), read_mask(mask_path)
    if mask.shape != image.shape[:2]:
        raise SourceError(
            f"mask {mask_path} has {mask.shape[1]} x {mask.shape[0]} px, its image "
            f"{image.shape[1]} x {image.shape[0]}"
        )
    valid = ~find_missing(image, colours)
    known = valid if source.unknown_value is None else valid & (mask != source.unknown_value)
    labels = np.where(known | ~valid, mask, 0)
    is_binary = source.kind == "binary_masks"
    ids = components_of(labels, mask_path) if is_binary else number_ids(labels)
    num_labels = int(ids.max())
    return LabelledImage(
        stem=path.stem,
        gsd_m=source.gsd_m,
        image=image,
        ids=ids,
        known=known,
        valid=valid,
        has_instances=not is_binary and source.has_instances,
        counts=LabelCounts(num_labels=num_labels),
    )


def number_ids(labels: npt.NDArray[Any]) -> Int32Array:
    """Ids numbered from 1 without gaps, in ascending order; 0 stays. int32, same shape."""
    present, index = np.unique(labels, return_inverse=True)
    numbers = index.reshape(labels.shape).astype(np.int32)
    return numbers if present[0] == 0 else numbers + np.int32(1)


def components_of(labels: npt.NDArray[Any], path: Path) -> Int32Array:
    """The 4-connected components of a mask of two values; int32, same shape.

    Args:
        labels: 0 ground, one other value building.
        path: for messages.

    Raises:
        SourceError: if there are more values.
    """
    values = np.unique(labels)
    buildings = values[values != 0]
    if len(buildings) > 1:
        shown = ", ".join(str(value) for value in values[:_MAX_SHOWN])
        more = f" and {len(values) - _MAX_SHOWN} more" if len(values) > _MAX_SHOWN else ""
        raise SourceError(
            f"mask {path} has the values {shown}{more}; a binary mask has 0 for ground and one "
            "other value. Set unknown_value, use kind: instance_masks, or store it as PNG if it "
            "went through JPEG"
        )
    is_building: BoolArray = labels != 0
    return np.asarray(cv2.connectedComponents(is_building.view(np.uint8), connectivity=4)[1])
