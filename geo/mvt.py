"""Mapbox vector tiles of polygons, made from arrays with numpy, without an object per polygon.

Only what the viewer needs: polygons with an id and properties that are whole numbers. A feature is
nothing but varints (keys, lengths, tags, steps of the outline), so that a layer's features are one
array of whole numbers, which is turned into bytes at once. The libraries at hand build every
feature from Python objects (benchmarks/view.py compares).
Specification: https://github.com/mapbox/vector-tile-spec/tree/master/2.1
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geo.polygons import PolygonArray

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
Uint8Array = npt.NDArray[np.uint8]

# Keys of protobuf: number << 3 | wire type (0: varint, 2: bytes).
_TILE_LAYER = 3 << 3 | 2
_LAYER_VERSION, _LAYER_NAME, _LAYER_FEATURE = 15 << 3, 1 << 3 | 2, 2 << 3 | 2
_LAYER_KEY, _LAYER_VALUE, _LAYER_EXTENT = 3 << 3 | 2, 4 << 3 | 2, 5 << 3
_VALUE_UINT = 5 << 3
_FEATURE_ID, _FEATURE_TAGS, _FEATURE_TYPE, _FEATURE_GEOMETRY = (
    1 << 3,
    2 << 3 | 2,
    3 << 3,
    4 << 3 | 2,
)
_POLYGON = 3
_MOVE_TO, _LINE_TO, _CLOSE_PATH = 1, 2, 7
_BOX_POINTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rings:
    """Rings as pieces of an array of points, each without its repeated last point.

    Attributes:
        starts: first point of each.
        counts: number of its points.
        is_forward: whether its points are taken in their order.
        polygons: the polygon that it belongs to, rising.
    """

    starts: Int64Array
    counts: Int64Array
    is_forward: BoolArray
    polygons: Int64Array


def encode_polygon_layer(
    name: str,
    polygons: PolygonArray,
    *,
    ids: npt.NDArray[np.integer],
    properties: Mapping[str, npt.NDArray[np.integer]],
    extent: int,
) -> bytes:
    """A layer of polygons; the layers of a tile, joined, are the tile.

    A shell that collapses on the tile's grid becomes the rectangle around it, at least one step
    wide, so that no building is lost at a low zoom; a hole that collapses goes.

    Args:
        name: of the layer.
        polygons: in steps of the tile, y downwards, (0, 0) its north-western corner; rounded here.
            Rings may run either way, the first of each polygon is its shell.
        ids: one per polygon, at least 0.
        properties: by name, whole numbers of at least 0, one per polygon.
        extent: steps from side to side of the tile.

    Returns:
        The bytes; none at all for no polygons.

    Raises:
        ValueError: if there is not one id and one value of each property per polygon.
    """
    num = len(polygons)
    if num == 0:
        return b""
    columns = [np.asarray(column, np.int64) for column in (ids, *properties.values())]
    if any(len(column) != num for column in columns):
        raise ValueError(f"{num} polygons, but {[len(c) for c in columns]} ids and values")
    values, places = np.unique(np.stack([columns[0] * 0, *columns[1:]]), return_inverse=True)
    tags = np.asarray(places, np.int64).reshape(len(columns), num)[1:]
    body = b"".join(
        [
            bytes([_LAYER_VERSION, 2]),
            _field(_LAYER_NAME, name.encode()),
            _features(polygons, columns[0], tags),
            *(_field(_LAYER_KEY, key.encode()) for key in properties),
            *(_field(_LAYER_VALUE, bytes([_VALUE_UINT]) + _varint(v)) for v in values.tolist()),
            bytes([_LAYER_EXTENT]) + _varint(extent),
        ]
    )
    return _field(_TILE_LAYER, body)


def _features(polygons: PolygonArray, ids: Int64Array, tags: Int64Array) -> bytes:
    """All features as bytes: per feature a head of known length, then its geometry."""
    geometry, geometry_counts = _geometry(polygons)
    ends = np.cumsum(geometry_counts)
    geometry_bytes = _sums(_varint_lengths(geometry), ends - geometry_counts)
    head = _heads(ids, tags, geometry_bytes)
    counts = geometry_counts + head.shape[1]
    starts = np.cumsum(counts) - counts
    stream = np.empty(int(counts.sum()), np.int64)
    is_head = np.zeros(len(stream), np.bool_)
    is_head[(starts[:, np.newaxis] + np.arange(head.shape[1])).ravel()] = True
    stream[is_head] = head.ravel()
    stream[~is_head] = geometry
    return _varints(stream).tobytes()


def _heads(ids: Int64Array, tags: Int64Array, geometry_bytes: Int64Array) -> Int64Array:
    """What precedes each geometry, shape (n, k): keys, lengths, id, tags and type."""
    one = np.ones_like(ids)
    pairs = [part for key, column in enumerate(tags) for part in (one * key, column)]
    tag_bytes = sum((_varint_lengths(part) for part in pairs), start=one * 0)
    inner = [
        *(one * _FEATURE_ID, ids),
        *(one * _FEATURE_TAGS, tag_bytes, *pairs),
        *(one * _FEATURE_TYPE, one * _POLYGON),
        *(one * _FEATURE_GEOMETRY, geometry_bytes),
    ]
    num_bytes = sum((_varint_lengths(part) for part in inner), start=geometry_bytes)
    return np.stack([one * _LAYER_FEATURE, num_bytes, *inner], axis=1)


def _geometry(polygons: PolygonArray) -> tuple[Int64Array, Int64Array]:
    """The commands and steps of all outlines, and how many belong to each polygon."""
    points = np.rint(polygons.coords).astype(np.int64)
    points, rings = _usable_rings(points, polygons)
    points, counts = _pen_points(points, rings)
    ends = np.cumsum(counts)
    starts = ends - counts
    # The pen begins each polygon at (0, 0) and goes on from ring to ring.
    before = np.zeros_like(points)
    before[1:] = points[:-1]
    is_first = np.diff(rings.polygons, prepend=-1) != 0
    before[starts[is_first]] = 0
    steps = points - before
    steps = (steps << 1) ^ (steps >> 63)
    # Each ring: MoveTo, its first point, LineTo, the others, ClosePath.
    num_values = 2 * counts + 3
    begins = np.cumsum(num_values) - num_values
    stream = np.empty(int(num_values.sum()), np.int64)
    stream[begins] = _MOVE_TO | 1 << 3
    stream[begins + 3] = _LINE_TO | (counts - 1) << 3
    stream[begins + num_values - 1] = _CLOSE_PATH | 1 << 3
    place = np.arange(len(points)) - np.repeat(starts, counts)
    at = np.repeat(begins, counts) + 2 * place + np.where(place == 0, 1, 2)
    stream[at], stream[at + 1] = steps[:, 0], steps[:, 1]
    return stream, _sums(num_values, np.flatnonzero(is_first))


def _usable_rings(points: Int64Array, polygons: PolygonArray) -> tuple[Int64Array, _Rings]:
    """The rings to draw, wound as the format asks, and the points with those of boxes added."""
    starts, ends = polygons.ring_offsets[:-1], polygons.ring_offsets[1:]
    owner = np.repeat(np.arange(len(polygons)), np.diff(polygons.polygon_offsets))
    shells = polygons.polygon_offsets[:-1]
    is_shell = np.zeros(len(starts), np.bool_)
    is_shell[shells] = True
    area = _double_areas(points, starts, ends)
    is_flat = (area[shells] == 0)[owner]  # the polygon's shell has collapsed
    is_box = is_shell & is_flat
    boxes = _boxes(points, starts, is_box)
    starts = np.where(is_box, len(points) + _BOX_POINTS * (np.cumsum(is_box) - 1), starts)
    counts = np.where(is_box, _BOX_POINTS, ends - polygons.ring_offsets[:-1] - 1)
    kept = np.flatnonzero(is_box | (~is_flat & (area != 0)))
    # Clockwise on the screen (y downwards) is positive: shells so, holes the other way.
    is_forward = is_box | ((area > 0) == is_shell)
    rings = _Rings(
        starts=starts[kept],
        counts=counts[kept],
        is_forward=is_forward[kept],
        polygons=owner[kept],
    )
    return np.concatenate([points, boxes]), rings


def _double_areas(points: Int64Array, starts: Int64Array, ends: Int64Array) -> Int64Array:
    """Twice the signed area of each closed ring."""
    cross = np.zeros(len(points), np.int64)
    cross[:-1] = points[:-1, 0] * points[1:, 1] - points[1:, 0] * points[:-1, 1]
    cross[ends - 1] = 0  # from one ring to the next is no side
    return _sums(cross, starts)


def _boxes(points: Int64Array, starts: Int64Array, is_box: BoolArray) -> Int64Array:
    """Corners of the rectangles around the chosen rings, clockwise on the screen."""
    if not is_box.any():
        return np.zeros((0, 2), np.int64)
    least = np.minimum.reduceat(points, starts, axis=0)[is_box]
    most = np.maximum(np.maximum.reduceat(points, starts, axis=0)[is_box], least + 1)
    xs = np.stack([least[:, 0], most[:, 0], most[:, 0], least[:, 0]], axis=1)
    ys = np.stack([least[:, 1], least[:, 1], most[:, 1], most[:, 1]], axis=1)
    return np.stack([xs.ravel(), ys.ravel()], axis=1)


def _pen_points(points: Int64Array, rings: _Rings) -> tuple[Int64Array, Int64Array]:
    """The points of all rings in drawing order, repeated ones left out, and how many of each."""
    ends = np.cumsum(rings.counts)
    begins = ends - rings.counts
    place = np.arange(int(ends[-1])) - np.repeat(begins, rings.counts)
    forward = np.repeat(rings.is_forward, rings.counts)
    # Backwards from the same first point: a ring's last point, left out, is its first.
    turned = np.where(place == 0, 0, np.repeat(rings.counts, rings.counts) - place)
    drawn = points[np.repeat(rings.starts, rings.counts) + np.where(forward, place, turned)]
    is_new = np.ones(len(drawn), np.bool_)
    is_new[1:] = (drawn[1:] != drawn[:-1]).any(axis=1)
    is_new[begins] = True
    # The last ones that lie upon the first: a run of equal points, of which one was kept.
    lasts = np.maximum.reduceat(np.where(is_new, np.arange(len(drawn)), 0), begins)
    is_new[lasts[(drawn[lasts] == drawn[begins]).all(axis=1)]] = False
    return drawn[is_new], _sums(is_new.astype(np.int64), begins)


def _sums(values: Int64Array, starts: Int64Array) -> Int64Array:
    """Sums of consecutive pieces, none of them empty."""
    return np.asarray(np.add.reduceat(values, starts))


def _varint_lengths(values: Int64Array) -> Int64Array:
    """Bytes that each number takes: seven bits a byte."""
    lengths = np.ones(len(values), np.int64)
    limit = 1 << 7
    largest = int(values.max(initial=0))
    while largest >= limit:
        lengths += values >= limit
        limit <<= 7
    return lengths


def _varints(values: Int64Array) -> Uint8Array:
    """The bytes of numbers of at least 0, one after the other."""
    lengths = _varint_lengths(values)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    data = np.empty(int(ends[-1]), np.uint8)
    data[starts] = values & 0x7F
    for place in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > place)
        at = starts[longer] + place
        data[at - 1] |= 0x80
        data[at] = (values[longer] >> (7 * place)) & 0x7F
    return data


def _field(key: int, content: bytes) -> bytes:
    return bytes([key]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    return _varints(np.array([value], np.int64)).tobytes()
