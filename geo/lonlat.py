"""Outlines in metres to longitude and latitude on a lattice of 3.3 mm, validity kept.

Coordinates become multiples of 2^-25 degrees: half of each double is then zeros, which compress,
and signs of areas and crossings are exact in integers. Rounding moves a point by at most 1.7 mm in
latitude; where that folds or crosses an outline, it is repaired or reported, never passed on.
"""

import dataclasses
import logging
from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
import shapely

from geo.errors import GeometryError
from geo.kernels import inlined_njit
from geo.polygons import PolygonArray
from geo.ring_validity import (
    MAX_COORDINATE,
    ValidityRoom,
    is_strictly_valid,
    make_validity_room,
)
from geo.zone_degrees import zone_to_degrees, zone_to_rounded_degrees

logger = logging.getLogger(__name__)

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

COORDINATE_STEP_DEG = 2.0**-25
"""Coordinates are multiples of this: 3.3 mm along a meridian."""

_MAX_DEGREES = 1080.0  # three turns: far beyond any continuous longitude, exact on the lattice


def to_lonlat(polygons: PolygonArray, zone: int) -> tuple[PolygonArray, BoolArray]:
    """Polygons of a UTM zone in longitude and latitude, on the lattice.

    Longitudes stay within 180 degrees of the zone's central meridian, so that a polygon across the
    antimeridian has no jump (values beyond +-180 occur).

    Args:
        polygons: metres in the zone's northern CRS (EPSG:326xx); valid.
        zone: UTM zone, 1 to 60.

    Returns:
        The usable polygons in their order, and which of the input they are (bool, shape (n,)):
        see `snap_polygons`.

    Raises:
        GeometryError: if a point lies outside what the zone's CRS can express.
    """
    degrees = zone_to_rounded_degrees(polygons.coords, zone, COORDINATE_STEP_DEG)
    if not np.isfinite(degrees).all():
        point = int(np.flatnonzero(~np.isfinite(degrees).all(axis=1))[0])
        raise GeometryError(
            f"point {polygons.coords[point].tolist()} lies outside EPSG:{32600 + zone}; expected "
            f"metres in UTM zone {zone}"
        )

    def exactly(i: int) -> PolygonArray:
        polygon = polygons.take(np.array([i]))
        return dataclasses.replace(polygon, coords=zone_to_degrees(polygon.coords, zone))

    return _snap_polygons(dataclasses.replace(polygons, coords=degrees), exactly)


def snap_polygons(polygons: PolygonArray) -> tuple[PolygonArray, BoolArray]:
    """Round polygons to the lattice and make sure that they are valid.

    Points that fall together become one; holes that collapse vanish. A polygon that is not valid
    after rounding is noded on the lattice by GEOS, and its largest part kept.

    Args:
        polygons: longitude and latitude in degrees.

    Returns:
        The usable polygons in their order: valid, on the lattice, shells counter-clockwise and
        holes clockwise. And which of the input they are, bool, shape (n,); the others have nothing
        left. The caller counts them.

    Raises:
        GeometryError: if a coordinate is not finite or far out of range.
    """
    return _snap_polygons(polygons, lambda i: polygons.take(np.array([i])))


def _snap_polygons(
    polygons: PolygonArray, original: Callable[[int], PolygonArray]
) -> tuple[PolygonArray, BoolArray]:
    """As `snap_polygons`; a polygon that has to be repaired is asked for by its position."""
    coords = np.ascontiguousarray(polygons.coords)
    # Without temporaries; what is not a number fails both.
    if not (coords.max(initial=0.0) <= _MAX_DEGREES and coords.min(initial=0.0) >= -_MAX_DEGREES):
        raise GeometryError("a polygon has coordinates that are no longitude and latitude")
    points, ring_offsets, polygon_offsets, is_sure = _snap(
        coords, polygons.ring_offsets, polygons.polygon_offsets
    )
    snapped = PolygonArray(
        coords=points * COORDINATE_STEP_DEG,
        ring_offsets=ring_offsets,
        polygon_offsets=polygon_offsets,
    )
    if is_sure.all():
        return snapped, is_sure
    return _settle_doubtful(original, snapped, np.flatnonzero(~is_sure))


def _settle_doubtful(
    original: Callable[[int], PolygonArray], snapped: PolygonArray, doubtful: Int64Array
) -> tuple[PolygonArray, BoolArray]:
    """Ask GEOS about the polygons that are not strictly valid; keep, repair or report them."""
    is_usable = np.ones(len(snapped), np.bool_)
    source = np.arange(len(snapped))
    repaired: list[shapely.Polygon] = []
    for i in doubtful.tolist():
        shape = _as_valid_shape(snapped, i)
        if shape is None:
            shape = _noded(original(i).to_shapely()[0])
            logger.debug("polygon %d was not valid after rounding: %s", i, shape or "nothing left")
        if shape is None:
            is_usable[i] = False
        else:
            source[i] = len(snapped) + len(repaired)
            repaired.append(shape)
    mended = PolygonArray.from_shapely(np.array(repaired, dtype=object))
    return snapped.followed_by(mended).take(source[is_usable]), is_usable


def _as_valid_shape(snapped: PolygonArray, i: int) -> shapely.Polygon | None:
    """A rounded polygon with its rings in order, if it is valid in the OGC sense."""
    rings = range(snapped.polygon_offsets[i], snapped.polygon_offsets[i + 1])
    points = [snapped.coords[snapped.ring_offsets[j] : snapped.ring_offsets[j + 1]] for j in rings]
    if not points or len(points[0]) < 4:
        return None
    shape = shapely.Polygon(points[0], points[1:])
    return shapely.orient_polygons(shape) if shape.is_valid else None


def _noded(shape: shapely.Polygon) -> shapely.Polygon | None:
    """The largest part of a polygon noded on the lattice, or None if nothing is left."""
    # GEOS divides by zero on its way past degenerate edges, which numpy would warn about.
    with np.errstate(all="ignore"):
        if not shape.is_valid:
            shape = shapely.make_valid(shape, method="structure", keep_collapsed=False)
        part = _largest_part(_rounded_topology(shape))
        return None if part is None or not part.is_valid else shapely.orient_polygons(part)


def _rounded_topology(shape: shapely.Geometry) -> shapely.Geometry:
    """A geometry on the lattice, crossings noded; empty where GEOS finds no way."""
    try:
        return shapely.set_precision(shape, COORDINATE_STEP_DEG)
    except shapely.errors.GEOSException:
        # Seen on self-touching slivers of a few steps; the overlay engine can do most of them.
        try:
            return shapely.union_all([shape], grid_size=COORDINATE_STEP_DEG)
        except shapely.errors.GEOSException:
            return shapely.Polygon()


def _largest_part(shape: shapely.Geometry) -> shapely.Polygon | None:
    """The largest polygon of a geometry (the first of equals), or None."""
    parts = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon" and not p.is_empty]
    return max(parts, key=lambda part: part.area, default=None)


@numba.njit(cache=True, nogil=True)
def _snap(
    coords: Float64Array, ring_offsets: Int64Array, polygon_offsets: Int64Array
) -> tuple[Int64Array, Int64Array, Int64Array, BoolArray]:
    """Lattice points without repeats, new offsets, and which polygons are surely valid."""
    num = len(polygon_offsets) - 1
    points = np.empty((len(coords), 2), np.int64)
    new_rings = np.zeros(len(ring_offsets), np.int64)
    new_polygons = np.zeros(num + 1, np.int64)
    is_sure = np.zeros(num, np.bool_)
    ring, most_points, most_rings = 0, 0, 0
    for i in range(num):
        first, last = polygon_offsets[i], polygon_offsets[i + 1]
        most_points = max(most_points, ring_offsets[last] - ring_offsets[first])
        most_rings = max(most_rings, last - first)
    local, ends = np.empty((most_points, 2), np.int64), np.empty(most_rings, np.int64)
    room = make_validity_room(most_points)
    for i in range(num):
        first = new_polygons[i]
        ring = _snap_rings(
            coords,
            ring_offsets,
            polygon_offsets[i],
            polygon_offsets[i + 1],
            points,
            new_rings,
            first,
        )
        new_polygons[i + 1] = ring
        is_sure[i] = _is_surely_valid(points, new_rings, first, ring, local, ends, room)
    return points[: new_rings[ring]], new_rings[: ring + 1], new_polygons, is_sure


@inlined_njit()
def _snap_rings(
    coords: Float64Array,
    ring_offsets: Int64Array,
    first: int,
    last: int,
    points: Int64Array,
    new_rings: Int64Array,
    ring: int,
) -> int:
    """Write one polygon's lattice points, consecutive repeats left out; the end of its rings."""
    for j in range(first, last):
        begin = at = new_rings[ring]
        for k in range(ring_offsets[j], ring_offsets[j + 1]):
            x = np.int64(np.rint(coords[k, 0] / COORDINATE_STEP_DEG))
            y = np.int64(np.rint(coords[k, 1] / COORDINATE_STEP_DEG))
            if at == begin or x != points[at - 1, 0] or y != points[at - 1, 1]:
                points[at, 0], points[at, 1] = x, y
                at += 1
        # A collapsed hole vanishes; a collapsed shell stays, to be found invalid.
        if at - begin >= 4 or j == first:
            ring += 1
            new_rings[ring] = at
    return ring


@inlined_njit()
def _is_surely_valid(
    points: Int64Array,
    ring_offsets: Int64Array,
    first: int,
    last: int,
    local: Int64Array,
    ends: Int64Array,
    room: ValidityRoom,
) -> bool:
    """Whether rings first to last - 1 are one strictly valid polygon; the rest is scratch."""
    if first == last:
        return False
    start, end = ring_offsets[first], ring_offsets[last]
    farthest = 0
    for k in range(end - start):
        x, y = points[start + k, 0] - points[start, 0], points[start + k, 1] - points[start, 1]
        local[k, 0], local[k, 1] = x, y
        farthest = max(farthest, abs(x), abs(y))
    for j in range(last - first):
        ends[j] = ring_offsets[first + 1 + j] - start
    return farthest <= MAX_COORDINATE and is_strictly_valid(local, ends, last - first, room)
