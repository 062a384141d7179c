"""One district out of a large dataset: how long it takes, and how much is read.

    python benchmarks/query.py OUT [--folder DIR] [--buildings 50000] [--rounds 5]

OUT is a dataset of any size (benchmarks/scale.py --towns 13 --folder DIR makes one of 21 million
footprints). A box with about so many buildings is asked for, all columns, by several engines:
Everyroof's query, DuckDB, SedonaDB and pyarrow on the same files; DuckDB on the same rows as
GeoParquet in random order, and as CSV.gz in the form of Open Buildings. The two copies are made
in --folder once. Each run is a process of its own, on a warm disk, in turns; the times begin after
its imports. Bytes are what the process read (rchar of /proc/self/io).
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from geo.dataset import Dataset, open_dataset  # noqa: E402 (after the path is set)
from geo.footprints import PUBLIC_SCHEMA  # noqa: E402
from geo.geoparquet import write_stream  # noqa: E402
from geo.query import Query, count_footprints, read_batches, read_footprints  # noqa: E402

Box = tuple[float, float, float, float]
ROWS_AT_ONCE = 500_000
SLOW = ("duckdb, random order", "duckdb, CSV.gz")
"""Contenders that read everything: fewer rounds."""


def find_district(dataset: Dataset, num_buildings: int) -> Box:
    """A box around the middle of the fullest file with about so many buildings."""
    fullest = max(dataset.shards, key=lambda shard: shard.num_rows / _extent(shard.bounds))
    west, south, east, north = fullest.bounds
    x, y = (west + east) / 2, (south + north) / 2
    low, high = 0.0, 1.0
    for _ in range(30):
        half = (low + high) / 2
        box = (x - half, y - half, x + half, y + half)
        count = count_footprints(dataset, Query(bbox=box))
        low, high = (half, high) if count < num_buildings else (low, half)
        if abs(count - num_buildings) < 0.002 * num_buildings:
            break
    return box


def _extent(bounds: Box) -> float:
    return (bounds[2] - bounds[0]) * (bounds[3] - bounds[1])


def write_in_random_order(dataset: Dataset, folder: Path) -> None:
    """The same rows and files, each row in a random one of them; files as ours otherwise."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    num_files = max(1, dataset.num_footprints // ROWS_AT_ONCE)
    random = np.random.default_rng(0)
    piles: list[list[Path]] = [[] for _ in range(num_files)]
    for shard in dataset.shards:
        rows = pq.read_table(dataset.place_of(shard))
        owner = random.integers(0, num_files, len(rows))
        for pile in range(num_files):
            piles[pile].append(folder / f"{shard.token}-{pile}.arrow")
            with pa.OSFile(str(piles[pile][-1]), "wb") as sink:
                mine = rows.filter(pa.array(owner == pile)).combine_chunks()
                with pa.ipc.new_file(sink, mine.schema) as writer:
                    writer.write_table(mine)
    for pile, parts in enumerate(piles):
        tables = [pa.ipc.open_file(part).read_all() for part in parts]
        rows = pa.concat_tables(tables)
        rows = rows.take(pa.array(random.permutation(len(rows)))).cast(PUBLIC_SCHEMA)
        batches = rows.combine_chunks().to_batches(max_chunksize=10_000)
        write_stream(folder / f"{pile:05d}.parquet", batches, schema=PUBLIC_SCHEMA)
        for part in parts:
            part.unlink()
    (folder / "done").touch()


def write_csv(out: Path, folder: Path) -> None:
    """The rows as Open Buildings publishes them."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    command = ["everyroof", "export", str(out), str(folder), "--format", "open-buildings"]
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)
    (folder / "done").touch()


def ask_everyroof(out: str, folder: Path, box: Box) -> int:
    return sum(map(len, read_batches(open_dataset(out), Query(bbox=box))))


def ask_everyroof_frame(out: str, folder: Path, box: Box) -> int:
    return len(read_footprints(out, bbox=box))


def _where(box: Box) -> str:
    west, south, east, north = box
    return (
        f"longitude >= {west!r} AND longitude < {east!r} "
        f"AND latitude >= {south!r} AND latitude < {north!r}"
    )


def _covering(box: Box) -> str:
    west, south, east, north = box
    return (
        f"bbox.xmax >= {west} AND bbox.xmin <= {east} "
        f"AND bbox.ymax >= {south} AND bbox.ymin <= {north}"
    )


def ask_duckdb(out: str, folder: Path, box: Box) -> int:
    import duckdb

    files = f"{out}/footprints/*.parquet"
    text = f"SELECT * FROM read_parquet('{files}') WHERE {_covering(box)} AND {_where(box)}"
    return len(duckdb.sql(text).to_arrow_table())


def ask_sedona(out: str, folder: Path, box: Box) -> int:
    import sedonadb

    engine = sedonadb.connect()
    engine.read_parquet(f"{out}/footprints/").to_view("footprints")
    return len(engine.sql(f"SELECT * FROM footprints WHERE {_where(box)}").to_arrow_table())


def ask_pyarrow(out: str, folder: Path, box: Box) -> int:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    west, south, east, north = box
    lon, lat = pc.field("longitude"), pc.field("latitude")
    inside = (lon >= west) & (lon < east) & (lat >= south) & (lat < north)
    return len(ds.dataset(f"{out}/footprints").to_table(filter=inside))


def ask_random_order(out: str, folder: Path, box: Box) -> int:
    import duckdb

    files = f"{folder}/random/*.parquet"
    text = f"SELECT * FROM read_parquet('{files}') WHERE {_covering(box)} AND {_where(box)}"
    return len(duckdb.sql(text).to_arrow_table())


def ask_csv(out: str, folder: Path, box: Box) -> int:
    import duckdb

    files = str(folder / "csv" / "polygons_s2_level_4_gzip" / "*.csv.gz")
    text = f"SELECT * FROM read_csv('{files}') WHERE {_where(box)}"
    return len(duckdb.sql(text).to_arrow_table())


CONTENDERS: dict[str, Callable[[str, Path, Box], int]] = {
    "everyroof": ask_everyroof,
    "everyroof, GeoDataFrame": ask_everyroof_frame,
    "duckdb": ask_duckdb,
    "sedonadb": ask_sedona,
    "pyarrow": ask_pyarrow,
    "duckdb, random order": ask_random_order,
    "duckdb, CSV.gz": ask_csv,
}
_IMPORTS = {"duckdb": "duckdb", "sedonadb": "sedonadb", "pyarrow": "pyarrow.dataset"}


def run_one(name: str, out: str, folder: Path, box: Box) -> dict[str, Any]:
    """One contender in this process."""
    import importlib

    import geopandas  # noqa: F401 (its import is not what is timed)

    importlib.import_module(_IMPORTS.get(name.partition(",")[0], "json"))
    before, begin = _bytes_read(), time.perf_counter()
    num = CONTENDERS[name](out, folder, box)
    seconds = time.perf_counter() - begin
    return {"rows": num, "s": seconds, "bytes": _bytes_read() - before}


def _bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def main() -> None:
    """Make the copies, ask in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("query_benchmark"))
    parser.add_argument("--buildings", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=[], choices=list(CONTENDERS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--box", type=float, nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one, str(args.out), args.folder, tuple(args.box))))
        return
    dataset = open_dataset(args.out)
    names = [name for name in CONTENDERS if name not in args.skip]
    if "duckdb, random order" in names:
        write_in_random_order(dataset, args.folder / "random")
    if "duckdb, CSV.gz" in names:
        write_csv(args.out, args.folder / "csv")
    box = find_district(dataset, args.buildings)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for round_ in range(args.rounds + 1):
        for name in names:
            if name in SLOW and round_ > max(1, args.rounds // 3):
                continue
            flags = ["--one", name, "--folder", str(args.folder), "--box", *map(repr, box)]
            command = [sys.executable, __file__, str(args.out), *flags]
            answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            if round_ > 0:  # The first warms the disk.
                found[name].append(answer)
    total = sum(shard.num_bytes for shard in dataset.shards)
    print(f"{dataset.num_footprints:,} footprints, {total / 1e9:.2f} GB; box {box}\n")
    print("| engine | rows | s | times everyroof | MB read | of the bytes |")
    print("|---" + "|--:" * 5 + "|")
    best = statistics.median(one["s"] for one in found[names[0]])
    for name, runs in found.items():
        seconds, size = (statistics.median(run[key] for run in runs) for key in ("s", "bytes"))
        print(
            f"| {name} | {runs[0]['rows']:,} | {seconds:.3f} | {seconds / best:.1f} "
            f"| {size / 1e6:.1f} | {100 * size / total:.2f} % |"
        )


if __name__ == "__main__":
    main()
