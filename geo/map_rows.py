"""A map that others made as rows along S2's Hilbert curve, to be joined with footprints.

Features come in any order, CRS and quality; they are repaired, taken apart and sorted on disk, a
batch and a shard at a time, so that an extract of a whole country takes little memory.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

from geo.feature_batches import FeatureBatch
from geo.geoparquet import BBOX_COLUMN, BBOX_FIELDS
from geo.grid import wrap_longitude
from geo.polygons import PolygonArray
from geo.s2cells import s2_leaf_cells
from geo.shards import ShardPlan, count_cells, merge_counts, plan_shards
from geo.sorted_rows import SortedRows
from geo.spherical import polygon_areas_m2

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]
PolygonObjects = npt.NDArray[np.object_]

_POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
MAX_EXTENT_DEG = 0.1
"""Longer polygons are left out: a district is no building, and everything lies around it."""

_MAX_ROWS_PER_FILE = 200_000
_ROW_GROUP_ROWS = 10_000
_LONLAT = pyproj.CRS.from_user_input("OGC:CRS84")

MAP_SCHEMA = pa.schema(
    [
        pa.field("map_id", pa.string(), nullable=False),
        pa.field("area_in_meters", pa.float64(), nullable=False),
        pa.field("latitude", pa.float64(), nullable=False),
        pa.field("longitude", pa.float64(), nullable=False),
        pa.field("geometry", pa.binary(), nullable=False),
        pa.field(
            BBOX_COLUMN,
            pa.struct([pa.field(name, pa.float32(), nullable=False) for name in BBOX_FIELDS]),
            nullable=False,
        ),
    ]
)
"""Columns of a map's rows: single polygons and points in degrees; a point's area is 0."""
_SORTED_SCHEMA = MAP_SCHEMA.append(pa.field("s2_cell", pa.uint64())).append(
    pa.field("number", pa.int64())
)


@dataclass(kw_only=True)
class MapCounts:
    """What a map holds and what was done to it.

    Attributes:
        num_features: features read.
        num_polygons: single polygons in them.
        num_points: points.
        num_repaired: features whose rings crossed themselves.
        num_left_out: features without polygon or point: lines, empty or collapsed ones.
        num_nowhere: features with coordinates that are no place in the CRS.
        num_too_large: polygons longer than `MAX_EXTENT_DEG`, which are no buildings.
        crs: name of the CRS.
    """

    num_features: int = 0
    num_polygons: int = 0
    num_points: int = 0
    num_repaired: int = 0
    num_left_out: int = 0
    num_nowhere: int = 0
    num_too_large: int = 0
    crs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRows:
    """A map, sorted by place.

    Attributes:
        rows: its polygons and points, with the columns of `MAP_SCHEMA`.
        counts: what it held.
    """

    rows: SortedRows
    counts: MapCounts = field(default_factory=MapCounts)


def sort_map(
    batches: Iterable[FeatureBatch],
    folder: Path,
    on_features: Callable[[int], None] = lambda num: None,
) -> MapRows:
    """Sort the features of a map by place, on disk.

    Args:
        batches: the features.
        folder: an empty folder; the rows stay there.
        on_features: called with the number of features so far.
    """
    counts = MapCounts()
    waiting: list[Path] = []
    found: list[tuple[UInt64Array, Int64Array]] = []
    for batch in batches:
        table = _rows_of(batch, counts)
        on_features(counts.num_features)
        if len(table):
            found = [merge_counts([*found, count_cells(table["s2_cell"].to_numpy())])]
            waiting.append(folder / f"waiting_{len(waiting)}.parquet")
            pq.write_table(table, waiting[-1], compression="zstd", compression_level=1)
    files = _sorted_files(folder, waiting, merge_counts(found))
    return MapRows(rows=SortedRows(files, MAP_SCHEMA), counts=counts)


def _sorted_files(
    folder: Path, waiting: list[Path], cells: tuple[UInt64Array, Int64Array]
) -> list[Path]:
    """Rows that wait in any order, as files along the curve."""
    shards = plan_shards(*cells, _MAX_ROWS_PER_FILE)
    if not shards:
        return []
    plan = ShardPlan(shards)
    pieces: list[list[Path]] = [[] for _ in shards]
    for number, path in enumerate(waiting):
        table = pq.read_table(path)
        path.unlink()
        which = plan.assign(table["s2_cell"].to_numpy())
        for index in np.unique(which).tolist():
            piece = folder / f"piece_{index}_{number}.parquet"
            rows = pa.array(np.flatnonzero(which == index))
            pq.write_table(table.take(rows), piece, compression="zstd", compression_level=1)
            pieces[index].append(piece)
    files = []
    for index in range(len(shards)):
        table = pa.concat_tables([pq.read_table(piece) for piece in pieces[index]])
        table = table.sort_by([("s2_cell", "ascending"), ("number", "ascending")])
        files.append(folder / f"sorted_{index}.parquet")
        pq.write_table(table.select(MAP_SCHEMA.names), files[-1], row_group_size=_ROW_GROUP_ROWS)
        for piece in pieces[index]:
            piece.unlink()
    return files


def _rows_of(batch: FeatureBatch, counts: MapCounts) -> pa.Table:
    """Polygons and points of a batch, in degrees; what happened to its features is counted."""
    first = counts.num_features
    counts.num_features += len(batch.wkb)
    counts.crs = batch.crs.name
    shapes = shapely.force_2d(shapely.from_wkb(batch.wkb, on_invalid="ignore"))
    is_broken = np.isin(shapely.get_type_id(shapes), _POLYGONAL) & ~shapely.is_valid(shapes)
    shapes[is_broken] = shapely.make_valid(
        shapes[is_broken], method="structure", keep_collapsed=False
    )
    counts.num_repaired += int(is_broken.sum())
    shapes, is_nowhere = _to_lonlat(shapes, batch.crs)
    counts.num_nowhere += int(is_nowhere.sum())
    parts, row = _parts(shapes)
    counts.num_left_out += len(shapes) - len(np.unique(row)) - int(is_nowhere.sum())
    is_small = _is_small(parts)
    counts.num_too_large += int((~is_small).sum())
    parts, row = parts[is_small], row[is_small]
    is_point = shapely.get_type_id(parts) == shapely.GeometryType.POINT
    counts.num_points += int(is_point.sum())
    counts.num_polygons += len(parts) - int(is_point.sum())
    return _table(parts, is_point, batch.ids.take(pa.array(row)), first + row)


def _is_small(parts: PolygonObjects) -> npt.NDArray[np.bool_]:
    """Which shapes may be buildings by their extent; a degree of longitude counts as it is long."""
    west, south, east, north = shapely.bounds(parts).T
    width = (east - west) * np.cos(np.radians(np.clip((south + north) / 2, -89.0, 89.0)))
    return np.asarray((width <= MAX_EXTENT_DEG) & (north - south <= MAX_EXTENT_DEG))


def _to_lonlat(
    shapes: PolygonObjects, crs: pyproj.CRS
) -> tuple[PolygonObjects, npt.NDArray[np.bool_]]:
    """Geometries in degrees, None where they have no place on the earth, and which those are."""
    coords, index = shapely.get_coordinates(shapes, return_index=True)
    if not crs.equals(_LONLAT):
        transformer = pyproj.Transformer.from_crs(crs, _LONLAT, always_xy=True)
        coords = np.stack(transformer.transform(coords[:, 0], coords[:, 1]), axis=1)
    is_bad = ~(np.isfinite(coords).all(axis=1) & (np.abs(coords[:, 1]) <= 90.0))
    is_bad |= ~(np.abs(coords[:, 0]) <= 540.0)
    is_nowhere = np.zeros(len(shapes), np.bool_)
    is_nowhere[index[is_bad]] = True
    coords[is_nowhere[index]] = 0.0
    moved = shapely.set_coordinates(shapes.copy(), coords)
    moved[is_nowhere] = None
    return moved, is_nowhere


def _parts(shapes: PolygonObjects) -> tuple[PolygonObjects, Int64Array]:
    """Every polygon with an area and every point in shapes of any kind, and its shape's row."""
    parts, row = shapely.get_parts(shapes, return_index=True)
    # Collections may hold multipolygons: a second turn takes those apart too.
    parts, again = shapely.get_parts(parts, return_index=True)
    kinds = shapely.get_type_id(parts)
    is_polygon = (kinds == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    is_point = (kinds == shapely.GeometryType.POINT) & ~shapely.is_empty(parts)
    keep = is_polygon | is_point
    return parts[keep], row[again][keep].astype(np.int64)


def _table(
    parts: PolygonObjects, is_point: npt.NDArray[np.bool_], ids: pa.Array, number: Int64Array
) -> pa.Table:
    centre = shapely.get_coordinates(shapely.centroid(parts))
    turn = wrap_longitude(centre[:, 0]) - centre[:, 0]
    if turn.any():
        coords, index = shapely.get_coordinates(parts, return_index=True)
        coords[:, 0] += np.rint(turn)[index]
        parts = shapely.set_coordinates(parts.copy(), coords)
    parts = parts.copy()
    parts[~is_point] = shapely.orient_polygons(parts[~is_point])
    area = np.zeros(len(parts))
    area[~is_point] = polygon_areas_m2(PolygonArray.from_shapely(parts[~is_point]))
    lon, lat = wrap_longitude(centre[:, 0]), centre[:, 1]
    columns = {
        "map_id": ids,
        "area_in_meters": pa.array(area),
        "latitude": pa.array(lat),
        "longitude": pa.array(lon),
        "geometry": pa.array(shapely.to_wkb(parts), pa.binary()),
        BBOX_COLUMN: _bbox_column(shapely.bounds(parts)),
        "s2_cell": pa.array(s2_leaf_cells(lat, lon)),
        "number": pa.array(number),
    }
    return pa.table([columns[name] for name in _SORTED_SCHEMA.names], schema=_SORTED_SCHEMA)


def _bbox_column(bounds: Float64Array) -> pa.StructArray:
    """Bounds as float32, each side moved outwards."""
    sides = bounds.T.astype(np.float32)
    outwards = np.array([[-np.inf], [-np.inf], [np.inf], [np.inf]], np.float32)
    sides = np.nextafter(sides, outwards)
    kind = MAP_SCHEMA.field(BBOX_COLUMN).type
    return pa.StructArray.from_arrays([pa.array(side) for side in sides], fields=list(kind))


def as_record(counts: MapCounts) -> dict[str, int | str]:
    """The counts as plain values."""
    return dataclasses.asdict(counts)
