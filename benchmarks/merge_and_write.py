"""Seam merging and the writing of shards, on one core, from tables as a job has them in its store.

    python benchmarks/merge_and_write.py [--land country city] [--repeats 5] [--folder DIR]

Two drawn lands (tests/drawn_land.py): a *country* of 2 x 2 towns, from as dense as Kampala to empty
ground (117 buildings a square kilometre, 380 a tile of 2 km), and a *city*, ten times as dense. All
stages run once before the clock starts, in this process and without Beam's runner; timed are then,
over the whole land, with every building counted, not only those that were joined:

- merging: all levels of MergeSeams from the tiles' pieces on, and reading back what was joined;
- writing: counts to a plan, reading of resolved tables, sorting, row groups, Parquet, checksum;
- the yardsticks: pyarrow's `write_table` of the same rows (zstd, its defaults) and geopandas'
  `to_parquet` (zstd), sorted by the same key or as they come; from tables in memory, no checksum.

CPU seconds are those of this process; waiting is what the wall clock shows beyond them (disk, and
other programs). The script prints medians, and the SHA-256 of all shards: equal bytes, equal hash.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import geopandas  # noqa: E402 (after the path is set)
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import shapely  # noqa: E402
from drawn_land import Land  # noqa: E402
from simulated_runs import SimulatedDetector, make_simulated_spec, prepare_simulated  # noqa: E402

from geo.geoparquet import SORT_COLUMN  # noqa: E402
from pipeline import finish, merge, resolve, write  # noqa: E402
from pipeline.cover import Cover  # noqa: E402
from pipeline.detect import TileRef  # noqa: E402
from pipeline.packing import as_kind  # noqa: E402
from pipeline.spec import JobSpec, TileKey  # noqa: E402
from pipeline.tile_store import TileStore, read_table  # noqa: E402

LANDS = {
    "country": (Land(), shapely.box(29.7, -0.3, 30.3, 0.3)),
    "city": (Land(decay_km=8.0), shapely.box(30.6, 0.03, 30.75, 0.18)),
}
Grouped = dict[Any, list[Any]]


class Seconds(NamedTuple):
    """What something took."""

    wall: float
    cpu: float

    def __add__(self, other: "Seconds") -> "Seconds":  # type: ignore[override]
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


class Stages:
    """The stages of a job behind detection, called without a runner."""

    def __init__(self, folder: Path, land: str) -> None:
        self._land, area = LANDS[land]
        self.spec: JobSpec = make_simulated_spec(folder, area)
        self.store = TileStore(self.spec.store_path)

    def prepare(self, kept: Path) -> int:
        """Run everything once, unless an earlier call did; the number of buildings in the end."""
        if kept.exists():
            state = json.loads(kept.read_text())
            self.spec = dataclasses.replace(self.spec, run_token=state["run_token"])
            self.refs = [_as_ref(fields) for fields in state["refs"]]
            self.resolved = [(tuple(key), counts) for key, counts in state["resolved"]]
            self.merge()
        else:
            prepare_simulated(self.spec)
            self.refs = list(self._detect())
            self.merge()
            self.resolved = self._resolve()
            state = {
                "run_token": self.spec.run_token,
                "refs": list(map(dataclasses.asdict, self.refs)),
                "resolved": self.resolved,
            }
            kept.write_text(json.dumps(state))
        return sum(number for _, counts in self.resolved for _, number in counts)

    def _resolve(self) -> list[tuple[TileKey, resolve.CellCounts]]:
        tiles = [finish.by_block(r.key, r.tile_hash, r.images) for r in self.refs if r.num_whole]
        blocks: dict[Any, list[bytes]] = {}
        for kind, entries in ((finish.TILE, tiles), (finish.MERGED, self.merged)):
            for block, packed in entries:
                blocks.setdefault(block, []).append(as_kind(kind, packed))
        do_finish = finish._FinishDoFn(self.spec)
        do_finish.setup()
        keys = [key for item in blocks.items() for key in do_finish.process(item)]
        do_resolve = resolve._ResolveDoFn(self.spec)
        do_resolve.setup()
        return [pair for key in keys for pair in do_resolve.process(key, [])]

    def _detect(self) -> Iterator[TileRef]:
        detector, cover = SimulatedDetector(self.spec, self._land), Cover(self.spec)
        for cell in cover.plan_cells():
            for tile in cover.tiles_in(cell):
                for detection in detector.start(tile):
                    if detection.ref is not None:
                        yield detection.ref

    def merge(self) -> None:
        """All levels, and what was joined read back as FinishFootprints does."""
        sizes = merge.level_sizes(Cover(self.spec).tile_extent().values())
        pieces = list(itertools.chain.from_iterable(map(merge._tile_pieces, self.refs)))
        self.merged: list[tuple[TileKey, bytes]] = []
        for level, size in enumerate(sizes, start=1):
            do_merge = merge._MergeDoFn(self.spec, level, size)
            do_merge.setup()
            cells = _grouped(map(merge._KeyByCell(size), pieces))
            pieces = []
            for output in itertools.chain.from_iterable(map(do_merge.process, cells.items())):
                if isinstance(output, merge.PiecesRef):
                    pieces.append(output)
                elif output.tag == "merged":
                    self.merged.append(finish.merged_by_block(output.value))

    def read_merged(self) -> int:
        """What was joined, read back for every tile as FinishFootprints does; their number."""
        return sum(
            len(joined)
            for (zone, _, _), parts in _grouped(self.merged).items()
            for joined in merge.load_merged(self.spec, self.store, zone, parts).values()
        )

    def write(self) -> int:
        """All shards, from the counts on; the number of rows."""
        add = write._SumCountsFn()
        parts = add.create_accumulator()
        for _, counts in self.resolved:
            parts = add.add_input(parts, counts)
        plan = write._plan(add.extract_output(parts), self.spec.config.shards.max_rows_per_shard)
        keyed = itertools.chain.from_iterable(write._key_by_shard(e, plan) for e in self.resolved)
        do_write = write._WriteShardDoFn(self.spec)
        do_write.setup()
        shards = [s for item in _grouped(keyed).items() for s in do_write.process(item)]
        return sum(shard.num_rows for shard in shards)

    def shards(self) -> list[Path]:
        """Files written."""
        return sorted((self.spec.out_path / "footprints").glob("*.parquet"))

    def rows(self) -> pa.Table:
        """All resolved rows, in memory."""
        names = (finish.work_name(key) for key, _ in self.resolved)
        paths = (self.store.work_path(self.spec.run_token, "resolved", name) for name in names)
        return pa.concat_tables([read_table(path)[0] for path in paths]).combine_chunks()


def _as_ref(fields: dict[str, Any]) -> TileRef:
    return TileRef(**{**fields, "key": tuple(fields["key"]), "images": tuple(fields["images"])})


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> Grouped:
    groups: Grouped = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def clock(step: Callable[[], Any]) -> Seconds:
    """Time one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def yardsticks(rows: pa.Table, folder: Path) -> dict[str, Callable[[], None]]:
    """What others need to write the same rows, from memory."""
    public = rows.drop_columns([SORT_COLUMN])
    path = folder / "yardstick.parquet"
    attributes = public.drop_columns(["geometry", "bbox"]).to_pandas()
    frame = geopandas.GeoDataFrame(
        attributes, geometry=shapely.from_wkb(public["geometry"].to_numpy()), crs=4326
    )

    def sorted_rows() -> None:
        order = rows.sort_by([(SORT_COLUMN, "ascending"), ("id", "ascending")])
        pq.write_table(order.drop_columns([SORT_COLUMN]), path, compression="zstd")

    return {
        "pyarrow write_table": lambda: pq.write_table(public, path, compression="zstd"),
        "pyarrow sort_by, write_table": sorted_rows,
        "GeoDataFrame.to_parquet": lambda: frame.to_parquet(path, compression="zstd"),
        "... with bbox column": lambda: frame.to_parquet(
            path, compression="zstd", write_covering_bbox=True
        ),
    }


def measure(land: str, folder: Path, repeats: int, with_others: bool) -> dict[str, Any]:
    """Medians of a land's stages and yardsticks, run in turn."""
    stages = Stages(folder / land, land)
    num = stages.prepare(folder / f"{land}.json")
    joined = stages.read_merged()
    steps = {"merge": stages.merge, "read joined": stages.read_merged, "write": stages.write}
    if with_others:
        steps |= yardsticks(stages.rows(), folder)
    times: dict[str, list[Seconds]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            times[name].append(clock(step))
    ours = zip(*(times[name] for name in ("merge", "read joined", "write")), strict=True)
    times["merging and writing"] = [a + b + c for a, b, c in ours]
    hashed = hashlib.sha256(b"".join(path.read_bytes() for path in stages.shards()))
    return {
        "land": land,
        "buildings": num,
        "tiles": len(stages.refs),
        "pieces": sum(ref.num_pieces for ref in stages.refs),
        "joined": joined,
        "shards": len(stages.shards()),
        "bytes": sum(path.stat().st_size for path in stages.shards()),
        "sha256": hashed.hexdigest(),
        "seconds": {
            name: [statistics.median(t.cpu for t in each), statistics.median(t.wall for t in each)]
            for name, each in times.items()
        },
    }


def show(result: dict[str, Any]) -> None:
    """Print one land's figures."""
    num, seconds = result["buildings"], result.pop("seconds")
    print(json.dumps(result))
    print("| step | CPU s | waiting s | buildings a CPU second | a second |\n|---|--:|--:|--:|--:|")
    for name, (cpu, wall) in seconds.items():
        print(f"| {name} | {cpu:.3f} | {wall - cpu:.3f} | {num / cpu:,.0f} | {num / wall:,.0f} |")


def main() -> None:
    """Measure the lands asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--land", nargs="+", choices=LANDS, default=list(LANDS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one unless given")
    parser.add_argument("--no-yardsticks", action="store_true", help="only our own stages")
    args = parser.parse_args()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as temporary:
        for land in args.land:
            folder = args.folder or Path(temporary)
            show(measure(land, folder, args.repeats, not args.no_yardsticks))


if __name__ == "__main__":
    main()
