"""Whether plain outlines overlap by more than rounding, decided without geometry objects.

An overlap counts when a disc of some radius fits into it. Bounds of its area and length tell nearly
always. GEOS rounds crossings to doubles, which moves them by a few nanometres: where a bound is met
by less than a hundredth, it is asked.
"""

import numpy as np
import numpy.typing as npt

from geo.grid import METRES_PER_DEGREE
from geo.kernels import borrowing_njit, inner_njit
from geo.lattice_rings import LatticeRings
from geo.lonlat import COORDINATE_STEP_DEG
from geo.ring_crossings import (
    FIRST,
    INTERSECTION,
    NONE,
    REFUSED,
    SECOND,
    TOUCH,
    Loops,
    Rings,
    Stops,
    find_crossings,
    holds_start,
    make_room,
    put_ring,
    trace_loops,
)

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

APART, OVERLAPS, UNCLEAR = 0, 1, 2
"""Verdicts: nothing shared, or too little; enough; GEOS has to decide."""

_MARGIN = 0.01


def judge_pairs(
    rings: LatticeRings,
    first: Int64Array,
    second: Int64Array,
    turns: Int64Array,
    radius_m: float,
) -> UInt8Array:
    """Whether a disc fits into what two outlines share, a verdict a pair, uint8.

    Args:
        rings: the rows' outlines; pairs with others than plain ones are unclear.
        first: row of each pair, int64, shape (num_pairs,).
        second: the other row.
        turns: steps that bring the second row's x beside the first's.
        radius_m: the disc's.
    """
    verdicts = np.full(len(first), UNCLEAR, np.uint8)
    most = 2 * int(np.diff(rings.offsets).max(initial=0))
    _judge_all(
        rings.points,
        rings.offsets,
        rings.is_plain,
        first,
        second,
        turns,
        radius_m,
        *make_room(most, 2),
        verdicts,
    )
    return verdicts


@borrowing_njit()
def _judge_all(
    points: Int64Array,
    offsets: Int64Array,
    is_plain: BoolArray,
    first: Int64Array,
    second: Int64Array,
    turns: Int64Array,
    radius_m: float,
    rings: Rings,
    stops: Stops,
    loops: Loops,
    verdicts: UInt8Array,
) -> None:
    """Fill the verdicts of pairs of plain outlines; `rings`, `stops`, `loops` are scratch."""
    for k in range(len(first)):
        a, b = first[k], second[k]
        if is_plain[a] and is_plain[b]:
            put_ring(rings, FIRST, points[offsets[a] : offsets[a + 1]], NONE)
            put_ring(rings, SECOND, points[offsets[b] : offsets[b + 1]], turns[k])
            verdicts[k] = _judge(rings, stops, loops, radius_m)


@inner_njit()
def _judge(rings: Rings, stops: Stops, loops: Loops, radius_m: float) -> int:
    num = find_crossings(rings, FIRST, SECOND, TOUCH, stops, NONE)
    if num == REFUSED:
        return UNCLEAR
    if num > 0:
        num_loops = trace_loops(rings, stops, num, INTERSECTION, loops)
    elif holds_start(rings, FIRST, SECOND):
        num_loops = _put_whole(rings, SECOND, loops)
    elif holds_start(rings, SECOND, FIRST):
        num_loops = _put_whole(rings, FIRST, loops)
    else:
        return APART
    if num_loops == REFUSED:
        return UNCLEAR
    return _judge_room(loops, num_loops, rings.origin[1], radius_m)


@inner_njit()
def _put_whole(rings: Rings, ring: int, loops: Loops) -> int:
    """Write a whole ring as the only loop."""
    begin, num = rings.starts[ring], rings.starts[ring + 1] - 1 - rings.starts[ring]
    for k in range(num):
        loops.xy[k, 0], loops.xy[k, 1] = rings.points[begin + k, 0], rings.points[begin + k, 1]
    loops.ends[0] = num
    return 1


@inner_njit()
def _judge_room(loops: Loops, num_loops: int, origin_y: int, radius_m: float) -> int:
    """The verdict on a shape, as `geo.overlap_pairs` gives it, but for what is near a limit."""
    y_min = np.inf
    for k in range(loops.ends[num_loops - 1]):
        y_min = min(y_min, loops.xy[k, 1])
    y_metres = METRES_PER_DEGREE * COORDINATE_STEP_DEG
    x_metres = y_metres * np.cos(np.radians((origin_y + y_min) * COORDINATE_STEP_DEG))
    area_m2, length_m, begin = 0.0, 0.0, 0
    for loop in range(num_loops):
        end = loops.ends[loop]
        x_first, y_first = loops.xy[begin, 0], loops.xy[begin, 1]
        x_last, y_last = loops.xy[end - 1, 0], loops.xy[end - 1, 1]
        for k in range(begin, end):
            x, y = loops.xy[k, 0], loops.xy[k, 1]
            dx_m, dy_m = (x - x_last) * x_metres, (y - y_last) * y_metres
            length_m += np.sqrt(dx_m * dx_m + dy_m * dy_m)
            twice = (x_last - x_first) * (y - y_first) - (x - x_first) * (y_last - y_first)
            area_m2 += twice / 2 * x_metres * y_metres
            x_last, y_last = x, y
        begin = end
    if area_m2 > (1 + _MARGIN) * 2 * radius_m * length_m:
        return OVERLAPS
    if area_m2 < (1 - _MARGIN) * np.pi * radius_m**2:
        return APART
    return UNCLEAR
