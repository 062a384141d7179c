"""Vector tiles: polygons with properties as one layer of a Mapbox Vector Tile.

Written by compiled code, since a dataset has millions of small polygons in every zoom: a fifth of
the CPU time of tippecanoe 2.72 and a quarter of GDAL 3.12's (benchmarks/export.py), and no program
to install. Tiles are read back by GDAL and by the package mapbox-vector-tile in tests.
Specification: https://github.com/mapbox/vector-tile-spec/tree/master/2.1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.polygons import PolygonArray

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Uint8Array = npt.NDArray[np.uint8]
Column: TypeAlias = Float64Array | Int64Array | Any
"""float64 (NaN: absent), int64 of at least 0, or an Arrow array of strings (null: absent)."""

_VERSION = 2
_POLYGON = 3
_MOVE_TO, _LINE_TO, _CLOSE_PATH = 9, 2, 15
# Tags of the protobuf messages: the number of the field, and how its value is stored.
_NAME, _FEATURE, _KEY, _VALUE, _EXTENT, _LAYER_VERSION, _LAYER = (
    0x0A,
    0x12,
    0x1A,
    0x22,
    0x28,
    0x78,
    0x1A,
)
_TAGS, _TYPE, _GEOMETRY = 0x12, 0x18, 0x22
_STRING_VALUE, _DOUBLE_VALUE, _UINT_VALUE = 0x0A, 0x19, 0x28
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFrame:
    """Where a tile lies and how fine its coordinates are.

    Attributes:
        zoom: zoom level.
        x: column, from the west.
        y: row, from the north.
        extent: steps along a side.
    """

    zoom: int
    x: int
    y: int
    extent: int


def encode_layer(
    name: str,
    frame: TileFrame,
    polygons: PolygonArray,
    index: Int64Array,
    columns: Mapping[str, Column],
) -> bytes:
    """One layer of a tile, uncompressed; layers after each other are a tile.

    Nothing is clipped: the whole of a polygon is in every tile that is given it. A polygon that
    vanishes at the tile's resolution becomes a square of one step, so that none is lost.

    Args:
        name: name of the layer.
        frame: the tile.
        polygons: in web map units, x from 0 (180 W) to 1 (180 E), y from 0 (85 N) to 1 (85 S);
            shells counter-clockwise on the ground, which is clockwise in these units.
        index: polygons of the layer, in order.
        columns: properties by name, each of `len(index)` rows.
    """
    tags = np.empty((len(index), len(columns)), np.int64)
    values, num_values = bytearray(), 0
    for k, column in enumerate(columns.values()):
        codes, blob, number = _encode_values(column)
        tags[:, k] = np.where(codes >= 0, codes + num_values, -1)
        values += blob
        num_values += number
    points = _points_of(polygons, index)
    room = points * 2 * _LONGEST_VARINT + len(index) * (
        80 + 2 * _LONGEST_VARINT * (len(columns) + 1)
    )
    data = np.empty(room, np.uint8)
    scratch = np.empty(room, np.uint8)
    length = _encode_features(
        polygons.coords,
        polygons.ring_offsets,
        polygons.polygon_offsets,
        np.ascontiguousarray(index),
        2.0**frame.zoom * frame.extent,
        np.array([frame.x * frame.extent, frame.y * frame.extent], np.int64),
        tags,
        scratch,
        data,
    )
    keys = b"".join(_message(_KEY, key.encode()) for key in columns)
    layer = b"".join(
        (
            bytes((_LAYER_VERSION, _VERSION)),
            _message(_NAME, name.encode()),
            data[:length].tobytes(),
            keys,
            bytes(values),
            bytes((_EXTENT,)) + _varint(frame.extent),
        )
    )
    return _message(_LAYER, layer)


def _points_of(polygons: PolygonArray, index: Int64Array) -> int:
    before = polygons.ring_offsets[polygons.polygon_offsets]
    rings = polygons.polygon_offsets[index + 1] - polygons.polygon_offsets[index]
    # A ring may need room for its commands, and a vanished one for a square.
    return int((before[index + 1] - before[index]).sum() + 6 * rings.sum())


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _message(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(content)) + content


def _encode_values(column: Column) -> tuple[Int64Array, bytes, int]:
    """Code of each row (-1: absent), the distinct values as messages, and their number."""
    if isinstance(column, pa.Array):
        packed = column.dictionary_encode()
        texts = [text.encode() for text in packed.dictionary.to_pylist()]
        codes = packed.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        messages = (_message(_VALUE, _message(_STRING_VALUE, text)) for text in texts)
        return codes, b"".join(messages), len(texts)
    if np.issubdtype(column.dtype, np.integer):
        distinct, codes = np.unique(column, return_inverse=True)
        content = (bytes((_UINT_VALUE,)) + _varint(int(value)) for value in distinct)
        return codes, b"".join(_message(_VALUE, value) for value in content), len(distinct)
    is_absent = np.isnan(column)
    distinct, codes = np.unique(np.where(is_absent, 0.0, column), return_inverse=True)
    rows = np.empty((len(distinct), 11), np.uint8)
    rows[:, :3] = (_VALUE, 9, _DOUBLE_VALUE)
    rows[:, 3:] = distinct.astype("<f8").view(np.uint8).reshape(-1, 8)
    return np.where(is_absent, -1, codes), rows.tobytes(), len(distinct)


@numba.njit(cache=True, nogil=True)
def _put_varint(data: Uint8Array, at: int, number: int) -> int:
    while number > 0x7F:
        data[at] = number & 0x7F | 0x80
        number >>= 7
        at += 1
    data[at] = number
    return at + 1


@numba.njit(cache=True, nogil=True)
def _put_signed(data: Uint8Array, at: int, number: int) -> int:
    """Zigzag: small numbers of either sign take few bytes."""
    return _put_varint(data, at, (number << 1) ^ (number >> 63))


@numba.njit(cache=True, nogil=True)
def _quantised(
    coords: Float64Array, start: int, end: int, scale: float, origin: Int64Array, ring: Int64Array
) -> int:
    """A ring's points in steps of the tile, backwards, without repeats; returns their number."""
    num = 0
    for k in range(end - 2, start - 1, -1):
        x = np.int64(np.rint(coords[k, 0] * scale)) - origin[0]
        y = np.int64(np.rint(coords[k, 1] * scale)) - origin[1]
        if num == 0 or x != ring[num - 1, 0] or y != ring[num - 1, 1]:
            ring[num, 0], ring[num, 1] = x, y
            num += 1
    while num > 1 and ring[num - 1, 0] == ring[0, 0] and ring[num - 1, 1] == ring[0, 1]:
        num -= 1
    return num


@numba.njit(cache=True, nogil=True)
def _doubled_area(ring: Int64Array, num: int) -> int:
    area = 0
    for k in range(num):
        m = (k + 1) % num
        area += ring[k, 0] * ring[m, 1] - ring[m, 0] * ring[k, 1]
    return area


@numba.njit(cache=True, nogil=True)
def _put_ring(
    data: Uint8Array, at: int, ring: Int64Array, num: int, is_forward: bool, pen: Int64Array
) -> int:
    """MoveTo, LineTo and ClosePath; the pen is where the last ring's last point was."""
    at = _put_varint(data, at, _MOVE_TO)
    for k in range(num):
        point = k if is_forward else num - 1 - k
        if k == 1:
            at = _put_varint(data, at, ((num - 1) << 3) | _LINE_TO)
        at = _put_signed(data, at, ring[point, 0] - pen[0])
        at = _put_signed(data, at, ring[point, 1] - pen[1])
        pen[0], pen[1] = ring[point, 0], ring[point, 1]
    return _put_varint(data, at, _CLOSE_PATH)


@numba.njit(cache=True, nogil=True)
def _put_polygon(
    data: Uint8Array,
    coords: Float64Array,
    ring_offsets: Int64Array,
    first: int,
    last: int,
    scale: float,
    origin: Int64Array,
) -> int:
    """The commands of a polygon: its shell clockwise on the screen, its holes the other way."""
    at = 0
    pen = np.zeros(2, np.int64)
    for j in range(first, last):
        start, end = ring_offsets[j], ring_offsets[j + 1]
        ring = np.empty((max(end - start, 4), 2), np.int64)
        num = _quantised(coords, start, end, scale, origin, ring)
        area = _doubled_area(ring, num) if num > 2 else 0
        if area == 0 and j > first:
            continue
        if area == 0:
            west, north = ring[0, 0], ring[0, 1]
            for k in range(4):
                ring[k, 0] = west + (1 if k == 1 or k == 2 else 0)
                ring[k, 1] = north + (1 if k >= 2 else 0)
            num, area = 4, 2
        # With y downwards, a shell's area is positive as the specification wants it.
        at = _put_ring(data, at, ring, num, (area > 0) == (j == first), pen)
    return at


@numba.njit(cache=True, nogil=True)
def _encode_features(
    coords: Float64Array,
    ring_offsets: Int64Array,
    polygon_offsets: Int64Array,
    index: Int64Array,
    scale: float,
    origin: Int64Array,
    tags: Int64Array,
    scratch: Uint8Array,
    data: Uint8Array,
) -> int:
    """All features of a layer; returns the number of bytes."""
    at = 0
    pairs = np.empty(tags.shape[1] * 2 * _LONGEST_VARINT + 1, np.uint8)
    for i in range(len(index)):
        first, last = polygon_offsets[index[i]], polygon_offsets[index[i] + 1]
        size = _put_polygon(scratch, coords, ring_offsets, first, last, scale, origin)
        num_tag_bytes = 0
        for k in range(tags.shape[1]):
            if tags[i, k] >= 0:
                num_tag_bytes = _put_varint(pairs, num_tag_bytes, k)
                num_tag_bytes = _put_varint(pairs, num_tag_bytes, tags[i, k])
        total = 4 + num_tag_bytes + size
        total += _varint_bytes(num_tag_bytes) + _varint_bytes(size)
        data[at] = _FEATURE
        at = _put_varint(data, at + 1, total)
        data[at] = _TAGS
        at = _put_varint(data, at + 1, num_tag_bytes)
        data[at : at + num_tag_bytes] = pairs[:num_tag_bytes]
        at += num_tag_bytes
        data[at], data[at + 1], data[at + 2] = _TYPE, _POLYGON, _GEOMETRY
        at = _put_varint(data, at + 3, size)
        data[at : at + size] = scratch[:size]
        at += size
    return at


@numba.njit(cache=True, nogil=True)
def _varint_bytes(number: int) -> int:
    num = 1
    while number > 0x7F:
        number >>= 7
        num += 1
    return num
