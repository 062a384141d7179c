"""What is known of one building or tile: for a click, and for a search by id."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from shapely import Polygon

from geo.errors import GridError
from geo.footprint_index import FootprintIndex
from geo.grid import WorldGrid
from pipeline.viewer.row_groups import RowGroups

LEDGER_COLUMNS = ("tile", "status", "reason", "num_instances", "num_windows_left_out")
_LATE_COLUMNS = {"num_windows_left_out": 0}
"""Columns that ledgers of earlier versions lack, and what holds there."""
_FOOTPRINT_COLUMNS = (
    "id",
    "longitude",
    "latitude",
    "area_in_meters",
    "confidence",
    "full_plus_code",
    "image_id",
    "image_date",
    "model_id",
    "geometry",
)
_ID = re.compile(r"z(\d{2})_g(\d{1,5})mm_r(-?\d{1,10})_c(-?\d{1,10})")
# An id names the first pixel of a building, which is no farther than the longest building (2 km).
_NEAR_DEG = 0.02


def footprint_record(groups: RowGroups, row: int) -> dict[str, Any]:
    """A footprint as plain values for JSON: its columns, and its outline as GeoJSON.

    Raises:
        IndexError: if there is no such row.
        DatasetError: if its file cannot be read.
    """
    group, at = groups.group_of(row)
    record = groups.read(group, _FOOTPRINT_COLUMNS).slice(at, 1).to_pylist()[0]
    return {"row": row, **as_json(record)}


def as_json(record: dict[str, Any]) -> dict[str, Any]:
    """A row of a shard as plain values: the date as text, the outline as GeoJSON."""
    date = record["image_date"]
    return {
        "id": record["id"],
        "lon": record["longitude"],
        "lat": record["latitude"],
        "area_m2": record["area_in_meters"],
        "confidence": record["confidence"],
        "plus_code": record["full_plus_code"],
        "image": record["image_id"],
        "date": None if date is None else date.isoformat(),
        "model": record["model_id"],
        "outline": shapely.geometry.mapping(shapely.from_wkb(record["geometry"])),
    }


def find_row(groups: RowGroups, index: FootprintIndex, footprint_id: str) -> int | None:
    """The row of a footprint by its id; only row groups near the place that it names are read.

    Args:
        groups: of all shards.
        index: of all footprints; what it has not read yet is not found.
        footprint_id: such as z36_g300mm_r-110234_c1666012.

    Returns:
        None if the text is no id, or nothing has it.
    """
    point = place_of_id(footprint_id)
    if point is None:
        return None
    for group in index.near(*point, _NEAR_DEG).tolist():
        ids = groups.read(group, ["id"])["id"]
        at = pc.index(ids, footprint_id).as_py()
        if at >= 0:
            return int(groups.starts[group]) + int(at)
    return None


def place_of_id(footprint_id: str) -> tuple[float, float] | None:
    """Longitude and latitude of the pixel that an id names; None if the text is no id."""
    match = _ID.fullmatch(footprint_id)
    if match is None:
        return None
    zone, gsd_mm, row, col = (int(part) for part in match.groups())
    try:
        grid = WorldGrid(zone, gsd_mm)
    except GridError:
        return None
    lon, lat = (float(value) for value in grid.to_lonlat(col + 0.5, row + 0.5))
    return (lon, lat) if np.isfinite([lon, lat]).all() else None


def tile_record(groups: RowGroups, row: int) -> dict[str, Any]:
    """A tile of the ledger as plain values.

    Raises:
        IndexError: if there is no such row.
        DatasetError: if the ledger cannot be read.
    """
    group, at = groups.group_of(row)
    return _records(groups.read(group, _columns(groups)).slice(at, 1))[0]


def outlined_tiles(groups: RowGroups, group: int) -> list[tuple[dict[str, Any], Polygon]]:
    """The tiles of one row group of the ledger, as plain values, and their outlines.

    Without the rows of images that could not be opened, which have no outline.

    Raises:
        DatasetError: if the ledger cannot be read.
    """
    table = groups.read(group, [*_columns(groups), "geometry"])
    table = table.filter(table["geometry"].is_valid())
    outlines = shapely.from_wkb(table["geometry"].to_numpy())
    records = _records(table.drop_columns("geometry"))
    return list(zip(records, outlines, strict=True))


def _columns(groups: RowGroups) -> list[str]:
    """Those of `LEDGER_COLUMNS` that a ledger has."""
    return [name for name in LEDGER_COLUMNS if name in groups.column_names]


def _records(table: pa.Table) -> list[dict[str, Any]]:
    return [{**_LATE_COLUMNS, **record} for record in table.to_pylist()]
