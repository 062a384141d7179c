"""Where rings on a lattice cross, and the rings that follow from it, after Weiler and Atherton.

Weiler & Atherton, "Hidden surface removal using polygon area sorting" (SIGGRAPH 1977): boundaries
of unions, intersections and differences run along one ring up to a crossing, go on along the other
one, and so forth. That holds for rings in general position: every crossing is a proper one, and
nothing else touches. All signs are exact: coordinates are integers, and differences between points
of rings that meet at most 2^19 (see `geo.lattice_rings`).

Crossings may be rounded to the lattice. Then hot pixels have to stay out of each other's way:
Hobby, "Practical segment intersection with finite precision output" (Computational Geometry 13,
1999) snaps to the middle of a pixel every segment that runs through it. Where no segment runs
through the pixel of a vertex or crossing that is not its own, only crossings move, the arrangement
stays the same, and every snap rounding gives the same rings. Whatever is not so is refused.
"""

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from geo.kernels import inner_njit
from geo.ring_validity import is_inside

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

REFUSED = cast(int, np.int64(-1))
"""Instead of a number: the rings are not in general position, or there is no room for them."""

MAX_CROSSINGS = 128

TOUCH = 0.0
"""Squared reach in steps for `find_crossings`: vertices on edges are refused, and crossings are
exact rather than rounded."""
PIXEL = 0.52
"""So is an edge through a pixel: its corners are sqrt(0.5) from its middle."""
WIDE_PIXEL = 2.25
"""So is one that could run through it after it is bent: by sqrt(0.5) at most."""

# Not Python's own integers, for each of which numba would compile anew.
INTERSECTION, UNION, DIFFERENCE = (cast(int, np.int64(k)) for k in range(3))
"""What `trace_loops` looks for."""
NONE, FIRST, SECOND = (cast(int, np.int64(k)) for k in (0, 0, 1))
"""No stops yet; numbers of rings."""

# More than the root of any reach: boxes of edges farther apart need no closer look.
_BOX_REACH = 2
# GEOS rounds a crossing to a double first, 2^-20 steps at 180 degrees, before that to the lattice.
_TIE = 2.0**-10
# Rounding errors of three-fold products of extents, in crossings of nearly parallel lines.
_MIN_SLANT = 2.0**-38


class Rings(NamedTuple):
    """Some closed rings, counter-clockwise, around a common origin.

    Attributes:
        points: vertices of the rings one after the other, int64, shape (capacity, 2).
        starts: ring r has the points starts[r]:starts[r + 1].
        boxes: least x and y, greatest x and y of each ring, shape (most rings, 4).
        origin: what was subtracted from x and from y, int64, shape (2,).
    """

    points: Int64Array
    starts: Int64Array
    boxes: Int64Array
    origin: Int64Array


class Stops(NamedTuple):
    """Crossings, each as two stops 2 k and 2 k + 1: one on either ring.

    Attributes:
        ring: which ring the stop is on.
        edge: the first point of its edge.
        along: how far along the edge, 0 to 1.
        xy: the place.
        is_leaving: whether the ring goes out of the other one here.
        order: stops by ring, edge and place along it.
        place: where each stop stands in that order.
        is_done: whether a loop has begun an arc here.
    """

    ring: Int64Array
    edge: Int64Array
    along: Float64Array
    xy: Float64Array
    is_leaving: BoolArray
    order: Int64Array
    place: Int64Array
    is_done: BoolArray


class Loops(NamedTuple):
    """Rings that a walk found.

    Attributes:
        xy: their points one after the other, not closed, float64, shape (capacity, 2).
        ends: position after each one's last point.
    """

    xy: Float64Array
    ends: Int64Array


def make_room(num_points: int, num_rings: int) -> tuple[Rings, Stops, Loops]:
    """Room for so many rings of so many points together, for their crossings and loops."""
    num_stops = 2 * MAX_CROSSINGS
    rings = Rings(
        points=np.empty((num_points + num_stops, 2), np.int64),
        starts=np.zeros(num_rings + 1, np.int64),
        boxes=np.empty((num_rings, 4), np.int64),
        origin=np.zeros(2, np.int64),
    )
    stops = Stops(
        ring=np.empty(num_stops, np.int64),
        edge=np.empty(num_stops, np.int64),
        along=np.empty(num_stops),
        xy=np.empty((num_stops, 2)),
        is_leaving=np.empty(num_stops, np.bool_),
        order=np.empty(num_stops, np.int64),
        place=np.empty(num_stops, np.int64),
        is_done=np.empty(num_stops, np.bool_),
    )
    loops = Loops(xy=np.empty((num_points + num_stops, 2)), ends=np.empty(num_stops, np.int64))
    return rings, stops, loops


@inner_njit()
def put_ring(rings: Rings, ring: int, points: Int64Array, turn: int) -> None:
    """Write a ring, its x moved by `turn`; the first one's first point becomes the origin."""
    if ring == 0:
        rings.origin[0], rings.origin[1] = points[0, 0] + turn, points[0, 1]
    at, shift = rings.starts[ring], turn - rings.origin[0]
    for k in range(len(points)):
        rings.points[at + k, 0] = points[k, 0] + shift
        rings.points[at + k, 1] = points[k, 1] - rings.origin[1]
    rings.starts[ring + 1] = at + len(points)
    put_box(rings, ring)


@inner_njit()
def put_box(rings: Rings, ring: int) -> None:
    """Fill a ring's box."""
    points, box = rings.points, rings.boxes[ring]
    begin = rings.starts[ring]
    x_min = x_max = points[begin, 0]
    y_min = y_max = points[begin, 1]
    for k in range(begin + 1, rings.starts[ring + 1]):
        x_min, x_max = min(x_min, points[k, 0]), max(x_max, points[k, 0])
        y_min, y_max = min(y_min, points[k, 1]), max(y_max, points[k, 1])
    box[0], box[1], box[2], box[3] = x_min, y_min, x_max, y_max


@inner_njit()
def _orientation(points: Int64Array, a: int, c: int) -> int:
    """Positive if point c lies left of the line along edge a, negative if right, 0 if on it."""
    ux, uy = points[a + 1, 0] - points[a, 0], points[a + 1, 1] - points[a, 1]
    return ux * (points[c, 1] - points[a, 1]) - uy * (points[c, 0] - points[a, 0])


@inner_njit()
def _is_near(points: Int64Array, a: int, x: int, y: int, reach2: float) -> bool:
    """Whether a point lies within a (squared) reach of edge a."""
    ux, uy = points[a + 1, 0] - points[a, 0], points[a + 1, 1] - points[a, 1]
    vx, vy = x - points[a, 0], y - points[a, 1]
    dot, length2 = ux * vx + uy * vy, ux * ux + uy * uy
    if dot <= 0:
        return vx * vx + vy * vy <= reach2
    if dot >= length2:
        return (vx - ux) * (vx - ux) + (vy - uy) * (vy - uy) <= reach2
    cross = np.float64(ux * vy - uy * vx)
    return cross * cross <= reach2 * length2


@inner_njit()
def _is_off(points: Int64Array, a: int, left: int, low: int, right: int, high: int) -> bool:
    """Whether edge a lies clearly outside a box."""
    return (
        max(points[a, 0], points[a + 1, 0]) < left - _BOX_REACH
        or min(points[a, 0], points[a + 1, 0]) > right + _BOX_REACH
        or max(points[a, 1], points[a + 1, 1]) < low - _BOX_REACH
        or min(points[a, 1], points[a + 1, 1]) > high + _BOX_REACH
    )


@inner_njit()
def is_clear_of_itself(rings: Rings, ring: int, reach2: float) -> bool:
    """Whether no vertex of a ring lies within reach of an edge that does not end in it."""
    points, begin, last = rings.points, rings.starts[ring], rings.starts[ring + 1] - 1
    for a in range(begin, last):
        after = a + 1 if a + 1 < last else begin
        left = min(points[a, 0], points[a + 1, 0]) - _BOX_REACH
        right = max(points[a, 0], points[a + 1, 0]) + _BOX_REACH
        low = min(points[a, 1], points[a + 1, 1]) - _BOX_REACH
        high = max(points[a, 1], points[a + 1, 1]) + _BOX_REACH
        for k in range(begin, last):
            x, y = points[k, 0], points[k, 1]
            if x < left or x > right or y < low or y > high:
                continue
            if k != a and k != after and _is_near(points, a, x, y, reach2):
                return False
    return True


@inner_njit()
def find_crossings(rings: Rings, p: int, q: int, reach2: float, stops: Stops, num: int) -> int:
    """Add the crossings of two rings.

    Args:
        rings: the rings.
        p: one of them.
        q: another one.
        reach2: squared distance of a vertex from an edge of the other ring that is refused;
            `TOUCH`, `PIXEL` or `WIDE_PIXEL`.
        stops: the crossings are added to them.
        num: number of stops before.

    Returns:
        Number of stops, or `REFUSED`.
    """
    points, box = rings.points, rings.boxes[q]
    for a in range(rings.starts[p], rings.starts[p + 1] - 1):
        left, right = min(points[a, 0], points[a + 1, 0]), max(points[a, 0], points[a + 1, 0])
        low, high = min(points[a, 1], points[a + 1, 1]), max(points[a, 1], points[a + 1, 1])
        if _is_off(points, a, box[0], box[1], box[2], box[3]):
            continue
        for c in range(rings.starts[q], rings.starts[q + 1] - 1):
            if _is_off(points, c, left, low, right, high):
                continue
            if _is_near(points, a, points[c, 0], points[c, 1], reach2):
                return REFUSED
            if _is_near(points, c, points[a, 0], points[a, 1], reach2):
                return REFUSED
            c_from, c_to = _orientation(points, a, c), _orientation(points, a, c + 1)
            a_from, a_to = _orientation(points, c, a), _orientation(points, c, a + 1)
            if (c_from > 0) == (c_to > 0) or (a_from > 0) == (a_to > 0):
                continue
            # A zero among these signs would be a vertex on the other edge.
            if c_from == 0 or c_to == 0 or a_from == 0 or a_to == 0 or num == 2 * MAX_CROSSINGS:
                return REFUSED
            stops.ring[num], stops.edge[num] = p, a
            stops.ring[num + 1], stops.edge[num + 1] = q, c
            stops.along[num] = np.float64(a_from) / np.float64(a_from - a_to)
            stops.along[num + 1] = np.float64(c_from) / np.float64(c_from - c_to)
            stops.is_leaving[num], stops.is_leaving[num + 1] = a_to < 0, a_to > 0
            if not _put_place(rings, a, c, a_from, a_from - a_to, reach2 > TOUCH, stops.xy[num]):
                return REFUSED
            stops.xy[num + 1, 0], stops.xy[num + 1, 1] = stops.xy[num, 0], stops.xy[num, 1]
            num += 2
    return num


@inner_njit()
def _put_place(
    rings: Rings, a: int, c: int, part: int, whole: int, is_rounded: bool, xy: Float64Array
) -> bool:
    """Write the point of edge a at part / whole; whether its rounding is beyond doubt."""
    points = rings.points
    extent = 0
    for axis in range(2):
        delta = points[a + 1, axis] - points[a, axis]
        extent = max(extent, abs(delta), abs(points[c + 1, axis] - points[c, axis]))
        xy[axis] = points[a, axis] + np.float64(part) / np.float64(whole) * delta
    if not is_rounded:
        return True
    if abs(np.float64(whole)) < _MIN_SLANT * extent * extent * np.float64(extent):
        return False
    sign = 1 if whole > 0 else -1
    for axis in range(2):
        steps = sign * part * (points[a + 1, axis] - points[a, axis])
        down = steps // (sign * whole)
        rest = np.float64(steps - down * sign * whole) / np.float64(sign * whole)
        if abs(rest - 0.5) < _TIE:
            return False
        rounded = points[a, axis] + down + (1 if rest > 0.5 else 0)
        if rounded + rings.origin[axis] == 0:
            return False  # GEOS may write -0.0
        xy[axis] = rounded
    return True


@inner_njit()
def crossings_are_clear(
    rings: Rings, first: int, last: int, reach2: float, stops: Stops, num: int
) -> bool:
    """Whether no edge of rings first to last - 1 is near a rounded crossing, but its own two."""
    points = rings.points
    for k in range(0, num, 2):
        x, y = np.int64(stops.xy[k, 0]), np.int64(stops.xy[k, 1])
        for ring in range(first, last):
            for a in range(rings.starts[ring], rings.starts[ring + 1] - 1):
                if _is_off(points, a, x, y, x, y) or not _is_near(points, a, x, y, reach2):
                    continue
                if a != stops.edge[k] and a != stops.edge[k + 1]:
                    return False
    return True


@inner_njit()
def holds_start(rings: Rings, outer: int, inner: int) -> bool:
    """Whether a ring's first point lies in another ring, which it does not touch."""
    x, y = rings.points[rings.starts[inner], 0], rings.points[rings.starts[inner], 1]
    box = rings.boxes[outer]
    if x < box[0] or y < box[1] or x > box[2] or y > box[3]:
        return False
    return is_inside(rings.points, rings.starts[outer], rings.starts[outer + 1], x, y)


@inner_njit()
def trace_loops(rings: Rings, stops: Stops, num: int, operation: int, loops: Loops) -> int:
    """Walk the loops through all crossings.

    Args:
        rings: the rings.
        stops: their crossings.
        num: number of stops.
        operation: `INTERSECTION`, `UNION`, or `DIFFERENCE`: the first ring less all others.
        loops: filled with what was found.

    Returns:
        Number of loops, or `REFUSED` if arcs do not fit together.
    """
    # Arcs of an intersection begin where a ring enters another one. In a difference those of the
    # first ring lie outside the others, which are walked backwards.
    from_leaving = operation != INTERSECTION
    _sort_stops(stops, num)
    for s in range(num):
        stops.is_done[s] = False
    count, at = NONE, NONE
    for first in range(num):
        if stops.is_done[first] or stops.is_leaving[first] != from_leaving:
            continue
        s = first
        while not stops.is_done[s]:
            stops.is_done[s] = True
            is_forward = operation != DIFFERENCE or stops.ring[s] == 0
            end = _neighbour(stops, num, s, is_forward)
            if stops.is_leaving[end] == from_leaving:
                return REFUSED
            at = _put_arc(rings, stops, s, end, is_forward, loops.xy, at)
            if at < 0:
                return REFUSED
            s = end ^ 1
        if s != first:
            return REFUSED
        loops.ends[count] = at
        count += 1
    return count


@inner_njit()
def _comes_before(stops: Stops, s: int, t: int) -> bool:
    if stops.ring[s] != stops.ring[t]:
        return stops.ring[s] < stops.ring[t]
    if stops.edge[s] != stops.edge[t]:
        return stops.edge[s] < stops.edge[t]
    return stops.along[s] < stops.along[t]


@inner_njit()
def _sort_stops(stops: Stops, num: int) -> None:
    """Fill order and place; by insertion, since there are few."""
    for s in range(num):
        k = s
        while k > 0 and _comes_before(stops, s, stops.order[k - 1]):
            stops.order[k] = stops.order[k - 1]
            k -= 1
        stops.order[k] = s
    for k in range(num):
        stops.place[stops.order[k]] = k


@inner_njit()
def _neighbour(stops: Stops, num: int, s: int, is_forward: bool) -> int:
    """The next stop on the same ring, which begins anew after its last one."""
    step = 1 if is_forward else -1
    k = stops.place[s] + step
    if 0 <= k < num and stops.ring[stops.order[k]] == stops.ring[s]:
        return stops.order[k]
    k = stops.place[s]
    while 0 <= k - step < num and stops.ring[stops.order[k - step]] == stops.ring[s]:
        k -= step
    return stops.order[k]


@inner_njit()
def _put_arc(
    rings: Rings,
    stops: Stops,
    s: int,
    end: int,
    is_forward: bool,
    xy: Float64Array,
    at: int,
) -> int:
    """Write a stop's place and the vertices up to the next stop; the position after them."""
    begin = rings.starts[stops.ring[s]]
    num_edges = rings.starts[stops.ring[s] + 1] - 1 - begin
    first, last = (s, end) if is_forward else (end, s)
    num_points = stops.edge[last] - stops.edge[first]
    if _comes_before(stops, last, first):
        num_points += num_edges
    if at + 1 + num_points > len(xy):
        return REFUSED
    xy[at, 0], xy[at, 1] = stops.xy[s, 0], stops.xy[s, 1]
    at += 1
    for k in range(num_points):
        vertex = stops.edge[s] - begin + (k + 1 if is_forward else num_edges - k)
        if vertex >= num_edges:
            vertex -= num_edges
        xy[at, 0], xy[at, 1] = rings.points[begin + vertex, 0], rings.points[begin + vertex, 1]
        at += 1
    return at
