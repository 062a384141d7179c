"""Instances -> outlines along pixel edges: exact, with holes, from the runs alone.

Each run has a left edge, walked downwards, and a right edge, walked upwards: shells run counter-
clockwise with y upwards. At the boundary between two rows the ends of the upper and of the lower
row's runs, merged by column, bound the stretches that exactly one of both rows covers: ends 0 and
1, 2 and 3, and so on. Each stretch is a horizontal piece of the outline and links one arriving edge
(upper left, lower right) to one departing edge (upper right, lower left); a stretch of length zero
is an edge that goes straight on. Following the links gives the rings.

Where two pixels of an instance touch only in a corner the ring crosses over between them. A ring
then never meets itself (the instance is 4-connected), and a hole touches the shell or another hole
in single points, which is valid.
"""

import numba
import numpy as np

from geo.errors import GeometryError
from geo.instances import Instances, Int32Array, Int64Array
from geo.kernels import inlined_njit
from geo.polygons import Float64Array, PolygonArray

_Traced = tuple[Float64Array, Int64Array, Int64Array, int]


def trace_outlines(instances: Instances) -> PolygonArray:
    """Outlines of all instances along their pixel edges.

    Each instance is traced alone: instances may touch or overlap (grown ones do). Equal runs give
    equal bytes: the shell starts at the upper right corner of the first run, each hole at the upper
    left corner of its first pixel, and holes follow each other in scan order of that pixel.

    Args:
        instances: 4-connected instances, in any order.

    Returns:
        One polygon per instance, in pixel units with y upwards (x = column, y = -row), whole
        numbers, corners only; the area is the number of pixels.

    Raises:
        GeometryError: if an instance falls into several shells (pieces that were not merged).
    """
    coords, ring_offsets, polygon_offsets, bad = _trace_runs(
        instances.run_row, instances.run_start, instances.run_end, instances.run_offsets
    )
    if bad >= 0:
        row, col = instances.first_pixels()[bad]
        raise GeometryError(
            f"instance {bad} with first pixel (row {row}, col {col}) is not 4-connected; "
            "merge its pieces before tracing"
        )
    return PolygonArray(coords=coords, ring_offsets=ring_offsets, polygon_offsets=polygon_offsets)


@numba.njit(cache=True, nogil=True)
def _trace_runs(
    run_row: Int32Array, run_start: Int32Array, run_end: Int32Array, run_offsets: Int64Array
) -> _Traced:
    """Ragged polygons, and the first instance that is not connected, or -1."""
    num_runs, n = len(run_row), len(run_offsets) - 1
    # Two links per run with at most two corners each; a ring has at least four corners, so that
    # closing points are at most a quarter of them. Pages that are never written cost nothing.
    coords = np.empty((5 * num_runs, 2), np.float64)
    ring_offsets, polygon_offsets = np.zeros(num_runs + 1, np.int64), np.zeros(n + 1, np.int64)
    longest = 0
    for i in range(n):
        longest = max(longest, run_offsets[i + 1] - run_offsets[i])
    edge_x, successor = np.empty(2 * longest, np.int64), np.empty(2 * longest, np.int64)
    bad = -1
    num_rings = 0
    for i in range(n):
        first, end = run_offsets[i], run_offsets[i + 1]
        row = run_row[first:end]
        for k in range(end - first):
            edge_x[2 * k], edge_x[2 * k + 1] = run_start[first + k], run_end[first + k]
        _link_edges(row, edge_x, successor)
        before = num_rings
        num_rings = _walk_rings(row, edge_x, successor, coords, ring_offsets, num_rings)
        polygon_offsets[i + 1] = abs(num_rings)
        if num_rings < 0 or num_rings == before:
            bad = i
            break
    num_rings = abs(num_rings)
    num_points = ring_offsets[num_rings]
    return coords[:num_points].copy(), ring_offsets[: num_rings + 1].copy(), polygon_offsets, bad


@inlined_njit()
def _link_edges(row: Int32Array, edge_x: Int64Array, successor: Int64Array) -> None:
    """Find the edge that follows each edge; run k has left edge 2 k and right edge 2 k + 1."""
    num_edges = 2 * len(row)
    upper, upper_end = 0, 0
    while upper_end < num_edges:
        # The next row; if it does not lie right below, nothing meets across the gap.
        lower = lower_end = upper_end
        y = row[lower // 2]
        if upper < lower and row[upper // 2] != y - 1:
            _link_rows(edge_x, successor, upper, upper_end, lower, lower)
            upper = lower
        while lower_end < num_edges and row[lower_end // 2] == y:
            lower_end += 2
        is_simple = upper_end - upper == 2 and lower_end - lower == 2
        if is_simple and edge_x[upper] < edge_x[lower + 1] and edge_x[lower] < edge_x[upper + 1]:
            successor[upper], successor[lower + 1] = lower, upper + 1  # most rows of a building
        else:
            _link_rows(edge_x, successor, upper, upper_end, lower, lower_end)
        upper, upper_end = lower, lower_end
    _link_rows(edge_x, successor, upper, upper_end, upper_end, upper_end)


@inlined_njit()
def _link_rows(
    edge_x: Int64Array,
    successor: Int64Array,
    upper: int,
    upper_end: int,
    lower: int,
    lower_end: int,
) -> None:
    """Link the edges that meet at the boundary between two rows of runs; either may be empty."""
    pending = -1
    while upper < upper_end or lower < lower_end:
        if lower == lower_end:
            is_upper = True
        elif upper == upper_end:
            is_upper = False
        else:
            # At the same column a left edge goes first: at a corner touch that makes the ring
            # cross over; elsewhere both are left or both right edges, and either order will do.
            x_upper, x_lower = edge_x[upper], edge_x[lower]
            is_upper = x_upper < x_lower or (x_upper == x_lower and upper % 2 == 0)
        if is_upper:
            edge, arrives = upper, upper % 2 == 0
            upper += 1
        else:
            edge, arrives = lower, lower % 2 == 1
            lower += 1
        if pending < 0:
            pending = edge
            continue
        if arrives:
            successor[edge] = pending
        else:
            successor[pending] = edge
        pending = -1


@inlined_njit()
def _walk_rings(
    row: Int32Array,
    edge_x: Int64Array,
    successor: Int64Array,
    coords: Float64Array,
    ring_offsets: Int64Array,
    num_rings: int,
) -> int:
    """Walk all rings of an instance; the new number of rings, negative if it is not connected.

    Every ring has a right edge. The first one in scan order lies in the ring's top row and ends in
    a corner: from there the shell turns west, along the top of its first run, a hole turns east,
    along the top of its first pixels. Another ring that turns west is another shell.
    """
    n = ring_offsets[num_rings]
    for first in range(1, 2 * len(row), 2):
        if successor[first] < 0:
            continue
        if first > 1 and edge_x[successor[first]] < edge_x[first]:
            return -num_rings
        begin, edge = n, first
        while successor[edge] >= 0:
            departing = successor[edge]
            successor[edge] = -1
            x, x_next = edge_x[edge], edge_x[departing]
            if x != x_next:
                y = np.int64(edge % 2 - 1 - row[edge // 2])  # an integer: no -0.0
                coords[n, 0], coords[n, 1] = x, y
                coords[n + 1, 0], coords[n + 1, 1] = x_next, y
                n += 2
            edge = departing
        coords[n, 0], coords[n, 1] = coords[begin, 0], coords[begin, 1]
        n += 1
        num_rings += 1
        ring_offsets[num_rings] = n
    return num_rings
