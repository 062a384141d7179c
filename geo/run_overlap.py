"""Overlap of polygons with pixel runs: exact areas, without making a geometry of the runs.

The area of a polygon inside a run is a boundary integral: the integral of x dy over the polygon's
outline, with x clamped to the run and y cut to the run's row. Every edge visits only the rows that
it spans, so that a polygon of a few edges costs about as many steps as it has pixel rows. Font
rasterisers count coverage in the same way. Holes count by themselves, since they run clockwise.
"""

import numba
import numpy as np
import numpy.typing as npt

from geo.instances import Instances
from geo.kernels import borrowing_njit
from geo.polygons import Float64Array, PolygonArray

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


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
        row_first = np.empty(rows[-1] - origin_row + 2, np.int64)
        index_rows(rows, row_first)
        num_pixels = 0
        for k in range(len(rows)):
            num_pixels += ends[k] - starts[k]
        area, overlap = 0.0, 0.0
        for ring in range(polygon_offsets[i], polygon_offsets[i + 1]):
            points = coords[ring_offsets[ring] : ring_offsets[ring + 1]].copy()
            points[:, 0] -= origin_col
            points[:, 1] += origin_row
            area += ring_area(points)
            overlap += ring_overlap(points, starts, ends, row_first, origin_col)
        iou[i] = overlap / (area + num_pixels - overlap)
    return iou


@borrowing_njit()
def index_rows(rows: Int32Array, row_first: Int64Array) -> None:
    """Fill the position of each row's first run, for rows counted from the first run's row.

    Args:
        rows: row of each run, ascending.
        row_first: filled in place; row k of the instance owns runs row_first[k]:row_first[k + 1].
            Shape at least (num_rows + 1,).
    """
    next_row = 0
    for k in range(len(rows)):
        row = np.int64(rows[k]) - np.int64(rows[0])
        while next_row <= row:
            row_first[next_row] = k
            next_row += 1
    row_first[next_row] = len(rows)


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
def ring_overlap(
    points: Float64Array,
    starts: Int32Array,
    ends: Int32Array,
    row_first: Int64Array,
    origin_col: int,
) -> float:
    """Signed area of a closed ring inside the runs of one instance.

    Args:
        points: closed ring, shape (n, 2), pixel units, y up, relative to the upper left corner of
            the instance's first pixel: y = 0 is the upper edge of its first row.
        starts: first grid column of each run.
        ends: grid column after the last one.
        row_first: from `index_rows`, shape (num_rows + 1,).
        origin_col: grid column of x = 0.
    """
    num_rows = len(row_first) - 1
    total = 0.0
    for k in range(len(points) - 1):
        xa, ya, xb, yb = points[k, 0], -points[k, 1], points[k + 1, 0], -points[k + 1, 1]
        if ya == yb:
            continue
        low, high = min(ya, yb), max(ya, yb)
        sign = 1.0 if ya > yb else -1.0
        slope = (xb - xa) / (yb - ya)
        first, last = int(np.floor(low)), int(np.ceil(high))
        for row in range(max(first, 0), min(last, num_rows)):
            top, bottom = max(low, float(row)), min(high, row + 1.0)
            x_top, x_bottom = xa + (top - ya) * slope, xa + (bottom - ya) * slope
            covered = 0.0
            for run in range(row_first[row], row_first[row + 1]):
                left = float(starts[run] - origin_col)
                width = float(ends[run] - starts[run])
                covered += _mean_clamped(x_top - left, x_bottom - left, width)
            total += sign * (bottom - top) * covered
    return total


@borrowing_njit()
def _mean_clamped(a: float, b: float, width: float) -> float:
    """Mean of min(max(x, 0), width) while x goes evenly from a to b."""
    if a > b:
        a, b = b, a
    if b <= 0.0:
        return 0.0
    if a >= width:
        return width
    if a >= 0.0 and b <= width:
        return 0.5 * (a + b)
    inner_low, inner_high = max(a, 0.0), min(b, width)
    inside = 0.5 * (inner_high * inner_high - inner_low * inner_low)
    return (inside + (b - inner_high) * width) / (b - a)
