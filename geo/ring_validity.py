"""Validity of small polygons, decided exactly on integer coordinates.

Finished outlines have few vertices and coordinates on a fine lattice, so that every sign needed is
that of an integer: no tolerance, no rounding, and no geometry objects to make. The test is stricter
than the OGC rule: rings may not touch each other at all, not even in a point.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from geo.kernels import borrowing_njit

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

# Gaps of the shell sort, after Ciura ("Best increments for the average case of shellsort", 2001);
# outlines of buildings mostly need the last two.
_GAPS = (1750, 701, 301, 132, 57, 23, 10, 4, 1)
# Room for the number of an edge, below its lower end, in a key to sort by.
_EDGE_BITS = 30
# Up to this number of points all boxes around edges are compared with all, many at once, which
# beats sorting; a constant, so that the comparison compiles to a few instructions.
_FEW_POINTS = 32

MAX_COORDINATE = 1 << 29
"""Coordinates beyond this could overflow the cross products (differences squared, twice)."""


class ValidityRoom(NamedTuple):
    """Work space of the test: keys of edges, boxes around edges."""

    keys: Int64Array
    boxes: Int32Array


@numba.njit(cache=True, nogil=True)
def make_validity_room(num_points: int) -> ValidityRoom:
    """Work space for polygons of up to that many points."""
    return ValidityRoom(np.empty(num_points, np.int64), np.empty((4, _FEW_POINTS), np.int32))


@borrowing_njit()
def is_strictly_valid(
    points: Int64Array, ring_ends: Int64Array, num_rings: int, room: ValidityRoom
) -> bool:
    """Whether a polygon is simple, its holes inside, its rings apart and rightly oriented.

    Args:
        points: vertices of the rings one after the other, each ring closed, int64, shape (n, 2),
            absolute values at most `MAX_COORDINATE`; the shell comes first.
        ring_ends: position after each ring's last point.
        num_rings: number of rings.
        room: from `make_validity_room`.

    Returns:
        True if the shell runs counter-clockwise (y up), holes clockwise, no ring crosses or touches
        itself or another, and every hole lies in the shell and in no other hole.
    """
    begin, ring_ends = 0, ring_ends[:num_rings]
    for ring in range(num_rings):
        end = ring_ends[ring]
        twice_area = twice_area_of(points, begin, end)
        if end - begin < 4 or (twice_area <= 0) == (ring == 0):
            return False
        if ring > 0 and not _is_nested(points, ring_ends, ring, begin):
            return False
        begin = end
    if begin <= _FEW_POINTS:
        return not _any_folds_back(points, ring_ends) and _few_edges_are_apart(
            points, ring_ends, room.boxes
        )
    return _edges_are_apart(points, ring_ends, room.keys)


@borrowing_njit()
def _is_nested(points: Int64Array, ring_ends: Int64Array, hole: int, begin: int) -> bool:
    """Whether a hole's first point lies in the shell and in no hole before or after it."""
    x, y = points[begin, 0], points[begin, 1]
    other_begin = 0
    for other in range(len(ring_ends)):
        other_end = ring_ends[other]
        if other != hole and is_inside(points, other_begin, other_end, x, y) != (other == 0):
            return False
        other_begin = other_end
    return True


@borrowing_njit()
def is_inside(points: Int64Array, begin: int, end: int, x: int, y: int) -> bool:
    """Even-odd test of a point that is not on the ring."""
    inside = False
    for k in range(begin, end - 1):
        ay, by = points[k, 1], points[k + 1, 1]
        if (ay > y) != (by > y):
            side = _orientation(points, k, k + 1, x, y)
            if (side > 0) == (by > ay):
                inside = not inside
    return inside


@borrowing_njit()
def _any_folds_back(points: Int64Array, ring_ends: Int64Array) -> bool:
    """Whether an edge runs back over the one before it, or has no length."""
    begin = 0
    for ring in range(len(ring_ends)):
        end = ring_ends[ring]
        if _folds_back(points, end - 2, begin, begin + 1):
            return True
        for k in range(begin, end - 2):
            if _folds_back(points, k, k + 1, k + 2):
                return True
        begin = end
    return False


@borrowing_njit()
def _few_edges_are_apart(points: Int64Array, ring_ends: Int64Array, boxes: Int32Array) -> bool:
    """Whether no two edges meet, except neighbours in their shared vertex; for few points.

    Every edge's box meets its own and those of its neighbours; mostly it meets no other.
    """
    x_min, x_max, y_min, y_max = boxes[0], boxes[1], boxes[2], boxes[3]
    num = ring_ends[len(ring_ends) - 1]
    _put_extents(points, 0, ring_ends, x_min, x_max)
    _put_extents(points, 1, ring_ends, y_min, y_max)
    for k in range(num):
        left, right, low, high = x_min[k], x_max[k], y_min[k], y_max[k]
        meetings = np.int32(0)
        for j in range(_FEW_POINTS):
            meets = (
                (x_min[j] <= right) & (x_max[j] >= left) & (y_min[j] <= high) & (y_max[j] >= low)
            )
            meetings += np.int32(meets)
        if meetings <= 3:
            continue
        for j in range(k):
            if x_min[j] <= x_max[j] and _edges_meet(points, ring_ends, j, k):
                return False
    return True


@borrowing_njit()
def _put_extents(
    points: Int64Array, axis: int, ring_ends: Int64Array, least: Int32Array, most: Int32Array
) -> None:
    """Fill the extent of every edge along an axis; empty where no edge starts."""
    begin = 0
    for ring in range(len(ring_ends)):
        for k in range(begin, ring_ends[ring] - 1):
            least[k] = min(points[k, axis], points[k + 1, axis])
            most[k] = max(points[k, axis], points[k + 1, axis])
        begin = ring_ends[ring]
        least[begin - 1], most[begin - 1] = 2 * MAX_COORDINATE, -2 * MAX_COORDINATE
    for k in range(begin, _FEW_POINTS):
        least[k], most[k] = 2 * MAX_COORDINATE, -2 * MAX_COORDINATE


@borrowing_njit()
def _edges_are_apart(points: Int64Array, ring_ends: Int64Array, keys: Int64Array) -> bool:
    """Whether no two edges meet, except neighbours in their shared vertex.

    A sweep: edges sorted by their lower end meet only edges that start below their upper end. An
    edge goes by the position of its first vertex; the second one is the next point.
    """
    count, begin = 0, 0
    for ring in range(len(ring_ends)):
        for k in range(begin, ring_ends[ring] - 1):
            keys[count] = (min(points[k, 1], points[k + 1, 1]) << _EDGE_BITS) | k
            count += 1
        begin = ring_ends[ring]
    _sort(keys, count)
    for i in range(count):
        a = keys[i] & ((1 << _EDGE_BITS) - 1)
        top = max(points[a, 1], points[a + 1, 1])
        for j in range(i + 1, count):
            if keys[j] >> _EDGE_BITS > top:
                break
            if _edges_meet(points, ring_ends, a, keys[j] & ((1 << _EDGE_BITS) - 1)):
                return False
    return True


@borrowing_njit()
def _sort(keys: Int64Array, num: int) -> None:
    """Sort the first keys in place."""
    for gap in _GAPS:
        for i in range(gap, num):
            key, j = keys[i], i
            while j >= gap and keys[j - gap] > key:
                keys[j] = keys[j - gap]
                j -= gap
            keys[j] = key


@borrowing_njit()
def _edges_meet(points: Int64Array, ring_ends: Int64Array, a: int, c: int) -> bool:
    """Whether the edges from points a and c meet, other than neighbours in a shared vertex."""
    b, d = a + 1, c + 1
    for axis in range(2):
        if min(points[a, axis], points[b, axis]) > max(points[c, axis], points[d, axis]):
            return False
        if max(points[a, axis], points[b, axis]) < min(points[c, axis], points[d, axis]):
            return False
    if _follows(points, ring_ends, a, c):
        return _folds_back(points, a, b, d)
    if _follows(points, ring_ends, c, a):
        return _folds_back(points, c, d, b)
    first = _orientation(points, a, b, points[c, 0], points[c, 1])
    second = _orientation(points, a, b, points[d, 0], points[d, 1])
    if (first > 0 and second > 0) or (first < 0 and second < 0):
        return False
    first = _orientation(points, c, d, points[a, 0], points[a, 1])
    second = _orientation(points, c, d, points[b, 0], points[b, 1])
    return not ((first > 0 and second > 0) or (first < 0 and second < 0))


@borrowing_njit()
def _follows(points: Int64Array, ring_ends: Int64Array, a: int, c: int) -> bool:
    """Whether the edge from point c is the next one after that from point a on its ring."""
    if c == a + 1:
        return True
    if points[a + 1, 0] != points[c, 0] or points[a + 1, 1] != points[c, 1]:
        return False
    begin = 0
    for ring in range(len(ring_ends)):
        if a + 2 == ring_ends[ring]:  # the edge to the closing point
            return c == begin
        begin = ring_ends[ring]
    return False


@borrowing_njit()
def _folds_back(points: Int64Array, a: int, b: int, c: int) -> bool:
    """Whether edge b-c runs back over edge a-b, or one of them has no length."""
    if _orientation(points, a, b, points[c, 0], points[c, 1]) != 0:
        return False
    ux, uy = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
    vx, vy = points[c, 0] - points[b, 0], points[c, 1] - points[b, 1]
    return ux * vx + uy * vy <= 0


@borrowing_njit()
def _orientation(points: Int64Array, a: int, b: int, x: int, y: int) -> int:
    """Positive if (x, y) lies left of the line from a to b, negative if right, 0 if on it."""
    ux, uy = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
    return ux * (y - points[a, 1]) - uy * (x - points[a, 0])


@borrowing_njit()
def twice_area_of(points: Int64Array, begin: int, end: int) -> int:
    """Twice the signed area of the closed ring points[begin:end]."""
    ox, oy = points[begin, 0], points[begin, 1]
    total = 0
    for k in range(begin, end - 1):
        total += (points[k, 0] - ox) * (points[k + 1, 1] - oy)
        total -= (points[k + 1, 0] - ox) * (points[k, 1] - oy)
    return total
