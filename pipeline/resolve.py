"""ResolveOverlaps: slivers between neighbours and twins across zones, tile by tile with context.

A tile's footprints are judged together with those of the tiles around it (read from the store, also
of the neighbouring UTM zone), so that both sides of every edge decide alike.
"""

import functools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from geo.grid import METRES_PER_DEGREE, NUM_ZONES, unwrap_longitude
from geo.object_path import ObjectPath
from geo.overlap import resolve_overlaps
from geo.places import Place
from geo.shards import count_cells
from pipeline.counters import count, note_element
from pipeline.cover import Cover
from pipeline.finish import work_name
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import (
    MissingTableError,
    TileStore,
    read_facts,
    read_table,
    write_table,
)

STAGE = "ResolveOverlaps"
MAX_KEPT_TABLES = 32
"""Finished tables that a worker keeps in memory."""
MAX_KEPT_BOUNDS = 1 << 14
"""Those of which it keeps the bounds, or that there is none."""
CHAIN_LENGTH = 3
"""Largest buildings in a row that are looked at beside a zone's edge: twins decide in chains."""
CellCounts = list[tuple[int, int]]
"""(S2 cell, number of footprints) pairs: plain integers are small in a shuffle."""


class ResolveOverlaps(beam.PTransform):
    """Finished tables to final ones.

    Element in: a tile key; `finished` is a side input that ends when every table is written.
    Element out: (tile key, counts of footprints per S2 cell). Counted: trimmed and dropped
    footprints. Retries are safe: tables are rewritten whole.
    """

    def __init__(self, spec: JobSpec, finished: Any) -> None:
        super().__init__()
        self._spec = spec
        self._finished = finished

    def expand(self, keys: Any) -> Any:
        """Wire the transform."""
        return keys | "ResolveTile" >> beam.ParDo(_ResolveDoFn(self._spec), finished=self._finished)


class _ResolveDoFn(beam.DoFn):
    """Resolves the overlaps of one tile's footprints."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._store = TileStore(self._spec.store_path)
        self._cover = Cover(self._spec)
        self._finished = _FinishedTables(self._store, self._spec.run_token)
        self._journal = self._store.journal(self._spec.run_token)

    def process(
        self, key: TileKey, finished: Iterable[None]
    ) -> Iterable[tuple[TileKey, CellCounts]]:
        begin = time.perf_counter()
        table, facts = self._finished.load(key)
        context = self._context(key, table, facts["bounds"])
        result = resolve_overlaps(table, context, self._spec.config.overlap)
        final = self._inside_aoi(result.table)
        count(STAGE, "trimmed", result.num_trimmed)
        count(STAGE, "dropped-twins", result.num_dropped_twins)
        count(STAGE, "dropped-small", result.num_dropped_small)
        count(STAGE, "dropped-parts", result.num_dropped_parts)
        note_element(
            self._journal,
            STAGE,
            begin,
            trimmed=result.num_trimmed,
            dropped={
                "twin": result.num_dropped_twins,
                "covered": result.num_dropped_small,
                "parts": result.num_dropped_parts,
                "outside-aoi": len(result.table) - len(final),
            },
        )
        if len(final):
            path = self._store.work_path(self._spec.run_token, "resolved", work_name(key))
            write_table(path, final, is_rewritten=True)
            cells, counts = count_cells(final["s2_cell"].to_numpy())
            yield key, list(zip(cells.tolist(), counts.tolist(), strict=True))

    def finish_bundle(self) -> None:
        self._journal.flush()

    def _inside_aoi(self, table: pa.Table) -> pa.Table:
        if self._spec.aoi_wkb is None:
            return table
        lon, lat = table["longitude"].to_numpy(), table["latitude"].to_numpy()
        return table.filter(pa.array(self._cover.is_inside_aoi(lon, lat)))

    def _context(self, key: TileKey, own: pa.Table, bounds: list[float]) -> pa.Table:
        wide = _widened(bounds, CHAIN_LENGTH * self._spec.config.grid.max_building_m)
        parts = self._rows_of(neighbours_beyond(self._spec, key), wide)
        if parts:
            # Twins decide in chains (A loses to B, which loses to C): see the whole chain.
            parts += self._rows_of(neighbours_within(self._spec, key, CHAIN_LENGTH), wide)
        else:
            parts = self._rows_of(neighbours_within(self._spec, key), bounds)
        return pa.concat_tables(parts) if parts else own.slice(0, 0)

    def _rows_of(self, keys: Iterable[TileKey], bounds: list[float]) -> list[pa.Table]:
        """Rows of tiles' finished tables that meet the bounds; tables that do not are not read."""
        return [rows for key in keys for rows in self._finished.meeting(key, bounds)]


class _FinishedTables:
    """Finished tables as one worker sees them during one run.

    They do not change once this stage begins, and each is asked for by all tiles around it: bounds
    are kept of many, rows of the last few.
    """

    def __init__(self, store: TileStore, run_token: str) -> None:
        self._store, self._run_token = store, run_token
        self.load = functools.lru_cache(maxsize=MAX_KEPT_TABLES)(self._load)
        self._bounds = functools.lru_cache(maxsize=MAX_KEPT_BOUNDS)(self._read_bounds)

    def meeting(self, key: TileKey, bounds: list[float]) -> list[pa.Table]:
        """The rows of a tile's table that meet the bounds, if there are any."""
        found = self._bounds(key)
        if found is None or not _meet(bounds, found):
            return []
        return [_rows_within(self.load(key)[0], bounds)]

    def _path(self, key: TileKey) -> Place:
        return self._store.work_path(self._run_token, "finished", work_name(key))

    def _load(self, key: TileKey) -> tuple[pa.Table, dict[str, Any]]:
        return read_table(self._path(key))

    def _read_bounds(self, key: TileKey) -> list[float] | None:
        try:
            # Of a bucket a table is one request, whether its rows are wanted or not.
            is_remote = isinstance(self._store.root, ObjectPath)
            facts = self.load(key)[1] if is_remote else read_facts(self._path(key))
        except MissingTableError:
            return None
        return list(facts["bounds"])


def neighbours_within(spec: JobSpec, key: TileKey, num_buildings: int = 1) -> Iterator[TileKey]:
    """Tiles of the same zone whose footprints can reach those of a tile.

    A footprint belongs to the tile of its first pixel and reaches at most one largest building
    beyond it; so do those of the others.

    Args:
        spec: the job.
        key: the tile; not among its neighbours.
        num_buildings: how many of the largest buildings in a row the reach is.
    """
    zone, row, col = key
    reach = num_buildings * -(-spec.max_extent_px // spec.tile_px)
    for d_row in range(-reach, reach + 1):
        for d_col in range(-reach, reach + 1):
            if d_row or d_col:
                yield zone, row + d_row, col + d_col


def neighbours_beyond(spec: JobSpec, key: TileKey) -> Iterator[TileKey]:
    """Tiles of the next zones whose footprints may decide about those of a tile, in chains."""
    reach = CHAIN_LENGTH * -(-spec.max_extent_px // spec.tile_px)
    for other in (key[0] - 1, key[0] + 1):
        yield from _in_zone(spec, key, (other - 1) % NUM_ZONES + 1, reach)


def _in_zone(spec: JobSpec, key: TileKey, other: int, reach: int) -> Iterator[TileKey]:
    zone, row, col = key
    grid, target = spec.grid(zone), spec.grid(other)
    size, margin = spec.tile_px, reach * spec.tile_px
    t = np.linspace(0.0, 1.0, 5)
    u, v = np.meshgrid(t, t)
    cols = col * size - margin + u.ravel() * (size + 2 * margin)
    rows = row * size - margin + v.ravel() * (size + 2 * margin)
    lon, lat = grid.to_lonlat(cols, rows)
    lon = unwrap_longitude(lon, target.central_meridian_deg)
    overlap = (
        spec.config.grid.max_building_m
        * 2
        / (METRES_PER_DEGREE * np.cos(np.radians(np.abs(lat).max())))
    )
    if np.abs(lon - target.central_meridian_deg).min() > 3.0 + overlap:
        return
    other_cols, other_rows = target.from_lonlat(lon, lat)
    first, last = np.floor(other_rows.min() / size), np.floor(other_rows.max() / size)
    west, east = np.floor(other_cols.min() / size), np.floor(other_cols.max() / size)
    for other_row in range(int(first), int(last) + 1):
        for other_col in range(int(west), int(east) + 1):
            yield other, other_row, other_col


def _metres_per_degree(latitude_deg: float) -> float:
    return float(METRES_PER_DEGREE * np.cos(np.radians(min(latitude_deg, 84.0))))


def _widened(bounds: list[float], reach_m: float) -> list[float]:
    lat_deg = reach_m / METRES_PER_DEGREE
    lon_deg = reach_m / _metres_per_degree(max(abs(bounds[1]), abs(bounds[3])))
    west, south, east, north = bounds
    return [west - lon_deg, south - lat_deg, east + lon_deg, north + lat_deg]


def _meet(a: list[float], b: list[float]) -> bool:
    # Longitudes may differ by a whole turn on the two sides of the antimeridian.
    shift = 360.0 * round((a[0] - b[0]) / 360.0)
    return a[0] <= b[2] + shift and b[0] + shift <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _rows_within(table: pa.Table, bounds: list[float]) -> pa.Table:
    bbox = table["bbox"].combine_chunks()
    xmin, xmax = bbox.field("xmin").to_numpy(), bbox.field("xmax").to_numpy()
    ymin, ymax = bbox.field("ymin").to_numpy(), bbox.field("ymax").to_numpy()
    shift = 360.0 * np.round((bounds[0] - xmin) / 360.0)
    inside = (xmin + shift <= bounds[2]) & (xmax + shift >= bounds[0])
    return table.filter(pa.array(inside & (ymin <= bounds[3]) & (ymax >= bounds[1])))
