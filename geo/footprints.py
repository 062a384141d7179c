"""The footprint table: columns of Open Buildings, with provenance.

Everything that follows from a polygon is computed from the polygon as stored, and the Plus Code and
the S2 cell from the centroid as stored, so that a reader who computes them again finds the same.

Numbers are kept on binary steps that still round to the published number of decimals (8 for the
centroid, 4 for area and confidence): nothing is lost at that precision, and the low bytes, all
zeros, cost next to nothing in a compressed file (1e-8 degrees as decimals would take twice the
bytes).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from geo.errors import GeometryError
from geo.footprint_ids import footprint_ids
from geo.lonlat import COORDINATE_STEP_DEG, snap_polygons, to_lonlat
from geo.pluscodes import encode_plus_codes, plus_codes_to_arrow
from geo.polygons import PolygonArray
from geo.s2cells import s2_leaf_cells
from geo.spherical import polygon_areas_m2, polygon_centroids
from geo.wkb import polygons_from_wkb, polygons_to_wkb

__all__ = [
    "CENTROID_STEP_DEG",
    "COORDINATE_STEP_DEG",
    "FOOTPRINT_SCHEMA",
    "PUBLIC_SCHEMA",
    "FilterConfig",
    "GeometryColumns",
    "calibrate",
    "filter_footprints",
    "footprint_ids",
    "footprint_table",
    "geometry_columns",
    "polygons_from_wkb",
    "polygons_to_wkb",
    "snap_polygons",
    "to_lonlat",
    "with_geometry",
]

Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

CENTROID_STEP_DEG = 2.0**-27
"""Step of latitude and longitude: fine enough to tell the multiples of 1e-8 degrees apart."""

_CENTROID_DECIMALS = 8
# Area and confidence: fine enough for 4 decimals.
_VALUE_STEP, _VALUE_DECIMALS = 2.0**-14, 4

_BBOX_TYPE = pa.struct(
    [pa.field(name, pa.float32(), nullable=False) for name in ("xmin", "ymin", "xmax", "ymax")]
)

PUBLIC_SCHEMA = pa.schema(
    [
        pa.field("latitude", pa.float64(), nullable=False),
        pa.field("longitude", pa.float64(), nullable=False),
        pa.field("area_in_meters", pa.float64(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        pa.field("geometry", pa.binary(), nullable=False),
        pa.field("full_plus_code", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("bbox", _BBOX_TYPE, nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("image_date", pa.date32(), nullable=True),
        pa.field("model_id", pa.string(), nullable=False),
    ]
)
"""Columns of a published shard, in order."""

FOOTPRINT_SCHEMA = PUBLIC_SCHEMA.append(pa.field("s2_cell", pa.uint64(), nullable=False))
"""Columns of the tables inside a run: with the S2 leaf cell of the stored centroid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometryColumns:
    """The columns that follow from the polygons alone, as Arrow arrays of one length.

    Attributes:
        latitude: centroid in degrees, float64, a multiple of `CENTROID_STEP_DEG`.
        longitude: the same; in [-180, 180).
        area_in_meters: area on the S2 sphere in square metres, float64.
        geometry: WKB, lying around the centroid (longitudes slightly beyond +-180 occur).
        full_plus_code: 12 digits, of the stored centroid.
        bbox: bounds of the geometry as float32, rounded outwards.
        s2_cell: leaf cell of the stored centroid, uint64.
    """

    latitude: pa.DoubleArray
    longitude: pa.DoubleArray
    area_in_meters: pa.DoubleArray
    geometry: pa.BinaryArray
    full_plus_code: pa.StringArray
    bbox: pa.StructArray
    s2_cell: pa.UInt64Array


def geometry_columns(polygons: PolygonArray) -> GeometryColumns:
    """All columns that follow from the polygons.

    Args:
        polygons: longitude and latitude in degrees, each without a jump at the antimeridian. They
            are stored as they are, apart from whole turns: the centroid is wrapped into [-180, 180)
            and the polygon goes with it.

    Raises:
        GeometryError: if a polygon has no area, or lies beyond a pole.
    """
    centroids = _stored(polygon_centroids(polygons), _CENTROID_DECIMALS, CENTROID_STEP_DEG)
    turns = np.floor((centroids[:, 0] + 180.0) / 360.0)
    if turns.any():
        polygons = _turned(polygons, turns)
    lon, lat = centroids[:, 0] - 360.0 * turns, np.ascontiguousarray(centroids[:, 1])
    area = _stored(polygon_areas_m2(polygons), _VALUE_DECIMALS, _VALUE_STEP)
    return GeometryColumns(
        latitude=_as_arrow(lat, pa.float64()),
        longitude=_as_arrow(lon, pa.float64()),
        area_in_meters=_as_arrow(area, pa.float64()),
        geometry=polygons_to_wkb(polygons),
        full_plus_code=plus_codes_to_arrow(encode_plus_codes(lat, lon)),
        bbox=_bbox_column(polygons),
        s2_cell=_as_arrow(s2_leaf_cells(lat, lon), pa.uint64()),
    )


def footprint_table(
    polygons_lonlat: PolygonArray,
    *,
    ids: pa.StringArray,
    confidence: npt.ArrayLike,
    image_ids: pa.StringArray | Sequence[str],
    image_dates: pa.Date32Array | Sequence[object],
    model_id: str,
) -> pa.Table:
    """Footprints as a table of `FOOTPRINT_SCHEMA`.

    Args:
        polygons_lonlat: usable polygons on the lattice (see `to_lonlat`).
        ids: identifier of each (see `footprint_ids`).
        confidence: each in [0, 1], calibrated; stored to 4 decimals.
        image_ids: the image that most of each building was seen in.
        image_dates: that image's date, or null.
        model_id: the model bundle, the same for all rows.

    Raises:
        ValueError: if lengths differ or a confidence is out of range.
        GeometryError: if a polygon has no area, or lies beyond a pole.
    """
    num = len(polygons_lonlat)
    score = np.asarray(confidence, np.float64)
    _check_confidence(score)
    named = {
        "confidence": _as_arrow(_stored(score, _VALUE_DECIMALS, _VALUE_STEP), pa.float64()),
        "id": _column(ids, pa.string()),
        "image_id": _column(image_ids, pa.string()),
        "image_date": _column(image_dates, pa.date32()),
        "model_id": pa.repeat(pa.scalar(model_id, pa.string()), num),
    }
    for name, column in named.items():
        if len(column) != num:
            raise ValueError(f"{len(column)} values of {name} for {num} polygons")
    return _assemble(geometry_columns(polygons_lonlat), named)


def with_geometry(table: pa.Table, polygons_lonlat: PolygonArray) -> pa.Table:
    """The table with other polygons: all columns that follow from them are computed again.

    Args:
        table: rows of `FOOTPRINT_SCHEMA`.
        polygons_lonlat: one usable polygon a row, on the lattice (see `snap_polygons`).

    Raises:
        ValueError: if there is not one polygon a row.
        GeometryError: if a polygon has no area, or lies beyond a pole.
    """
    if len(polygons_lonlat) != len(table):
        raise ValueError(f"{len(polygons_lonlat)} polygons for {len(table)} rows")
    kept = {name: table[name] for name in table.column_names}
    return _assemble(geometry_columns(polygons_lonlat), kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """Which footprints are delivered."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    min_area_m2: float = 4.0
    """Smaller footprints are dropped; at least 0, which keeps all."""

    max_area_m2: float | None = None
    """Larger footprints are dropped; above `min_area_m2`, or null for no limit."""

    min_confidence: float = 0.0
    """Footprints of less confidence are dropped; 0 to 1."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 <= self.min_area_m2 < np.inf:
            raise ValueError(f"min_area_m2 = {self.min_area_m2}: expected a number of at least 0")
        if self.max_area_m2 is not None and not self.max_area_m2 > self.min_area_m2:
            raise ValueError(
                f"max_area_m2 = {self.max_area_m2}: expected more than min_area_m2 = "
                f"{self.min_area_m2}, or null"
            )
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(
                f"min_confidence = {self.min_confidence}: expected a number from 0 to 1"
            )


def filter_footprints(table: pa.Table, config: FilterConfig) -> tuple[pa.Table, dict[str, int]]:
    """Drop footprints that are too small, too large or too uncertain.

    Args:
        table: rows with `area_in_meters` and `confidence`.
        config: the limits, compared with the stored values, so that a query finds the same.

    Returns:
        The rows kept, in their order, and how many were dropped, each counted once under the first
        reason that fits: `dropped_small`, `dropped_large`, `dropped_uncertain`.
    """
    area = table["area_in_meters"].to_numpy()
    is_small = area < config.min_area_m2
    is_large = area > (np.inf if config.max_area_m2 is None else config.max_area_m2)
    is_uncertain = table["confidence"].to_numpy() < config.min_confidence
    is_kept = ~(is_small | is_large | is_uncertain)
    counts = {
        "dropped_small": int(is_small.sum()),
        "dropped_large": int(is_large.sum()),
        "dropped_uncertain": int((is_uncertain & ~is_small & ~is_large).sum()),
    }
    return (table if is_kept.all() else table.filter(pa.array(is_kept))), counts


def calibrate(
    confidence: npt.ArrayLike, points: Sequence[tuple[float, float]] | None
) -> Float64Array:
    """Confidences through a piecewise linear, never falling curve.

    Args:
        confidence: raw confidences in [0, 1].
        points: knots (raw, calibrated) of the model bundle, raw ones rising; before the first and
            after the last knot the curve is level. None or empty: not calibrated, returned as is.

    Returns:
        float64, the shape of the input.

    Raises:
        ValueError: if a knot or a confidence is out of range, or the knots do not rise.
    """
    score = np.asarray(confidence, np.float64)
    _check_confidence(score)
    if points is None or len(points) == 0:
        return score
    knots = np.asarray(points, np.float64)
    if knots.ndim != 2 or knots.shape[1] != 2:
        raise ValueError(f"calibration points = {points}: expected pairs (raw, calibrated)")
    if not ((knots >= 0.0) & (knots <= 1.0)).all():
        raise ValueError(f"calibration points = {points}: expected numbers from 0 to 1")
    steps = np.diff(knots, axis=0)
    if not ((steps[:, 0] > 0.0) & (steps[:, 1] >= 0.0)).all():
        raise ValueError(
            f"calibration points = {points}: expected raw values that rise and calibrated "
            "ones that never fall"
        )
    return np.interp(score, knots[:, 0], knots[:, 1])


def _check_confidence(score: Float64Array) -> None:
    is_good = (score >= 0.0) & (score <= 1.0)
    if not is_good.all():
        row = int(np.flatnonzero(~is_good)[0])
        raise ValueError(
            f"confidence {score.flat[row]} of row {row}: expected a number from 0 to 1"
        )


def _stored(values: Float64Array, decimals: int, step: float) -> Float64Array:
    """The multiples of a step that round to the same decimals as the values.

    It exists and is the nearest one wherever the step is below one unit of the last decimal.
    """
    return np.asarray(np.rint(np.round(values, decimals) / step) * step)


def _turned(polygons: PolygonArray, turns: Float64Array) -> PolygonArray:
    """Polygons moved west by whole turns; exact on the lattice."""
    points_before = polygons.ring_offsets[polygons.polygon_offsets]
    coords = polygons.coords.copy()
    coords[:, 0] -= 360.0 * np.repeat(turns, np.diff(points_before))
    return PolygonArray(
        coords=coords, ring_offsets=polygons.ring_offsets, polygon_offsets=polygons.polygon_offsets
    )


def _bbox_column(polygons: PolygonArray) -> pa.StructArray:
    """Bounds as float32, each side moved outwards to the next float32 that holds it."""
    exact = _bounds(polygons.coords, polygons.ring_offsets, polygons.polygon_offsets)
    sides = exact.astype(np.float32)
    outwards = np.array([[-np.inf], [-np.inf], [np.inf], [np.inf]], np.float32)
    is_inside = np.concatenate([sides[:2] > exact[:2], sides[2:] < exact[2:]])
    sides = np.where(is_inside, np.nextafter(sides, outwards), sides)
    children = [_as_arrow(side, pa.float32()) for side in sides]
    return pa.StructArray.from_arrays(children, fields=list(_BBOX_TYPE))


def _as_arrow(values: npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    """An Arrow array on the memory of a contiguous numpy array."""
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(values), [None, buffer])


def _column(values: pa.Array | Sequence[object], kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _assemble(geometry: GeometryColumns, named: dict[str, pa.Array]) -> pa.Table:
    """The table from both kinds of columns; those of the geometry take precedence."""
    derived = {field.name for field in dataclasses.fields(GeometryColumns)}
    columns = [
        getattr(geometry, name) if name in derived else named[name]
        for name in FOOTPRINT_SCHEMA.names
    ]
    for field, column in zip(FOOTPRINT_SCHEMA, columns, strict=True):
        if column.null_count and not field.nullable:
            row = int(pc.index(pc.is_null(column), True).as_py())
            raise GeometryError(f"row {row} has no {field.name}")
    return pa.Table.from_arrays(columns, schema=FOOTPRINT_SCHEMA)


@numba.njit(cache=True, nogil=True)
def _bounds(
    coords: Float64Array, ring_offsets: Int64Array, polygon_offsets: Int64Array
) -> Float64Array:
    """West, south, east and north of each polygon's shell; shape (4, n)."""
    bounds = np.empty((4, len(polygon_offsets) - 1))
    for i in range(bounds.shape[1]):
        shell = polygon_offsets[i]
        west, south, east, north = np.inf, np.inf, -np.inf, -np.inf
        for k in range(ring_offsets[shell], ring_offsets[shell + 1]):
            x, y = coords[k, 0], coords[k, 1]
            west, east = min(west, x), max(east, x)
            south, north = min(south, y), max(north, y)
        bounds[0, i], bounds[1, i], bounds[2, i], bounds[3, i] = west, south, east, north
    return bounds
