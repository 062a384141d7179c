"""One ring less others, with the very vertices that GEOS gives on the lattice.

What better rows cover is taken from an outline by snap rounding: winners are joined first, then the
loser is cut. In general position (see `geo.ring_crossings`) that is a walk along a few crossings.
What is not in general position, would get a hole, or falls into largest parts of the same size is
refused, and left to GEOS.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geo.kernels import borrowing_njit, inner_njit
from geo.lattice_rings import MAX_EXTENT, LatticeRings
from geo.ring_crossings import (
    DIFFERENCE,
    FIRST,
    NONE,
    PIXEL,
    REFUSED,
    SECOND,
    UNION,
    WIDE_PIXEL,
    Loops,
    Rings,
    Stops,
    crossings_are_clear,
    find_crossings,
    holds_start,
    is_clear_of_itself,
    make_room,
    put_box,
    put_ring,
    trace_loops,
)
from geo.ring_validity import is_inside

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]


class Cuts(NamedTuple):
    """What remains of rings that were cut.

    Attributes:
        points: the largest part of each, closed, counter-clockwise from its least point (by x, then
            y), one after the other, int64, shape (num_points, 2).
        offsets: ring i has the points offsets[i]:offsets[i + 1]; none where nothing remains.
        twice_area: twice the area of that part in square steps, int64.
        num_parts: number of parts; `REFUSED` where GEOS has to do it.
    """

    points: Int64Array
    offsets: Int64Array
    twice_area: Int64Array
    num_parts: Int64Array


def cut_rings(
    rings: LatticeRings,
    losers: Int64Array,
    winners: Int64Array,
    turns: Int64Array,
    group_offsets: Int64Array,
) -> Cuts:
    """Cut each loser by its winners; groups with a ring that is not plain are refused.

    Args:
        rings: the rows' outlines.
        losers: rows that are cut, int64, shape (n,).
        winners: rows that cut them; loser i by those of group_offsets[i]:group_offsets[i + 1].
        turns: steps that bring each winner's x beside its loser's.
        group_offsets: see `winners`; shape (n + 1,).
    """
    num = len(losers)
    num_points = np.diff(rings.offsets)
    of_winners = np.append(0, np.cumsum(num_points[winners]))
    in_group = num_points[losers] + np.diff(of_winners[group_offsets])
    most_rings = 1 + int(np.diff(group_offsets).max(initial=0))
    cuts = Cuts(
        # A part has fewer points than its group, but for crossings.
        points=np.empty((int(in_group.sum()), 2), np.int64),
        offsets=np.zeros(num + 1, np.int64),
        twice_area=np.zeros(num, np.int64),
        num_parts=np.full(num, REFUSED),
    )
    _cut_groups(
        rings.points,
        rings.offsets,
        rings.is_plain,
        losers,
        winners,
        turns,
        group_offsets,
        *make_room(int(in_group.max(initial=0)), most_rings),
        cuts,
    )
    return cuts._replace(points=cuts.points[: cuts.offsets[-1]])


@borrowing_njit()
def _cut_groups(
    points: Int64Array,
    offsets: Int64Array,
    is_plain: BoolArray,
    losers: Int64Array,
    winners: Int64Array,
    turns: Int64Array,
    group_offsets: Int64Array,
    rings: Rings,
    stops: Stops,
    loops: Loops,
    cuts: Cuts,
) -> None:
    """Fill what remains of each loser; `rings`, `stops` and `loops` are scratch."""
    for i in range(len(losers)):
        at = end = cuts.offsets[i]
        first, last = group_offsets[i], group_offsets[i + 1]
        if _put_group(
            rings, points, offsets, is_plain, losers[i], winners[first:last], turns[first:last]
        ):
            num_rings = _join_winners(rings, 1 + last - first, stops, loops)
            cuts.num_parts[i] = _cut_first(rings, num_rings, stops, loops)
        if cuts.num_parts[i] > 0:
            part, cuts.twice_area[i] = _find_largest(loops, cuts.num_parts[i])
            end = at + _count_closed(loops, part)
            if part == REFUSED or end > len(cuts.points):
                cuts.num_parts[i], end = REFUSED, at
            else:
                _put_canonical(loops, part, rings.origin, cuts.points[at:end])
        cuts.offsets[i + 1] = end


@inner_njit()
def _put_group(
    rings: Rings,
    points: Int64Array,
    offsets: Int64Array,
    is_plain: BoolArray,
    loser: int,
    winners: Int64Array,
    turns: Int64Array,
) -> bool:
    """Write a loser and its winners side by side; whether all of them are plain."""
    if not is_plain[loser]:
        return False
    put_ring(rings, FIRST, points[offsets[loser] : offsets[loser + 1]], NONE)
    for k in range(len(winners)):
        row = winners[k]
        if not is_plain[row]:
            return False
        put_ring(rings, 1 + k, points[offsets[row] : offsets[row + 1]], turns[k])
    return True


@inner_njit()
def _join_winners(rings: Rings, num_rings: int, stops: Stops, loops: Loops) -> int:
    """Replace rings from 1 on by their union; the number of rings, or `REFUSED`."""
    reach2 = PIXEL if num_rings == 2 else WIDE_PIXEL
    num = NONE
    for q in range(1, num_rings):
        if not is_clear_of_itself(rings, q, reach2):
            return REFUSED
        for p in range(1, q):
            before, num = num, find_crossings(rings, p, q, reach2, stops, num)
            if num == REFUSED:
                return REFUSED
            if num == before and (holds_start(rings, p, q) or holds_start(rings, q, p)):
                return REFUSED
    if num == 0:
        return num_rings
    if not crossings_are_clear(rings, SECOND, num_rings, reach2, stops, num):
        return REFUSED
    if num_rings > 3 and _depends_on_order(rings, num_rings, stops, num):
        return REFUSED
    num_loops = trace_loops(rings, stops, num, UNION, loops)
    if num_loops == REFUSED:
        return REFUSED
    num_loops = _add_lonely(rings, num_rings, stops, num, loops, num_loops)
    return _put_loops(rings, num_rings, loops, num_loops)


@inner_njit()
def _depends_on_order(rings: Rings, num_rings: int, stops: Stops, num: int) -> bool:
    """Whether joining winners two by two, in one order or another, could give different rings.

    It could where crossings lie within a third ring, or where an edge that one crossing bends is
    crossed by a third ring.
    """
    for s in range(num):
        x, y = np.int64(stops.xy[s, 0]), np.int64(stops.xy[s, 1])
        for ring in range(1, num_rings):
            if ring != stops.ring[s] and ring != stops.ring[s ^ 1]:
                begin, end = rings.starts[ring], rings.starts[ring + 1]
                if is_inside(rings.points, begin, end, x, y):
                    return True
        for t in range(s):
            if stops.edge[s] == stops.edge[t] and stops.ring[s ^ 1] != stops.ring[t ^ 1]:
                return True
    return False


@inner_njit()
def _add_lonely(
    rings: Rings, num_rings: int, stops: Stops, num: int, loops: Loops, num_loops: int
) -> int:
    """Add the winners that cross no other one to the loops; the number of loops, or `REFUSED`."""
    at = loops.ends[num_loops - 1]
    for ring in range(1, num_rings):
        is_lonely = True
        for s in range(num):
            is_lonely = is_lonely and stops.ring[s] != ring
        if not is_lonely:
            continue
        begin, last = rings.starts[ring], rings.starts[ring + 1] - 1
        if at + last - begin > len(loops.xy):
            return REFUSED
        for k in range(begin, last):
            loops.xy[at, 0], loops.xy[at, 1] = rings.points[k, 0], rings.points[k, 1]
            at += 1
        loops.ends[num_loops] = at
        num_loops += 1
    return num_loops


@inner_njit()
def _put_loops(rings: Rings, num_rings: int, loops: Loops, num_loops: int) -> int:
    """Write the loops as rings from 1 on; the number of rings, or `REFUSED` if there is a hole."""
    if num_loops == REFUSED or num_loops >= num_rings:
        return REFUSED
    begin = NONE
    for k in range(num_loops):
        end, at = loops.ends[k], rings.starts[1 + k]
        if _twice_area(loops.xy, begin, end) <= 0 or at + end - begin >= len(rings.points):
            return REFUSED
        for j in range(end - begin + 1):
            point = begin + j if j < end - begin else begin
            rings.points[at + j, 0] = np.int64(loops.xy[point, 0])
            rings.points[at + j, 1] = np.int64(loops.xy[point, 1])
        rings.starts[2 + k] = at + end - begin + 1
        put_box(rings, 1 + k)
        box = rings.boxes[1 + k]
        if box[2] - box[0] > MAX_EXTENT or box[3] - box[1] > MAX_EXTENT:
            return REFUSED
        begin = end
    return 1 + num_loops


@inner_njit()
def _cut_first(rings: Rings, num_rings: int, stops: Stops, loops: Loops) -> int:
    """Find the parts of ring 0 outside the others, which are apart; their number, or `REFUSED`."""
    if num_rings == REFUSED or not is_clear_of_itself(rings, FIRST, PIXEL):
        return REFUSED
    num = NONE
    for ring in range(1, num_rings):
        before, num = num, find_crossings(rings, FIRST, ring, PIXEL, stops, num)
        if num == REFUSED:
            return REFUSED
        if num == before and holds_start(rings, ring, FIRST):
            return 0
        if num == before and holds_start(rings, FIRST, ring):
            return REFUSED
    if num == 0 or not crossings_are_clear(rings, FIRST, num_rings, PIXEL, stops, num):
        return REFUSED
    return trace_loops(rings, stops, num, DIFFERENCE, loops)


@inner_njit()
def _find_largest(loops: Loops, num_loops: int) -> tuple[int, int]:
    """The loop with the greatest area, or `REFUSED` if there are two; twice that area."""
    largest, most, begin = REFUSED, 0.0, NONE
    for k in range(num_loops):
        twice_area = _twice_area(loops.xy, begin, loops.ends[k])
        if twice_area <= 0:
            return REFUSED, 0
        if twice_area == most:
            largest = REFUSED
        elif twice_area > most:
            largest = k
        most = max(most, twice_area)
        begin = loops.ends[k]
    return largest, int(most)


@inner_njit()
def _twice_area(xy: Float64Array, begin: int, end: int) -> float:
    """Twice the signed area of an open ring; exact on the lattice."""
    total = 0.0
    for k in range(begin + 1, end - 1):
        ax, ay = xy[k, 0] - xy[begin, 0], xy[k, 1] - xy[begin, 1]
        bx, by = xy[k + 1, 0] - xy[begin, 0], xy[k + 1, 1] - xy[begin, 1]
        total += ax * by - bx * ay
    return total


@inner_njit()
def _count_closed(loops: Loops, loop: int) -> int:
    """Number of points of a loop when it is closed."""
    if loop < 0:
        return 0
    return loops.ends[loop] - (loops.ends[loop - 1] if loop > 0 else 0) + 1


@inner_njit()
def _put_canonical(loops: Loops, loop: int, origin: Int64Array, points: Int64Array) -> None:
    """Write a loop from its least point on, closed and in its place."""
    num = len(points) - 1
    begin = loops.ends[loop] - num
    least = 0
    for k in range(1, num):
        x, y = loops.xy[begin + k, 0], loops.xy[begin + k, 1]
        if (x, y) < (loops.xy[begin + least, 0], loops.xy[begin + least, 1]):
            least = k
    for k in range(num + 1):
        point = begin + (least + k) % num
        points[k, 0] = origin[0] + np.int64(loops.xy[point, 0])
        points[k, 1] = origin[1] + np.int64(loops.xy[point, 1])
