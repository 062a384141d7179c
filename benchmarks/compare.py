"""Comparing a dataset with an edited copy of it: rows a second and memory.

Run: python benchmarks/compare.py OUT [--max-rows 200000] [--folder DIR]
The copy is cut into other files, lacks one building in fifty and has one in twenty moved by two
metres; it is made in a process of its own, so that the memory shown is the comparison's.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).parents[1])]

from geo.covered_ground import CoveredGround, read_covered_ground  # noqa: E402 (after the path)
from geo.dataset import Dataset, open_dataset  # noqa: E402
from geo.dataset_changes import compared_schema, find_changes  # noqa: E402
from geo.footprints import FOOTPRINT_SCHEMA, PUBLIC_SCHEMA, with_geometry  # noqa: E402
from geo.geoparquet import write_shard  # noqa: E402
from geo.grid import METRES_PER_DEGREE  # noqa: E402
from geo.lonlat import snap_polygons  # noqa: E402
from geo.polygons import PolygonArray  # noqa: E402
from geo.s2cells import s2_leaf_cells  # noqa: E402
from geo.shards import ShardPlan, count_cells, plan_shards  # noqa: E402
from geo.sorted_rows import SortedRows  # noqa: E402
from geo.wkb import polygons_from_wkb  # noqa: E402

REMOVED_EVERY, MOVED_EVERY = 50, 20
MOVED_M = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-rows", type=int, default=200_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        copy = Path(folder) / "copy"
        with ProcessPoolExecutor(1) as pool:
            job = pool.submit(edit_copy, arguments.out, copy, arguments.max_rows)
            print(f"edited copy: {job.result()}")
        compare(arguments.out, copy)


def compare(old: Path, new: Path) -> None:
    """Index and compare; prints seconds, rows a second and the process's memory."""
    start, cpu_start = time.perf_counter(), time.process_time()
    (first, ground_old), (second, ground_new) = open_rows(old), open_rows(new)
    indexed = time.perf_counter()
    found: dict[str, int] = {}
    for table in find_changes(first, second, ground_old=ground_old, ground_new=ground_new):
        for entry in table["status"].value_counts().to_pylist():
            found[entry["values"]] = found.get(entry["values"], 0) + entry["counts"]
    seconds, num_rows = time.perf_counter() - start, first.num_rows + second.num_rows
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    cpu_s = time.process_time() - cpu_start
    print(f"found: {dict(sorted(found.items()))}")
    print(
        f"{num_rows:,} rows in {seconds:.1f} s ({indexed - start:.1f} s of it the index), "
        f"{num_rows / seconds:,.0f} rows/s, {cpu_s:.1f} s of processor, {peak_mb:,.0f} MB at most"
    )


def open_rows(out: Path) -> tuple[SortedRows, CoveredGround]:
    dataset = open_dataset(out)
    ground = read_covered_ground(
        dataset.place_in("tiles.parquet"), dataset.place_in("images.parquet")
    )
    return SortedRows(_sources(dataset), compared_schema()), ground


def _sources(dataset: Dataset) -> list[Path]:
    return [Path(dataset.place_of(shard)) for shard in dataset.shards]


def edit_copy(out: Path, copy: Path, max_rows: int) -> dict[str, int]:
    """Write an edited copy of a dataset, cut into other files; how many of each kind."""
    dataset = open_dataset(out)
    (copy / "footprints").mkdir(parents=True)
    for name in ("tiles.parquet", "images.parquet"):
        shutil.copy(out / name, copy / name)
    tables = [pq.read_table(source).replace_schema_metadata(None) for source in _sources(dataset)]
    table = pa.concat_tables(tables)
    number = np.arange(len(table))
    is_moved, is_removed = number % MOVED_EVERY == 7, number % REMOVED_EVERY == 11
    cells = s2_leaf_cells(table["latitude"].to_numpy(), table["longitude"].to_numpy())
    table = table.append_column(FOOTPRINT_SCHEMA.field("s2_cell"), pa.array(cells))
    parts = [table.filter(pa.array(~is_moved & ~is_removed)), _moved(table.filter(is_moved))]
    edited = pa.concat_tables([part.cast(FOOTPRINT_SCHEMA) for part in parts])
    manifest = {**dataset.manifest, "shards": _write(copy, edited, max_rows)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return {"removed": int(is_removed.sum()), "moved": int((is_moved & ~is_removed).sum())}


def _moved(table: pa.Table) -> pa.Table:
    polygons = polygons_from_wkb(table["geometry"])
    moved, is_usable = snap_polygons(
        PolygonArray(
            coords=polygons.coords + np.array([0.0, MOVED_M / METRES_PER_DEGREE]),
            ring_offsets=polygons.ring_offsets,
            polygon_offsets=polygons.polygon_offsets,
        )
    )
    assert is_usable.all()
    return with_geometry(table, moved)


def _write(copy: Path, table: pa.Table, max_rows: int) -> list[dict[str, object]]:
    cells = table["s2_cell"].to_numpy()
    plan = ShardPlan(plan_shards(*count_cells(cells), max_rows))
    which = plan.assign(cells)
    entries = []
    for index, shard in enumerate(plan.shards):
        path = copy / "footprints" / f"s2={shard.token}.parquet"
        rows = table.take(pa.array(np.flatnonzero(which == index)))
        info = write_shard(path, [rows], schema=PUBLIC_SCHEMA)
        entries.append(
            {
                "path": f"footprints/{path.name}", "token": shard.token, "num_rows": info.num_rows,
                "num_bytes": info.num_bytes, "bounds": info.bounds, "sha256": info.sha256,
            }
        )  # fmt: skip
    return entries


if __name__ == "__main__":
    main()
