"""What lies just outside a building: the neighbours of its pixels that are ground.

A footprint is believable where the probability is high inside and low just outside. Inside alone
tells little where it matters: part of a roof, or two houses taken for one, are as sure inside as a
whole one, but what they touch is not ground.

Counted by pixel, over pairs of neighbours: sums over a building's pixels do not depend on how it is
cut into pieces.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
BoolArray = npt.NDArray[np.bool_]

Confidence = Literal["mean", "contrast"]
CONFIDENCES: tuple[Confidence, ...] = ("mean", "contrast")


@dataclass(frozen=True, slots=True)
class Rim:
    """Of each building pixel, those of its four neighbours that are no building pixels.

    Attributes:
        total: sum of their probabilities, uint16, shape (height, width); 0 on ground.
        count: how many there are, uint8, the same shape; 0 on ground.
    """

    total: UInt16Array
    count: UInt8Array


def find_rim(probability: UInt8Array, is_building: BoolArray) -> Rim:
    """The rim of every building pixel; pixels beyond the raster are not counted.

    Args:
        probability: round(255 * probability), uint8, shape (height, width).
        is_building: the same shape; neighbours that are cut apart have ground between them here,
            with the probability that it had before. Pixels without image data are ground, too.
    """
    # numba is kept out of the import: whoever trains needs the names in this file only.
    from geo.rim_kernel import find_rim_pixels

    return Rim(*find_rim_pixels(probability, is_building))


def contrast(
    inside: npt.NDArray[np.float64],
    rim_sum: npt.NDArray[np.int64],
    rim_count: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Mean probability inside times one minus the mean probability just outside; 0 to 1.

    Args:
        inside: mean probability of each building's pixels, 0 to 1, shape (n,).
        rim_sum: sum of `Rim.total` over its pixels, int64, the same shape.
        rim_count: sum of `Rim.count`; where it is 0, all of the rim lies beyond the raster and
            counts as ground.
    """
    outside = rim_sum / (255.0 * np.maximum(rim_count, 1))
    result: npt.NDArray[np.float64] = inside * (1.0 - outside)
    return result
