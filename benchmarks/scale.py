"""The graph at the size of countries: everything behind the network, on a drawn land.

    python benchmarks/scale.py [--towns 1 4 13] [--workers 2] [--folder DIR]

A land of so many by so many towns (33 km apart, 127,000 buildings each, from as dense as Kampala to
empty ground; see tests/drawn_land.py) goes through planning, tile store, seam merging, finishing,
overlaps, shards, ledger and report. It lies across the equator and across the edge of UTM zones 35
and 36. Every building must come out once. Prints a row of the table in benchmarks/README.md a size.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import shapely

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from drawn_land import Land  # noqa: E402 (after the path is set)
from simulated_runs import (  # noqa: E402
    IMAGE_STEP_DEG,
    make_simulated_spec,
    run_simulated,
)

CORNER = (30.0, 0.0)
COLUMNS = (
    "towns", "tiles", "buildings", "delivered", "wall s", "s per million", "core s per million",
    "launcher MB", "a worker MB", "store GB", "output GB",
)  # fmt: skip


class Peaks(NamedTuple):
    """Highest private memory in bytes, of the launcher and of the largest worker; CPU seconds."""

    launcher: int
    worker: int
    cpu_s: float


def area_of(num_towns: int) -> shapely.Polygon:
    """The land's box in degrees: whole towns around the corner of two zones and hemispheres."""
    low, high = -(num_towns // 2) * IMAGE_STEP_DEG, (num_towns + 1) // 2 * IMAGE_STEP_DEG
    return shapely.box(CORNER[0] + low, CORNER[1] + low, CORNER[0] + high, CORNER[1] + high)


def count_buildings(area: shapely.Polygon) -> int:
    """What stands in the area, counted strip by strip."""
    land, total = Land(), 0
    west, south, east, north = area.bounds
    edges = np.linspace(south, north, 6 * round((north - south) / IMAGE_STEP_DEG) + 1)
    for low, high in itertools.pairwise(edges):
        found = land.buildings_within(west, low, east, high)
        inside = (found.lon >= west) & (found.lon < east)
        total += int(np.count_nonzero(inside & (found.lat >= low) & (found.lat < high)))
    return total


def run_job(folder: Path, num_towns: int, workers: int) -> None:
    """The job itself, in a launcher of its own."""
    from pipeline.heap import keep_heap_small
    from pipeline.logs import configure_logging

    configure_logging()
    if workers > 1:
        keep_heap_small()
    run_simulated(make_simulated_spec(folder, area_of(num_towns)), workers=workers)


def watch(command: list[str], log: Path) -> Peaks:
    """Run a launcher to its end; what it and its workers took.

    Files mapped into memory (the store's, libraries) are not counted: the system drops them freely.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:2])}
    process = subprocess.Popen(command, env=environment)
    launcher = worker = 0
    cpu_s: dict[int, float] = {}
    while process.poll() is None:
        try:
            members = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        except psutil.NoSuchProcess:
            break
        private = {}
        for member in members:
            try:
                memory, times = member.memory_info(), member.cpu_times()
            except psutil.NoSuchProcess:
                continue
            private[member.pid] = memory.rss - memory.shared
            cpu_s[member.pid] = times.user + times.system
        own = private.pop(process.pid, 0)
        launcher, worker = max(launcher, own), max([worker, *private.values()])
        with log.open("a") as file:
            file.write(json.dumps([round(time.time(), 1), own, *private.values()]) + "\n")
        time.sleep(1.0)
    if process.returncode:
        raise SystemExit(f"the job failed with status {process.returncode}")
    return Peaks(launcher, worker, sum(cpu_s.values()))


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(
        (Path(where) / name).stat().st_size for where, _, files in os.walk(folder) for name in files
    )


def measure(folder: Path, num_towns: int, workers: int) -> list[str]:
    """Run one size; a row of the table."""
    shutil.rmtree(folder, ignore_errors=True)
    expected = count_buildings(area_of(num_towns))
    command = [sys.executable, __file__, "--job", str(num_towns), "--workers", str(workers)]
    folder.mkdir(parents=True)
    begin = time.time()
    peaks = watch([*command, "--folder", str(folder)], folder / "memory.jsonl")
    wall_s = time.time() - begin
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    stages = json.loads((folder / "out" / "run.json").read_text())["stage_s"]
    delivered = manifest["counts"]["footprints"]
    print(f"  seconds by stage: {stages}", file=sys.stderr, flush=True)
    if delivered != expected:
        print(f"  {expected} buildings stand there, {delivered} came out", file=sys.stderr)
    million = delivered / 1e6
    return [
        f"{num_towns} x {num_towns}",
        f"{manifest['tiles']['num_tiles']:,}",
        f"{expected:,}",
        f"{delivered:,}",
        f"{wall_s:,.0f}",
        f"{wall_s / million:.1f}",
        f"{peaks.cpu_s / million:.1f}",
        f"{peaks.launcher / 1e6:.0f}",
        f"{peaks.worker / 1e6:.0f}",
        f"{size_of(folder / 'out' / '.tiles') / 1e9:.2f}",
        f"{size_of(folder / 'out' / 'footprints') / 1e9:.2f}",
    ]


def main() -> None:
    """Run every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--towns", type=int, nargs="+", default=[1, 4, 13])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="Kept; a temporary one unless given.")
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job is not None:
        run_job(args.folder, args.job, args.workers)
        return
    print("| " + " | ".join(COLUMNS) + " |\n" + "|--:" * len(COLUMNS) + "|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for num_towns in args.towns:
            row = measure((args.folder or Path(temporary)) / "land", num_towns, args.workers)
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
