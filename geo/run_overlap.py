"""Overlap of polygons with pixel runs: exact areas, without making a geometry of the runs.

The area of a polygon inside a run is a boundary integral: the integral of x dy over the polygon's
outline, with x clamped to the run and y cut to the run's row. Every edge visits only the rows that
it spans, so that a polygon of a few edges costs about as many steps as it has pixel rows. Font
rasterisers count coverage in the same way. Holes count by themselves, since they run clockwise.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from geo.instances import Instances
from geo.kernels import borrowing_njit
from geo.polygons import Float64Array, PolygonArray

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

# Columns per row below which an edge counts as steep.
_STEEP = 2.0**-7


def iou_with_runs(polygons: PolygonArray, instances: Instances) -> Float64Array:
    """IoU of each polygon with the pixels of its instance.

    Args:
        polygons: valid polygons in pixel units, y up (x = col, y = -row); shells counter-clockwise,
            holes clockwise.
        instances: as many instances; polygon i is compared with instance i.

    Returns:
        float64, shape (n,); exact up to rounding. 0 where both are empty.

    Raises:
        ValueError: if the numbers of polygons and instances differ.
    """
    if len(polygons) != len(instances):
        raise ValueError(f"{len(polygons)} polygons for {len(instances)} instances; need one each")
    return _iou_of_all(
        polygons.coords,
        polygons.ring_offsets,
        polygons.polygon_offsets,
        instances.run_row,
        instances.run_start,
        instances.run_end,
        instances.run_offsets,
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _iou_of_all(
    coords: Float64Array,
    ring_offsets: Int64Array,
    polygon_offsets: Int64Array,
    run_row: Int32Array,
    run_start: Int32Array,
    run_end: Int32Array,
    run_offsets: Int64Array,
) -> Float64Array:
    num = len(polygon_offsets) - 1
    iou = np.zeros(num)
    for i in range(num):
        begin, end = run_offsets[i], run_offsets[i + 1]
        if begin == end:
            continue
        rows, starts, ends = run_row[begin:end], run_start[begin:end], run_end[begin:end]
        origin_row, origin_col = np.int64(rows[0]), np.int64(starts[0])
        runs = make_local_runs(len(rows), rows[-1] - origin_row + 1)
        num_rows, num_pixels = load_runs(rows, starts, ends, runs)
        area, overlap = 0.0, 0.0
        for ring in range(polygon_offsets[i], polygon_offsets[i + 1]):
            points = coords[ring_offsets[ring] : ring_offsets[ring + 1]].copy()
            points[:, 0] -= origin_col
            points[:, 1] += origin_row
            area += ring_area(points)
            overlap += ring_overlap(points, runs, num_rows)
        iou[i] = overlap / (area + num_pixels - overlap)
    return iou


class LocalRuns(NamedTuple):
    """The runs of one instance as numbers to calculate with, and room for more.

    Relative to the upper left corner of its first pixel, y downwards.

    Attributes:
        tops: upper edge of each run, float64.
        lefts: where it begins, float64.
        rights: where it ends, float64.
        row_first: row k of the instance owns runs row_first[k]:row_first[k + 1]; int64.
    """

    tops: Float64Array
    lefts: Float64Array
    rights: Float64Array
    row_first: Int64Array


@numba.njit(cache=True, nogil=True, error_model="numpy")
def make_local_runs(num_runs: int, num_rows: int) -> LocalRuns:
    """Room for an instance of that many runs and rows."""
    return LocalRuns(
        np.empty(num_runs), np.empty(num_runs), np.empty(num_runs), np.empty(num_rows + 1, np.int64)
    )


@borrowing_njit()
def load_runs(
    rows: Int32Array, starts: Int32Array, ends: Int32Array, runs: LocalRuns
) -> tuple[int, float]:
    """Fill the runs of one instance.

    Args:
        rows: grid row of each run, ascending.
        starts: first grid column of each run.
        ends: grid column after the last one.
        runs: filled in place.

    Returns:
        The number of rows and that of pixels.
    """
    next_row, num_pixels = 0, 0
    for k in range(len(rows)):
        row = np.int64(rows[k]) - np.int64(rows[0])
        left, right = np.int64(starts[k]) - starts[0], np.int64(ends[k]) - starts[0]
        runs.tops[k], runs.lefts[k], runs.rights[k] = row, left, right
        num_pixels += right - left
        while next_row <= row:
            runs.row_first[next_row] = k
            next_row += 1
    runs.row_first[next_row] = len(rows)
    return next_row, float(num_pixels)


@borrowing_njit()
def ring_area(points: Float64Array) -> float:
    """Signed area of a closed ring (n, 2): positive when counter-clockwise with y up."""
    twice = 0.0
    for k in range(len(points) - 1):
        twice += points[k, 0] * points[k + 1, 1] - points[k + 1, 0] * points[k, 1]
    return 0.5 * twice


@borrowing_njit()
def ring_length(points: Float64Array) -> float:
    """Length of a closed ring (n, 2)."""
    total = 0.0
    for k in range(len(points) - 1):
        dx, dy = points[k + 1, 0] - points[k, 0], points[k + 1, 1] - points[k, 1]
        total += np.sqrt(dx * dx + dy * dy)
    return total


@borrowing_njit()
def ring_overlap(points: Float64Array, runs: LocalRuns, num_rows: int) -> float:
    """Signed area of a closed ring inside the runs of one instance.

    Args:
        points: closed ring, shape (n, 2), pixel units, y up, relative to the upper left corner of
            the instance's first pixel: y = 0 is the upper edge of its first row.
        runs: from `load_runs`.
        num_rows: likewise.
    """
    total = 0.0
    for k in range(len(points) - 1):
        xa, ya, xb, yb = points[k, 0], -points[k, 1], points[k + 1, 0], -points[k + 1, 1]
        low, high = min(ya, yb), max(ya, yb)
        first, last = max(int(np.floor(low)), 0), min(int(np.ceil(high)), num_rows)
        if first >= last or ya == yb:
            continue
        begin, end, slope = runs.row_first[first], runs.row_first[last], (xb - xa) / (yb - ya)
        tops, lefts, rights = runs.tops[begin:end], runs.lefts[begin:end], runs.rights[begin:end]
        if abs(slope) < _STEEP:
            covered = _overlap_of_steep(xa - ya * slope, slope, low, high, tops, lefts, rights)
        else:
            covered = _overlap_of_edge(xa - ya * slope, slope, low, high, tops, lefts, rights)
        total += covered if ya > yb else -covered
    return total


@borrowing_njit()
def _overlap_of_edge(
    x: float,
    slope: float,
    low: float,
    high: float,
    tops: Float64Array,
    lefts: Float64Array,
    rights: Float64Array,
) -> float:
    """Area of the runs left of the line x + slope y between two y, which all the runs meet.

    As integrals over x instead of y. Without branches: where a line enters or leaves a run cannot
    be predicted.
    """
    total = 0.0
    for k in range(len(tops)):
        top, bottom = max(low, tops[k]), min(high, tops[k] + 1.0)
        x_top, x_bottom = x + top * slope - lefts[k], x + bottom * slope - lefts[k]
        width = rights[k] - lefts[k]
        # The integral from 0 to x of min(max(x, 0), width).
        at_top, at_bottom = min(max(x_top, 0.0), width), min(max(x_bottom, 0.0), width)
        total += at_bottom * (x_bottom - 0.5 * at_bottom) - at_top * (x_top - 0.5 * at_top)
    return total / slope


@borrowing_njit()
def _overlap_of_steep(
    x: float,
    slope: float,
    low: float,
    high: float,
    tops: Float64Array,
    lefts: Float64Array,
    rights: Float64Array,
) -> float:
    """As `_overlap_of_edge`, for lines so near the vertical that there is little to divide by."""
    total = 0.0
    for k in range(len(tops)):
        top, bottom = max(low, tops[k]), min(high, tops[k] + 1.0)
        a, b = x + top * slope - lefts[k], x + bottom * slope - lefts[k]
        total += (bottom - top) * _mean_clamped(min(a, b), max(a, b), rights[k] - lefts[k])
    return total


@borrowing_njit()
def _mean_clamped(a: float, b: float, width: float) -> float:
    """Mean of min(max(x, 0), width) while x goes evenly from a up to b."""
    inner_a, inner_b = min(max(a, 0.0), width), min(max(b, 0.0), width)
    inside = 0.5 * (inner_b - inner_a) * (inner_a + inner_b)
    beyond = width * (max(b, width) - max(a, width))
    return (inside + beyond) / (b - a) if b > a else inner_a
