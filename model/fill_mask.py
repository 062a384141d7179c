"""Missing data of images that carry no mask: even areas of a fill colour at their borders.

For small images held in memory; `geo.fill_areas` does the same for georeferenced ones of any size.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from model.places import BoolArray, UInt8Array

# Fill of JPEG files deviates by so much; ringing beside it, and fill only two pixels wide, reach a
# little further.
_TOLERANCE = 16
_GROW_PX = 4
# Shadows and saturated roofs at the border are short; fill runs along a side.
_MIN_SHARE_OF_SIDE = 0.15
# Fill of two colours side by side blends between them.
_JOIN_PX = 5


def find_missing(image: UInt8Array, colours: Sequence[tuple[int, int, int]]) -> BoolArray:
    """Where an image has no data.

    Even areas of the fill colours, 4-connected across blends of five pixels, are fill when they
    touch a side of the image along 15 % of its length or more; four pixels around fill are missing
    as well.

    Args:
        image: RGB, uint8, shape (height, width, 3).
        colours: fill colours.

    Returns:
        bool, shape (height, width).
    """
    has_colour = np.zeros(image.shape[:2], np.uint8)
    for colour in colours:
        low = tuple(max(value - _TOLERANCE, 0) for value in colour)
        high = tuple(min(value + _TOLERANCE, 255) for value in colour)
        # Even by itself: black shadow beside a white wall is not.
        has_colour |= _morph(cv2.inRange(image, low, high), cv2.MORPH_OPEN, 3)
    fill = _along_sides(_morph(has_colour, cv2.MORPH_CLOSE, _JOIN_PX))
    return _morph(fill, cv2.MORPH_DILATE, 2 * _GROW_PX + 1).astype(np.bool_)


def _morph(mask: UInt8Array, operation: int, size_px: int) -> UInt8Array:
    """A morphological change of a mask that is continued beyond its border as it ends there."""
    pad = (size_px,) * 4
    padded = cv2.copyMakeBorder(mask, *pad, cv2.BORDER_REPLICATE)
    changed = cv2.morphologyEx(padded, operation, np.ones((size_px, size_px), np.uint8))
    return np.asarray(changed[size_px:-size_px, size_px:-size_px])


def _along_sides(mask: UInt8Array) -> UInt8Array:
    """1 in the components that run along a side of the image."""
    num, labels = cv2.connectedComponents(mask, connectivity=4)
    keep = np.zeros(num, np.uint8)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        contact = np.bincount(side, minlength=num)
        keep |= (contact >= _MIN_SHARE_OF_SIDE * len(side)).astype(np.uint8)
    keep[0] = 0
    return np.asarray(keep[labels])
