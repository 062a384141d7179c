"""Fewer vertices: Douglas-Peucker on closed rings, independent of where a ring starts.

Source: Douglas and Peucker, "Algorithms for the reduction of the number of points required to
represent a digitized line or its caricature", 1973. We differ in the anchors: a closed ring is cut
at the vertex farthest from the ring's centroid and at the vertex farthest from that one; both lie
at ends of the building, so that they would be kept anyhow.
"""

import numpy as np
import numpy.typing as npt

from geo.kernels import borrowing_njit
from geo.polygons import Float64Array

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]


def simplify_ring(ring: Float64Array, *, tolerance: float) -> Float64Array:
    """Drop vertices of a closed ring that lie within the tolerance of the remaining outline.

    Args:
        ring: closed ring, float64, shape (n, 2), n >= 4; integer-valued coordinates make the
            result independent of the ring's starting vertex to the bit.
        tolerance: largest distance from a dropped vertex to the edge that replaces it, in the
            ring's units.

    Returns:
        Closed ring of at least 3 points; 3 means that it collapsed to a line. The remaining
        vertices keep their order; the result may cross itself.
    """
    kept = np.empty(len(ring), np.int64)
    num = simplify_indices(ring, tolerance, kept, np.empty((len(ring), 2), np.int64))
    return ring[np.append(kept[:num], kept[0])]


@borrowing_njit()
def simplify_indices(
    ring: Float64Array, tolerance: float, kept: Int64Array, stack: Int64Array
) -> int:
    """Positions of the vertices that Douglas-Peucker keeps, in the ring's order, anchor first.

    Args:
        ring: closed ring, shape (n, 2).
        tolerance: in the ring's units.
        kept: filled in place; room for n.
        stack: scratch, shape at least (n, 2).

    Returns:
        The number of vertices kept; the ring has collapsed when it is below 3.
    """
    num = len(ring) - 1
    first = _farthest_from(ring, *_centroid(ring))
    second = _farthest_from(ring, ring[first, 0], ring[first, 1])
    if second <= first:
        second += num
    # Positions beyond the ring's end mean the next lap: the walk begins at the anchor, wherever
    # that lies, so that the result begins there too.
    count = _simplify_span(ring, first, second, tolerance, kept, 0, stack)
    count = _simplify_span(ring, second, first + num, tolerance, kept, count, stack)
    return count


@borrowing_njit()
def refine_indices(
    ring: Float64Array,
    coarse: Int64Array,
    tolerance: float,
    kept: Int64Array,
    stack: Int64Array,
) -> int:
    """As `simplify_indices`, from its result for a larger tolerance: the same, in less time.

    Douglas-Peucker splits the same stretches at the same vertices whatever the tolerance, and only
    stops earlier; so it can go on where it stopped.

    Args:
        ring: closed ring, shape (n, 2).
        coarse: positions kept at a larger tolerance, all of them, shape (num,), num >= 2.
        tolerance: in the ring's units.
        kept: filled in place; room for n; not the memory of `coarse`.
        stack: scratch, shape at least (n, 2).

    Returns:
        The number of vertices kept.
    """
    num = len(ring) - 1
    count = 0
    for k in range(len(coarse)):
        begin, end = coarse[k], coarse[k + 1 if k + 1 < len(coarse) else 0]
        if end <= begin:
            end += num
        count = _simplify_span(ring, begin, end, tolerance, kept, count, stack)
    return count


@borrowing_njit()
def _simplify_span(
    ring: Float64Array,
    begin: int,
    end: int,
    tolerance: float,
    kept: Int64Array,
    count: int,
    stack: Int64Array,
) -> int:
    """Append the kept positions of [begin, end), modulo the ring, in order; the new count."""
    num = len(ring) - 1
    limit = tolerance * tolerance
    depth = 1
    stack[0, 0], stack[0, 1] = begin, end
    while depth > 0:
        depth -= 1
        low, high = stack[depth, 0], stack[depth, 1]
        split = _farthest_from_segment(ring, low, high, limit)
        if split < 0:
            kept[count] = low if low < num else low - num
            count += 1
            continue
        stack[depth, 0], stack[depth, 1] = split, high
        stack[depth + 1, 0], stack[depth + 1, 1] = low, split
        depth += 2
    return count


@borrowing_njit()
def _farthest_from_segment(ring: Float64Array, low: int, high: int, limit: float) -> int:
    """Vertex between two vertices that is farthest from their segment; -1 if within the limit."""
    num = len(ring) - 1
    # At most one lap beyond the end: no division.
    begin, end = low if low < num else low - num, high if high < num else high - num
    ax, ay = ring[begin, 0], ring[begin, 1]
    dx, dy = ring[end, 0] - ax, ring[end, 1] - ay
    length2 = dx * dx + dy * dy
    # Squared distances are compared after multiplying by the segment's squared length: no division.
    unit = length2 if length2 > 0.0 else 1.0
    split, worst = -1, limit * unit
    k = begin
    for position in range(low + 1, high):
        k += 1
        if k == num:
            k = 0
        px, py = ring[k, 0] - ax, ring[k, 1] - ay
        along = px * dx + py * dy
        if along <= 0.0:
            distance2 = (px * px + py * py) * unit
        elif along >= length2:
            distance2 = ((px - dx) * (px - dx) + (py - dy) * (py - dy)) * unit
        else:
            cross = px * dy - py * dx
            distance2 = cross * cross
        if distance2 > worst:
            split, worst = position, distance2
    return split


@borrowing_njit()
def _centroid(ring: Float64Array) -> tuple[float, float]:
    """Area centroid of a closed ring; exact sums for integer coordinates of any start."""
    ox, oy = ring[0, 0], ring[0, 1]
    twice, sum_x, sum_y = 0.0, 0.0, 0.0
    for k in range(len(ring) - 1):
        ax, ay = ring[k, 0], ring[k, 1]
        bx, by = ring[k + 1, 0], ring[k + 1, 1]
        cross = ax * by - bx * ay
        twice += cross
        sum_x += (ax + bx) * cross
        sum_y += (ay + by) * cross
    if twice == 0.0:
        return ox, oy
    return sum_x / (3.0 * twice), sum_y / (3.0 * twice)


@borrowing_njit()
def _farthest_from(ring: Float64Array, x: float, y: float) -> int:
    """Vertex farthest from a point; the lower (x, y) among equals, so that the start is moot."""
    best, farthest = 0, -1.0
    for k in range(len(ring) - 1):
        dx, dy = ring[k, 0] - x, ring[k, 1] - y
        distance2 = dx * dx + dy * dy
        if distance2 > farthest or (
            distance2 == farthest and (ring[k, 0], ring[k, 1]) < (ring[best, 0], ring[best, 1])
        ):
            best, farthest = k, distance2
    return best
