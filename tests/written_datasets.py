"""Small finished datasets, written as a run writes them, from outlines that a test draws."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely

from geo.footprints import FOOTPRINT_SCHEMA, PUBLIC_SCHEMA, footprint_table
from geo.geoparquet import write_shard
from geo.grid import Tile, window_bounds_lonlat, zone_of_longitude
from geo.lonlat import snap_polygons
from geo.polygons import PolygonArray
from geo.shards import ShardPlan, count_cells, plan_shards
from pipeline.ledger import LEDGER_NAME, LEDGER_SCHEMA, bbox_column

GSD_MM, TILE_PX = 500, 4096


def footprints_of(
    outlines: Sequence[shapely.Polygon],
    ids: Sequence[str],
    confidence: Sequence[float] | None = None,
    model_id: str = "drawn-00000000",
) -> pa.Table:
    """A table of FOOTPRINT_SCHEMA from outlines in degrees."""
    if len(outlines) == 0:
        return FOOTPRINT_SCHEMA.empty_table()
    polygons, is_usable = snap_polygons(PolygonArray.from_shapely(np.array(outlines, object)))
    assert is_usable.all()
    return footprint_table(
        polygons,
        ids=pa.array(ids, pa.string()),
        confidence=[0.8] * len(ids) if confidence is None else confidence,
        image_ids=["drawn"] * len(ids),
        image_dates=[None] * len(ids),
        model_id=model_id,
    )


def write_dataset(
    out: Path,
    table: pa.Table,
    *,
    max_rows: int = 500_000,
    row_group_rows: int = 10_000,
    bounds: tuple[float, float, float, float] = (32.4, 0.1, 32.8, 0.5),
    statuses: dict[int, str] | None = None,
    model_id: str = "drawn-00000000",
) -> Path:
    """Write a dataset: shards, a ledger of all tiles that meet `bounds`, the manifest last.

    `statuses` names what became of some tiles by their place in the ledger; the others are ok.
    """
    from geo.geoparquet import WriteConfig

    (out / "footprints").mkdir(parents=True)
    shards = []
    cells = table["s2_cell"].to_numpy()
    plan = ShardPlan(plan_shards(*count_cells(cells), max_rows)) if len(table) else None
    which = plan.assign(cells) if plan else np.zeros(0, np.int64)
    for index, shard in enumerate(plan.shards if plan else ()):
        path = f"footprints/s2={shard.token}.parquet"
        rows = table.take(pa.array(np.flatnonzero(which == index)))
        config = WriteConfig(row_group_rows=row_group_rows)
        info = write_shard(out / path, [rows], schema=PUBLIC_SCHEMA, config=config)
        entry = {"path": path, "token": shard.token, "num_rows": info.num_rows}
        shards.append(
            {**entry, "num_bytes": info.num_bytes, "bounds": info.bounds, "sha256": info.sha256}
        )
    tiles = _write_ledger(out, bounds, statuses or {})
    area = float(np.sum(table["area_in_meters"].to_numpy()))
    manifest = {
        "config": {"area_of_interest": None},
        "counts": {"footprints": len(table), "area_m2": area, "shards": len(shards)},
        "gsd_m": GSD_MM / 1000,
        "model": {"model_id": model_id},
        "shards": shards,
        "tiles": tiles,
    }
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def tiles_of(bounds: tuple[float, float, float, float]) -> list[Tile]:
    """All tiles that meet a box in degrees; west above east crosses the antimeridian."""
    west, south, east, north = bounds
    east += 360.0 * (east < west)
    tiles = set()
    for lon in np.arange(west, east + 0.005, 0.005).tolist():
        zone = zone_of_longitude(lon)
        grid = Tile(zone, GSD_MM, TILE_PX, 0, 0).grid
        lats = np.arange(south, north + 0.005, 0.005)
        cols, rows = grid.from_lonlat(np.full(len(lats), (lon + 180.0) % 360.0 - 180.0), lats)
        for col, row in zip(cols // TILE_PX, rows // TILE_PX, strict=True):
            tiles.add(Tile(zone, GSD_MM, TILE_PX, int(row), int(col)))
    return sorted(tiles)


def _write_ledger(out: Path, bounds, statuses: dict[int, str]) -> dict[str, object]:
    tiles = tiles_of(bounds)
    status = [statuses.get(index, "ok") for index in range(len(tiles))]
    polygons = shapely.polygons([window_bounds_lonlat(t.grid, t.window) for t in tiles])
    table = pa.table(
        [
            pa.array([tile.name for tile in tiles]),
            pa.array(status),
            pa.array(["drawn so" if word == "failed" else "" for word in status]),
            pa.array([0] * len(tiles), pa.int64()),
            pa.array([0] * len(tiles), pa.int64()),
            pa.nulls(len(tiles), pa.string()),
            pa.array(shapely.to_wkb(polygons), pa.binary()),
            bbox_column(shapely.bounds(polygons)),
        ],
        schema=LEDGER_SCHEMA,
    )
    info = write_shard(out / LEDGER_NAME, [table], schema=LEDGER_SCHEMA)
    names, counts = np.unique(status, return_counts=True)
    found = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return {"num_tiles": len(tiles), "num_by_status": found, "sha256": info.sha256}
