"""Polygons as well-known binary in Arrow columns, written and read without geometry objects.

Little endian, two dimensions, one Polygon a row: what GeoParquet asks for. Anything else is read by
GEOS, or refused.
"""

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from geo.errors import GeometryError
from geo.kernels import inlined_njit
from geo.polygons import PolygonArray

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Uint8Array = npt.NDArray[np.uint8]

_MAX_BYTES = 2**31 - 1
_POLYGON = 3
_HEADER_BYTES = 9  # byte order, type, number of rings
_COUNT_BYTES = 4
_POINT_BYTES = 16


def polygons_to_wkb(polygons: PolygonArray) -> pa.BinaryArray:
    """WKB of polygons, written straight into one Arrow buffer.

    Shells are written counter-clockwise and holes clockwise, whichever way they run in the input.

    Raises:
        GeometryError: if the column would exceed the 2 GiB of an Arrow binary array.
    """
    offsets = _wkb_offsets(polygons)
    if offsets[-1] > _MAX_BYTES:
        raise GeometryError(
            f"{len(polygons)} polygons take {offsets[-1]} bytes as WKB; one column holds 2 GiB: "
            "write them in smaller tables"
        )
    data = np.empty(offsets[-1], np.uint8)
    coords = np.ascontiguousarray(polygons.coords)
    _write_wkb(
        coords,
        coords.view(np.int64),
        polygons.ring_offsets,
        polygons.polygon_offsets,
        offsets,
        data,
    )
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(polygons), buffers)


def polygons_from_wkb(column: pa.Array | pa.ChunkedArray) -> PolygonArray:
    """Polygons of a WKB column.

    Args:
        column: binary or large_binary; one polygon with at least one ring a row, no nulls. Other
            byte orders and further dimensions are read too (only x and y are kept).

    Raises:
        GeometryError: if a row is null, damaged, empty or no polygon.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise GeometryError(f"row {row} has no geometry; drop such rows first")
    if len(column) == 0:
        return PolygonArray.empty()
    offsets, data = _binary_buffers(column)
    num_rings, num_points = _count_wkb(offsets, data)
    if num_rings < 0:
        return _read_with_geos(column)
    coords = np.empty((num_points, 2), np.int64)
    ring_offsets = np.zeros(num_rings + 1, np.int64)
    polygon_offsets = np.zeros(len(column) + 1, np.int64)
    _read_wkb(offsets, data, coords, ring_offsets, polygon_offsets)
    return PolygonArray(
        coords=coords.view(np.float64), ring_offsets=ring_offsets, polygon_offsets=polygon_offsets
    )


def _wkb_offsets(polygons: PolygonArray) -> Int64Array:
    """Where each polygon's bytes begin, and where the last one's end."""
    first_rings = polygons.polygon_offsets
    points_before = polygons.ring_offsets[first_rings]
    headers = np.arange(len(first_rings)) * _HEADER_BYTES
    rings, points = first_rings - first_rings[0], points_before - points_before[0]
    return np.asarray(headers + rings * _COUNT_BYTES + points * _POINT_BYTES)


def _binary_buffers(column: pa.Array) -> tuple[Int64Array, Uint8Array]:
    """Offsets and bytes of a binary column, its slice taken into account."""
    kind = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise GeometryError(f"expected WKB in a binary column, got {column.type}")
    _, offsets, data = column.buffers()
    chosen = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1]
    values = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return chosen.astype(np.int64), values


def _read_with_geos(column: pa.Array) -> PolygonArray:
    """The general reader, which also finds the row to complain about."""
    rows = column.to_numpy(zero_copy_only=False)
    try:
        shapes = shapely.from_wkb(rows)
    except shapely.errors.GEOSException as error:
        broken = shapely.is_missing(shapely.from_wkb(rows, on_invalid="ignore"))
        row = int(np.flatnonzero(broken)[0])
        raise GeometryError(f"the WKB of row {row} is damaged: {error}") from error
    wrong = (shapely.get_type_id(shapes) != _POLYGON) | shapely.is_empty(shapes)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        what = "an empty polygon" if shapes[row].is_empty else f"a {shapes[row].geom_type}"
        raise GeometryError(f"row {row} holds {what}; expected one polygon a row")
    return PolygonArray.from_shapely(shapes)


@inlined_njit()
def _put(data: Uint8Array, at: int, value: int, num_bytes: int) -> int:
    """Write an integer's low bytes, lowest first; returns the position after them."""
    place = data[at : at + num_bytes]
    for k in range(num_bytes):
        place[k] = np.uint8((value >> (8 * k)) & 0xFF)
    return at + num_bytes


@numba.njit(cache=True, nogil=True)
def _get(data: Uint8Array, at: int, num_bytes: int) -> int:
    """Read an integer, lowest byte first (unsigned below 8 bytes)."""
    value = 0
    for k in range(num_bytes):
        value |= int(data[at + k]) << (8 * k)
    return value


@numba.njit(cache=True, nogil=True)
def _is_counter_clockwise(coords: npt.NDArray[np.float64], start: int, end: int) -> bool:
    """Direction of a closed ring by its signed area about its first point."""
    area = 0.0
    for k in range(start + 1, end - 1):
        ax, ay = coords[k, 0] - coords[start, 0], coords[k, 1] - coords[start, 1]
        bx, by = coords[k + 1, 0] - coords[start, 0], coords[k + 1, 1] - coords[start, 1]
        area += ax * by - bx * ay
    return area > 0.0


@numba.njit(cache=True, nogil=True)
def _write_wkb(
    coords: npt.NDArray[np.float64],
    bits: Int64Array,
    ring_offsets: Int64Array,
    polygon_offsets: Int64Array,
    offsets: Int64Array,
    data: Uint8Array,
) -> None:
    """Fill the bytes of all polygons; `bits` are the coordinates' bit patterns."""
    for i in range(len(polygon_offsets) - 1):
        first, last = polygon_offsets[i], polygon_offsets[i + 1]
        at = _put(data, offsets[i], 1, 1)
        at = _put(data, at, _POLYGON, 4)
        at = _put(data, at, last - first, 4)
        for j in range(first, last):
            start, end = ring_offsets[j], ring_offsets[j + 1]
            at = _put(data, at, end - start, 4)
            is_forward = _is_counter_clockwise(coords, start, end) == (j == first)
            for k in range(start, end):
                point = k if is_forward else start + end - 1 - k
                at = _put(data, at, bits[point, 0], 8)
                at = _put(data, at, bits[point, 1], 8)


@numba.njit(cache=True, nogil=True)
def _count_wkb(offsets: Int64Array, data: Uint8Array) -> tuple[int, int]:
    """Number of rings and points of all rows; (-1, -1) if a row is not plainly a polygon."""
    num_rings, num_points = 0, 0
    for i in range(len(offsets) - 1):
        at, end = offsets[i], offsets[i + 1]
        if end - at < _HEADER_BYTES or data[at] != 1 or _get(data, at + 1, 4) != _POLYGON:
            return -1, -1
        rings = _get(data, at + 5, 4)
        at += _HEADER_BYTES
        for _ in range(rings):
            if end - at < _COUNT_BYTES:
                return -1, -1
            points = _get(data, at, 4)
            at += _COUNT_BYTES + points * _POINT_BYTES
            if points < 4 or at > end:
                return -1, -1
            num_points += points
        if at != end or rings == 0:
            return -1, -1
        num_rings += rings
    return num_rings, num_points


@numba.njit(cache=True, nogil=True)
def _read_wkb(
    offsets: Int64Array,
    data: Uint8Array,
    bits: Int64Array,
    ring_offsets: Int64Array,
    polygon_offsets: Int64Array,
) -> None:
    """Fill the ragged arrays from rows that `_count_wkb` found in order."""
    ring, point = 0, 0
    for i in range(len(offsets) - 1):
        at = offsets[i] + 5
        rings = _get(data, at, 4)
        at += 4
        for _ in range(rings):
            points = _get(data, at, 4)
            at += _COUNT_BYTES
            for _ in range(points):
                bits[point, 0] = _get(data, at, 8)
                bits[point, 1] = _get(data, at + 8, 8)
                point += 1
                at += _POINT_BYTES
            ring += 1
            ring_offsets[ring] = point
        polygon_offsets[i + 1] = ring
