"""Vector tiles made when they are asked for: outlines from the row groups that meet the tile."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cachetools
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from geo.footprint_index import (
    CELLS_PER_TILE,
    CONFIDENCE_STEPS,
    FootprintIndex,
    cell_area_km2,
    confidence_steps,
)
from geo.mvt import encode_polygon_layer
from geo.polygons import PolygonArray
from geo.web_mercator import to_unit
from geo.wkb import polygons_from_wkb
from pipeline.viewer.row_groups import RowGroups

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Properties = Mapping[str, npt.NDArray[np.integer]]

MIN_ZOOM = 14
"""From here on outlines are drawn, below it density: a tile of a dense city holds some 20,000."""
MIN_ZOOM_OF_FEW = 12
"""The same for a dataset that is drawn at ease as a whole."""
FEW_FOOTPRINTS = 50_000
MAX_ZOOM = 16
"""The page magnifies these tiles further; a step of theirs is 7 cm at the equator."""
EXTENT = 8192
"""Steps of a tile of outlines, as many as MapLibre keeps."""
_EDGE = 64  # steps around a tile that belong to it too, so that outlines meet there
_REACH = EXTENT  # outlines that reach farther out are cut: MapLibre holds 16 bits
_CACHED_POINTS = 12_000_000  # of decoded outlines: 200 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outlines:
    """One row group, decoded: outlines and boxes in the unit square."""

    polygons: PolygonArray
    boxes: Float64Array
    ids: Int64Array
    properties: Properties


class OutlineTiles:
    """Tiles of the polygons of some files.

    Args:
        groups: the files' row groups.
        layer: name of the layer in the tiles.
        columns: read besides the geometry.
        properties: whole numbers of each row for the tile, from a table of these columns.
    """

    def __init__(
        self,
        groups: RowGroups,
        layer: str,
        columns: Sequence[str],
        properties: Callable[[pa.Table], Properties],
    ) -> None:
        self._groups, self._layer = groups, layer
        self._columns, self._properties = ["geometry", *columns], properties
        self._cache: cachetools.LRUCache[int, _Outlines] = cachetools.LRUCache(
            _CACHED_POINTS, getsizeof=lambda part: len(part.polygons.coords) + 1
        )
        self._lock = threading.Lock()
        west_north = to_unit(groups.bounds[0], groups.bounds[3])
        east_south = to_unit(groups.bounds[2], groups.bounds[1])
        self._boxes = np.stack([*west_north, *east_south])

    def tile(self, z: int, x: int, y: int) -> bytes:
        """The tile's bytes, none where nothing lies; ids are row numbers."""
        parts = [
            part
            for turn in (-1, 0, 1)
            for part in self._parts(np.array([x, y], np.float64), 2.0**z, turn)
        ]
        if not parts:
            return b""
        polygons = _joined([part.polygons for part in parts])
        rows = np.concatenate([part.ids for part in parts])
        names = parts[0].properties
        values = {name: np.concatenate([p.properties[name] for p in parts]) for name in names}
        return encode_polygon_layer(
            self._layer, polygons, ids=rows, properties=values, extent=EXTENT
        )

    def _parts(self, corner: Float64Array, num_tiles: float, turn: int) -> list[_Outlines]:
        """What of each row group lies in the tile, in its steps, seen a whole turn away."""
        corner = corner + (turn * num_tiles, 0.0)
        edge = _EDGE / EXTENT
        low, high = (corner - edge) / num_tiles, (corner + 1 + edge) / num_tiles
        parts = []
        for group in np.flatnonzero(_meets(self._boxes, low, high)).tolist():
            outlines = self._decoded(group)
            chosen = np.flatnonzero(_meets(outlines.boxes, low, high))
            if len(chosen):
                parts.append(_in_tile(outlines, chosen, corner, num_tiles))
        return parts

    def _decoded(self, group: int) -> _Outlines:
        with self._lock:
            found = self._cache.get(group)
        if found is None:
            found = self._decode(group)
            with self._lock:
                if len(found.polygons.coords) < self._cache.maxsize:
                    self._cache[group] = found
        return found

    def _decode(self, group: int) -> _Outlines:
        table = self._groups.read(group, self._columns)
        has_outline = np.flatnonzero(table["geometry"].is_valid().to_numpy())
        table = table.take(has_outline)
        degrees = polygons_from_wkb(table["geometry"])
        unit = np.stack(to_unit(degrees.coords[:, 0], degrees.coords[:, 1]), axis=1)
        polygons = PolygonArray(
            coords=unit,
            ring_offsets=degrees.ring_offsets,
            polygon_offsets=degrees.polygon_offsets,
        )
        return _Outlines(
            polygons=polygons,
            boxes=_boxes(polygons),
            ids=has_outline + self._groups.starts[group],
            properties=self._properties(table),
        )


def outline_min_zoom(num_footprints: int) -> int:
    """The first zoom at which a dataset's outlines are drawn."""
    return MIN_ZOOM if num_footprints > FEW_FOOTPRINTS else MIN_ZOOM_OF_FEW


def footprint_properties(table: pa.Table) -> Properties:
    """`c`: confidence in steps of 2^-14, and `a`: whole square metres, both rounded down.

    So that a limit in whole square metres and steps keeps in the page what the index counts.
    """
    return {
        "c": confidence_steps(table["confidence"].to_numpy()),
        "a": np.floor(table["area_in_meters"].to_numpy()).astype(np.int64),
    }


def density_tile(
    index: FootprintIndex, z: int, x: int, y: int, min_confidence: float, min_area_m2: float
) -> bytes:
    """The cells that hold footprints as squares.

    Properties: `n` footprints, `c` mean confidence in steps of 2^-14 (on whole percents), `d` the
    density as 100 log10(1 + footprints per square kilometre).
    """
    cells = index.density(z, x, y, min_confidence=min_confidence, min_area_m2=min_area_m2)
    per_km2 = cells.counts / cell_area_km2(z, y)
    percents = np.rint(cells.confidences * 100)
    return encode_polygon_layer(
        "density",
        _squares(cells.cols, cells.rows),
        ids=cells.rows * CELLS_PER_TILE + cells.cols,
        properties={
            "n": cells.counts,
            "c": np.rint(percents / 100 * CONFIDENCE_STEPS).astype(np.int64),
            "d": np.rint(100 * np.log10(1 + per_km2)).astype(np.int64),
        },
        extent=CELLS_PER_TILE,
    )


def _squares(cols: Int64Array, rows: Int64Array) -> PolygonArray:
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    coords = np.stack([cols, rows], axis=1)[:, np.newaxis] + corners
    return PolygonArray(
        coords=coords.reshape(-1, 2).astype(np.float64),
        ring_offsets=np.arange(len(cols) + 1) * len(corners),
        polygon_offsets=np.arange(len(cols) + 1),
    )


def _meets(boxes: Float64Array, low: Float64Array, high: Float64Array) -> npt.NDArray[np.bool_]:
    """Which boxes (x least, y least, x most, y most; shape (4, n)) share a point with another."""
    meets_x = (boxes[0] <= high[0]) & (boxes[2] >= low[0])
    return np.asarray(meets_x & (boxes[1] <= high[1]) & (boxes[3] >= low[1]))


def _boxes(polygons: PolygonArray) -> Float64Array:
    """Bounds of the outlines, shape (4, n); every ring lies within its shell."""
    if len(polygons) == 0:
        return np.zeros((4, 0))
    starts = polygons.ring_offsets[polygons.polygon_offsets[:-1]]
    least = np.minimum.reduceat(polygons.coords, starts, axis=0)
    most = np.maximum.reduceat(polygons.coords, starts, axis=0)
    return np.concatenate([least.T, most.T])


def _in_tile(
    outlines: _Outlines, chosen: Int64Array, corner: Float64Array, num_tiles: float
) -> _Outlines:
    """The chosen outlines in steps of the tile, y downwards."""
    taken = outlines.polygons.take(chosen)
    boxes = outlines.boxes[:, chosen]
    scale = num_tiles * EXTENT
    polygons = PolygonArray(
        coords=taken.coords * scale - corner * EXTENT,
        ring_offsets=taken.ring_offsets,
        polygon_offsets=taken.polygon_offsets,
    )
    limits = boxes * scale - np.tile(corner * EXTENT, 2)[:, np.newaxis]
    is_far = (limits[:2].min(axis=0) < -_REACH) | (limits[2:].max(axis=0) > EXTENT + _REACH)
    kept = np.arange(len(chosen))
    if is_far.any():
        polygons, kept = _cut(polygons, is_far)
    return _Outlines(
        polygons=polygons,
        boxes=boxes[:, kept],
        ids=outlines.ids[chosen[kept]],
        properties={name: column[chosen[kept]] for name, column in outlines.properties.items()},
    )


def _cut(polygons: PolygonArray, is_far: npt.NDArray[np.bool_]) -> tuple[PolygonArray, Int64Array]:
    """Polygons cut to the tile's reach where they are far, and which one each piece is from."""
    shapes = polygons.to_shapely()
    limit = (-_EDGE, -_EDGE, EXTENT + _EDGE, EXTENT + _EDGE)
    shapes[is_far] = shapely.clip_by_rect(shapes[is_far], *limit)
    pieces, source = shapely.get_parts(shapes, return_index=True)
    is_area = (shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(
        pieces
    )
    return PolygonArray.from_shapely(pieces[is_area]), source[is_area]


def _joined(parts: Sequence[PolygonArray]) -> PolygonArray:
    """Several arrays of polygons as one."""
    num_points = np.cumsum([0, *(len(part.coords) for part in parts)])
    num_rings = np.cumsum([0, *(len(part.ring_offsets) - 1 for part in parts)])
    zero = np.zeros(1, np.int64)
    rings = [
        part.ring_offsets[1:] + before for part, before in zip(parts, num_points, strict=False)
    ]
    shells = [
        part.polygon_offsets[1:] + before for part, before in zip(parts, num_rings, strict=False)
    ]
    return PolygonArray(
        coords=np.concatenate([part.coords for part in parts]),
        ring_offsets=np.concatenate([zero, *rings]),
        polygon_offsets=np.concatenate([zero, *shells]),
    )
