"""Comparing two finished datasets: reading them, writing the change log and the page."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from geo.atomic_files import write_atomically
from geo.change import ChangeConfig
from geo.conditions import Condition
from geo.covered_ground import SEEN, CoveredGround, read_covered_ground
from geo.dataset import Dataset, open_dataset
from geo.dataset_changes import CHANGE_SCHEMA, compared_schema, find_changes
from geo.errors import DatasetError, EveryroofError
from geo.places import Place
from geo.query import Query, conditions_of
from geo.references import read_area
from geo.sorted_rows import SortedRows, bounds_of
from geo.streamed_tables import write_streamed
from pipeline.change_stats import ChangeStats
from pipeline.fetch import local_copy
from pipeline.map_grid import MapGrid, side_by_side

TILES_NAME, IMAGES_NAME = "tiles.parquet", "images.parquet"
_MAP_CELLS = 40
# Points of each cell of the map, per side, that are asked whether they were seen.
_SAMPLES = 4
_NOWHERE = (-180.0, -80.0, 180.0, 84.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedSide:
    """One of the two datasets, opened.

    Attributes:
        dataset: what its manifest says.
        conditions: what its wanted footprints fulfil.
        rows: its footprints by place.
        ground: what its run has seen.
        notes: what could not be taken into account, in words.
    """

    dataset: Dataset
    conditions: tuple[Condition, ...]
    rows: SortedRows
    ground: CoveredGround
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two datasets and what became of the buildings.

    Attributes:
        old: the earlier one.
        new: the later one.
        config: what counted as the same building.
        query: which buildings are told of.
        stats: counts, areas, maps.
        seen: share of each cell of the map that both have seen, only OLD, only NEW; float64, shape
            (3, rows, cols).
        notes: what a reader must know, in words.
    """

    old: ComparedSide
    new: ComparedSide
    config: ChangeConfig
    query: Query
    stats: ChangeStats
    seen: np.ndarray[Any, np.dtype[np.float64]]
    notes: tuple[str, ...]


def compare_datasets(
    old: str,
    new: str,
    *,
    log_path: Place | None,
    config: ChangeConfig,
    query: Query,
    on_rows: Callable[[str, int, int], None] = lambda stage, done, total: None,
    with_unchanged: bool = True,
) -> Comparison:
    """Compare two datasets and write the change log.

    Args:
        old: output folder of the earlier run.
        new: output folder of the later one.
        log_path: the change log to write; None for none.
        config: what counts as the same building.
        query: which buildings are told of; of a pair, either of the two.
        on_rows: called as it goes with what is being done, the rows done and all rows.
        with_unchanged: whether the log holds unchanged buildings too.

    Raises:
        DatasetError: if either is no finished dataset, is damaged, or they lie apart.
    """
    sides = [
        open_side(out, query, functools.partial(on_rows, f"reading {word}"))
        for out, word in ((old, "OLD"), (new, "NEW"))
    ]
    grid = _map_grid(sides[0], sides[1], query)
    stats = ChangeStats(grid)
    changes = find_changes(
        sides[0].rows,
        sides[1].rows,
        ground_old=sides[0].ground,
        ground_new=sides[1].ground,
        config=config,
        wanted=(sides[0].conditions, sides[1].conditions),
        on_rows=lambda done, total: on_rows("comparing", done, total),
    )
    counted = _counted(changes, stats)
    if log_path is None:
        for _ in counted:
            pass
    else:
        written = (log if with_unchanged else _without_unchanged(log) for log in counted)
        write_streamed(log_path, written, schema=CHANGE_SCHEMA)
    return Comparison(
        old=sides[0],
        new=sides[1],
        config=config,
        query=query,
        stats=stats,
        seen=_seen_shares(grid, sides[0].ground, sides[1].ground),
        notes=_notes(*sides),
    )


def open_side(
    out: str, query: Query, on_rows: Callable[[int, int], None] = lambda done, total: None
) -> ComparedSide:
    """Open a dataset for comparing.

    Args:
        out: its output folder.
        query: which buildings are wanted.
        on_rows: called as it goes with the rows read and all rows.

    Raises:
        DatasetError: if it is no finished dataset, or one of its files is missing or damaged.
    """
    dataset = open_dataset(out)
    area, note = _area_of_interest(dataset)
    images = dataset.place_in(IMAGES_NAME)
    has_images = "images_file" in dataset.manifest
    conditions = tuple(conditions_of(dataset, query))
    sources = [dataset.place_of(shard) for shard in dataset.shards]
    return ComparedSide(
        dataset=dataset,
        conditions=conditions,
        rows=SortedRows(
            sources,
            compared_schema(conditions),
            conditions,
            lambda done: on_rows(done, dataset.num_footprints),
        ),
        ground=read_covered_ground(
            dataset.place_in(TILES_NAME), images if has_images else None, area
        ),
        notes=(note,) if note else (),
    )


def write_page(path: Place, comparison: Comparison) -> None:
    """Write the page with the tables and the maps of a comparison."""
    from pipeline.change_page import render_changes

    write_atomically(path, render_changes(comparison))


def _area_of_interest(dataset: Dataset) -> tuple[shapely.Geometry | None, str]:
    """The area that the run was bounded to, or what to say where it cannot be read."""
    name = dataset.manifest.get("config", {}).get("area_of_interest")
    if name is None:
        return None, ""
    try:
        return read_area(local_copy(name)), ""
    except (EveryroofError, OSError) as error:
        return None, (
            f"{dataset.name} was made within {name}, which cannot be read here ({error}): "
            "buildings beyond it are told as added or removed"
        )


def _map_grid(old: ComparedSide, new: ComparedSide, query: Query) -> MapGrid:
    """A grid over all buildings of both, or over the box that is asked for.

    Raises:
        DatasetError: if both hold buildings and their places have nothing in common.
    """
    boxes = np.concatenate([old.rows.bounds, new.rows.bounds])
    if query.bbox is not None and query.bbox[0] < query.bbox[2]:
        return MapGrid.over(query.bbox, _MAP_CELLS)
    if len(boxes) == 0:
        return MapGrid.over(_NOWHERE, _MAP_CELLS)
    beside = side_by_side(boxes)
    parts = [bounds_of(beside[: len(old.rows.bounds)]), bounds_of(beside[len(old.rows.bounds) :])]
    first, second = parts
    if first is not None and second is not None and not _overlap(first, second):
        raise DatasetError(
            f"the two datasets lie apart: {old.dataset.name} at {_box_text(first)}, "
            f"{new.dataset.name} at {_box_text(second)} (west, south, east, north); nothing can "
            "be compared"
        )
    west, south, east, north = bounds_of(beside) or _NOWHERE
    return MapGrid.over((west - 1e-5, south - 1e-5, east + 1e-5, north + 1e-5), _MAP_CELLS)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _box_text(box: tuple[float, ...]) -> str:
    return ", ".join(f"{side:.4f}" for side in box)


def _counted(tables: Iterator[pa.Table], stats: ChangeStats) -> Iterator[pa.Table]:
    for table in tables:
        stats.add(table)
        yield table


def _without_unchanged(log: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return log.filter(pc.not_equal(log["status"], "unchanged"))


def _seen_shares(
    grid: MapGrid, old: CoveredGround, new: CoveredGround
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Shares of each cell that both, only OLD and only NEW have seen, by samples."""
    west, _, _, north = grid.bounds
    step_lon, step_lat = grid.step_deg
    rows, cols = np.indices((grid.num_rows * _SAMPLES, grid.num_cols * _SAMPLES)).reshape(2, -1)
    lon = west + (cols + 0.5) / _SAMPLES * step_lon
    lat = north - (rows + 0.5) / _SAMPLES * step_lat
    lon = (lon + 180.0) % 360.0 - 180.0
    is_old, is_new = (ground.look_up(lon, lat) == SEEN for ground in (old, new))
    shape = (grid.num_rows, _SAMPLES, grid.num_cols, _SAMPLES)
    return np.stack(
        [
            mask.reshape(shape).mean(axis=(1, 3))
            for mask in (is_old & is_new, is_old & ~is_new, ~is_old & is_new)
        ]
    )


def _notes(old: ComparedSide, new: ComparedSide) -> tuple[str, ...]:
    notes = list(itertools.chain(old.notes, new.notes))
    if _identity(old.dataset) == _identity(new.dataset):
        notes.append("OLD and NEW are the same dataset")
    if old.dataset.model_id != new.dataset.model_id:
        notes.append(
            f"different models: {old.dataset.model_id} and {new.dataset.model_id}; outlines and "
            "confidences differ for that reason too"
        )
    if old.dataset.gsd_m != new.dataset.gsd_m:
        notes.append(
            f"different pixel sizes: {old.dataset.gsd_m:g} m and {new.dataset.gsd_m:g} m; ids are "
            "not shared, buildings were matched by overlap alone"
        )
    for side, word in ((old, "OLD"), (new, "NEW")):
        if side.dataset.num_footprints == 0:
            notes.append(f"{word} holds no building")
    return tuple(notes)


def _identity(dataset: Dataset) -> list[str]:
    return [shard.sha256 for shard in dataset.shards] + [str(dataset.manifest.get("tiles"))]


def paths_of(out: str) -> tuple[Path, Path]:
    """Where the change log and the page go: into a folder, or beside a named .parquet file.

    Raises:
        DatasetError: if a file is named that is no .parquet file.
    """
    path = Path(out)
    if path.suffix == ".parquet":
        return path, path.with_suffix(".html")
    if path.suffix and not path.is_dir():
        raise DatasetError(
            f"--out {out}: name a folder, or the change log as a file that ends in .parquet"
        )
    if path.is_file():
        raise DatasetError(f"--out {out} is a file; name a folder or a file ending in .parquet")
    return path / "changes.parquet", path / "changes.html"


def as_record(comparison: Comparison) -> dict[str, Any]:
    """The comparison's numbers as plain values, such as for JSON."""
    return {
        "old": str(comparison.old.dataset.place),
        "new": str(comparison.new.dataset.place),
        "config": dataclasses.asdict(comparison.config),
        "statuses": [dataclasses.asdict(total) for total in comparison.stats.totals],
        "not_covered": [
            {"status": status, "reason": reason, "rows": number}
            for (status, reason), number in sorted(comparison.stats.reasons.items())
        ],
        "notes": list(comparison.notes),
    }
