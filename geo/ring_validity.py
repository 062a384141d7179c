"""Validity of small polygons, decided exactly on integer coordinates.

Finished outlines have few vertices and coordinates on a fine lattice, so that every sign needed is
that of an integer: no tolerance, no rounding, and no geometry objects to make. The test is stricter
than the OGC rule: rings may not touch each other at all, not even in a point.
"""

import numba
import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

# Up to this number of edges insertion sort beats argsort and its allocations.
_INSERTION_SORT_UP_TO = 64

MAX_COORDINATE = 1 << 29
"""Coordinates beyond this could overflow the cross products (differences squared, twice)."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def is_strictly_valid(points: Int64Array, ring_ends: Int64Array, num_rings: int) -> bool:
    """Whether a polygon is simple, its holes inside, its rings apart and rightly oriented.

    Args:
        points: vertices of the rings one after the other, each ring closed, int64, shape (n, 2),
            absolute values at most `MAX_COORDINATE`; the shell comes first.
        ring_ends: position after each ring's last point.
        num_rings: number of rings.

    Returns:
        True if the shell runs counter-clockwise (y up), holes clockwise, no ring crosses or touches
        itself or another, and every hole lies in the shell and in no other hole.
    """
    begin = 0
    for ring in range(num_rings):
        end = ring_ends[ring]
        twice_area = _twice_area(points, begin, end)
        if end - begin < 4 or (twice_area <= 0) == (ring == 0):
            return False
        if ring > 0 and not _is_nested(points, ring_ends, num_rings, ring, begin):
            return False
        begin = end
    return _edges_are_apart(points, ring_ends, num_rings)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _is_nested(
    points: Int64Array, ring_ends: Int64Array, num_rings: int, hole: int, begin: int
) -> bool:
    """Whether a hole's first point lies in the shell and in no hole before or after it."""
    x, y = points[begin, 0], points[begin, 1]
    other_begin = 0
    for other in range(num_rings):
        other_end = ring_ends[other]
        if other != hole and _is_inside(points, other_begin, other_end, x, y) != (other == 0):
            return False
        other_begin = other_end
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _is_inside(points: Int64Array, begin: int, end: int, x: int, y: int) -> bool:
    """Even-odd test of a point that is not on the ring."""
    inside = False
    for k in range(begin, end - 1):
        ay, by = points[k, 1], points[k + 1, 1]
        if (ay > y) != (by > y):
            side = _orientation(points, k, k + 1, x, y)
            if (side > 0) == (by > ay):
                inside = not inside
    return inside


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _edges_are_apart(points: Int64Array, ring_ends: Int64Array, num_rings: int) -> bool:
    """Whether no two edges meet, except neighbours in their shared vertex.

    A sweep: edges sorted by their lower end meet only edges that start below their upper end.
    """
    num = ring_ends[num_rings - 1] - num_rings
    # Columns: first vertex, second vertex, lower end, upper end.
    edges = np.empty((num, 4), np.int64)
    count, begin = 0, 0
    for ring in range(num_rings):
        end = ring_ends[ring]
        for k in range(begin, end - 1):
            following = k + 1 if k + 2 < end else begin  # the closing point is the first one
            edges[count, 0], edges[count, 1] = k, following
            edges[count, 2] = min(points[k, 1], points[following, 1])
            edges[count, 3] = max(points[k, 1], points[following, 1])
            count += 1
        begin = end
    edges = _sort_by_lower_end(edges)
    for i in range(num):
        for j in range(i + 1, num):
            if edges[j, 2] > edges[i, 3]:
                break
            if _edges_meet(points, edges[i, 0], edges[i, 1], edges[j, 0], edges[j, 1]):
                return False
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sort_by_lower_end(edges: Int64Array) -> Int64Array:
    """Edges in the order of column 2; short tables are sorted by insertion, in place."""
    if len(edges) > _INSERTION_SORT_UP_TO:
        return edges[np.argsort(edges[:, 2])]
    for i in range(1, len(edges)):
        first, second, low, high = edges[i, 0], edges[i, 1], edges[i, 2], edges[i, 3]
        j = i
        while j > 0 and edges[j - 1, 2] > low:
            for column in range(4):
                edges[j, column] = edges[j - 1, column]
            j -= 1
        edges[j, 0], edges[j, 1], edges[j, 2], edges[j, 3] = first, second, low, high
    return edges


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _edges_meet(points: Int64Array, a: int, b: int, c: int, d: int) -> bool:
    """Whether edges a-b and c-d meet, other than neighbours in the vertex that they share."""
    if b == c:
        return _folds_back(points, a, b, d)
    if d == a:
        return _folds_back(points, c, d, b)
    for axis in range(2):
        if min(points[a, axis], points[b, axis]) > max(points[c, axis], points[d, axis]):
            return False
        if max(points[a, axis], points[b, axis]) < min(points[c, axis], points[d, axis]):
            return False
    first = _orientation(points, a, b, points[c, 0], points[c, 1])
    second = _orientation(points, a, b, points[d, 0], points[d, 1])
    if (first > 0 and second > 0) or (first < 0 and second < 0):
        return False
    first = _orientation(points, c, d, points[a, 0], points[a, 1])
    second = _orientation(points, c, d, points[b, 0], points[b, 1])
    return not ((first > 0 and second > 0) or (first < 0 and second < 0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _folds_back(points: Int64Array, a: int, b: int, c: int) -> bool:
    """Whether edge b-c runs back over edge a-b, or one of them has no length."""
    if _orientation(points, a, b, points[c, 0], points[c, 1]) != 0:
        return False
    ux, uy = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
    vx, vy = points[c, 0] - points[b, 0], points[c, 1] - points[b, 1]
    return ux * vx + uy * vy <= 0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _orientation(points: Int64Array, a: int, b: int, x: int, y: int) -> int:
    """Positive if (x, y) lies left of the line from a to b, negative if right, 0 if on it."""
    ux, uy = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
    return ux * (y - points[a, 1]) - uy * (x - points[a, 0])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _twice_area(points: Int64Array, begin: int, end: int) -> int:
    """Twice the signed area of the closed ring points[begin:end]."""
    ox, oy = points[begin, 0], points[begin, 1]
    total = 0
    for k in range(begin, end - 1):
        total += (points[k, 0] - ox) * (points[k + 1, 1] - oy)
        total -= (points[k + 1, 0] - ox) * (points[k, 1] - oy)
    return total
