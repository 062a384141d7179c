"""Exact rasterising of outlines: a pixel belongs to an outline when its centre does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FilledPolygon:
    """The pixels of an outline within an image.

    Attributes:
        rows: rows of the image that it meets.
        cols: columns of the image that it meets.
        mask: its pixels there, bool, shape (num_rows, num_cols).
    """

    rows: slice
    cols: slice
    mask: BoolArray


def fill_polygon(
    rings: Sequence[Float64Array], shape: tuple[int, int], pad: int = 0
) -> FilledPolygon | None:
    """Pixels whose centre lies in an outline (even-odd, so that inner rings are holes).

    Centres on an upper or left edge belong to it, those on a lower or right edge do not: outlines
    that share an edge share no pixel.

    Args:
        rings: corners in pixels (x, y), pixel (row, col) spans [col, col + 1) x [row, row + 1).
        shape: (height, width) of the image; what lies outside is cut off.
        pad: pixels of ground kept around it in the window.

    Returns:
        Window and mask, or None if it meets no pixel of the image.
    """
    low, high = rings[0].min(axis=0), rings[0].max(axis=0)
    left, top = (int(max(value - pad, 0)) for value in np.floor(low))
    right = int(min(np.ceil(high[0]) + pad, shape[1]))
    bottom = int(min(np.ceil(high[1]) + pad, shape[0]))
    if left >= right or top >= bottom:
        return None
    y = np.arange(top, bottom, dtype=np.float64) + 0.5
    x = np.arange(left, right, dtype=np.float64) + 0.5
    inside = np.zeros((bottom - top, right - left), np.bool_)
    for ring in rings:
        for first, second in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            _cross_edge(inside, y, x, first, second)
    return FilledPolygon(slice(top, bottom), slice(left, right), inside)


def _cross_edge(
    inside: BoolArray, y: Float64Array, x: Float64Array, first: Float64Array, second: Float64Array
) -> None:
    """Flip the pixels right of an edge, in the rows that it crosses."""
    # From the upper to the lower end: both neighbours of a shared edge compute the same crossings.
    (x0, y0), (x1, y1) = (first, second) if first[1] <= second[1] else (second, first)
    start, stop = np.searchsorted(y, (y0, y1))
    if start == stop:
        return
    crossing = x0 + (y[start:stop] - y0) * ((x1 - x0) / (y1 - y0))
    inside[start:stop] ^= x[None, :] >= crossing[:, None]
