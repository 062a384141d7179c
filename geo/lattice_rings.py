"""Outlines as single rings of whole lattice steps, where that is all there is to them.

Most footprints are one simple ring of a few vertices on the lattice of `COORDINATE_STEP_DEG`: what
is asked about those is answered in integers, exactly and without geometry objects.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.errors import GeometryError
from geo.kernels import borrowing_njit, inner_njit
from geo.lonlat import COORDINATE_STEP_DEG
from geo.ring_validity import ValidityRoom, is_strictly_valid, make_validity_room, twice_area_of
from geo.wkb import polygons_from_wkb

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

STEPS_PER_DEGREE = round(1 / COORDINATE_STEP_DEG)

MAX_EXTENT = 1 << 18
"""Steps that a plain ring may span along either axis (870 m along a meridian): products of three
differences between two rings that meet stay below 2^58."""

_MAX_DEGREES = 1080.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeRings:
    """Shells of outlines in steps of the lattice; struct of arrays.

    Attributes:
        points: x and y in steps, closed rings one after the other, int64, shape (num_points, 2).
        offsets: outline i has the points offsets[i]:offsets[i + 1]; int64, shape (n + 1,).
        is_plain: whether outline i is one ring without holes, on the lattice, strictly valid (see
            `geo.ring_validity`), counter-clockwise, and spans at most `MAX_EXTENT`. The points of
            others mean nothing.
        twice_area: twice the area of plain outlines in square steps, int64; 0 for others.
    """

    points: Int64Array
    offsets: Int64Array
    is_plain: BoolArray
    twice_area: Int64Array


def no_rings(num: int) -> LatticeRings:
    """Rings of outlines none of which is plain."""
    return LatticeRings(
        points=np.zeros((0, 2), np.int64),
        offsets=np.zeros(num + 1, np.int64),
        is_plain=np.zeros(num, np.bool_),
        twice_area=np.zeros(num, np.int64),
    )


def rings_from_wkb(column: pa.Array | pa.ChunkedArray) -> LatticeRings:
    """The rings of a WKB column; where it does not hold polygons only, none of them is plain."""
    try:
        polygons = polygons_from_wkb(column)
    except GeometryError:
        return no_rings(len(column))
    is_single = np.diff(polygons.polygon_offsets) == 1
    offsets = polygons.ring_offsets[polygons.polygon_offsets]
    points = np.empty((len(polygons.coords), 2), np.int64)
    is_plain, twice_area = np.zeros(len(column), np.bool_), np.zeros(len(column), np.int64)
    most = int(np.diff(offsets).max(initial=0))
    _read_rings(
        np.ascontiguousarray(polygons.coords),
        offsets,
        is_single,
        points,
        is_plain,
        twice_area,
        np.empty((most, 2), np.int64),
        np.empty(1, np.int64),
        make_validity_room(most),
    )
    return LatticeRings(points=points, offsets=offsets, is_plain=is_plain, twice_area=twice_area)


@borrowing_njit()
def _read_rings(
    coords: Float64Array,
    offsets: Int64Array,
    is_single: BoolArray,
    points: Int64Array,
    is_plain: BoolArray,
    twice_area: Int64Array,
    local: Int64Array,
    ends: Int64Array,
    room: ValidityRoom,
) -> None:
    """Fill the points, which outlines are plain, and twice their areas; the rest is scratch."""
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        if is_single[i] and _is_plain(coords[begin:end], points[begin:end], local, ends, room):
            is_plain[i], twice_area[i] = True, twice_area_of(local, np.int64(0), end - begin)


@inner_njit()
def _is_plain(
    coords: Float64Array,
    points: Int64Array,
    local: Int64Array,
    ends: Int64Array,
    room: ValidityRoom,
) -> bool:
    """Fill one ring's points; whether they are a plain ring. The rest is scratch."""
    x_min, x_max, y_min, y_max = np.inf, -np.inf, np.inf, -np.inf
    for k in range(len(coords)):
        x, y = coords[k, 0] * STEPS_PER_DEGREE, coords[k, 1] * STEPS_PER_DEGREE
        most = _MAX_DEGREES * STEPS_PER_DEGREE
        if not (abs(x) <= most and abs(y) <= most and x == np.rint(x) and y == np.rint(y)):
            return False
        if (x == 0.0 and np.signbit(x)) or (y == 0.0 and np.signbit(y)):
            return False  # integers have no -0.0 to give back
        points[k, 0], points[k, 1] = np.int64(x), np.int64(y)
        local[k, 0], local[k, 1] = points[k, 0] - points[0, 0], points[k, 1] - points[0, 1]
        x_min, x_max, y_min, y_max = min(x_min, x), max(x_max, x), min(y_min, y), max(y_max, y)
    last = len(coords) - 1
    if points[0, 0] != points[last, 0] or points[0, 1] != points[last, 1]:
        return False
    if x_max - x_min > MAX_EXTENT or y_max - y_min > MAX_EXTENT:
        return False
    ends[0] = len(coords)
    return is_strictly_valid(local, ends, np.int64(1), room)
