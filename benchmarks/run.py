"""Whole job against the bare network: first tile read to last shard written, over forward passes.

    python benchmarks/run.py IMAGE BUNDLE [--copies 6] [--rounds 3] [--bare-s 60] [--results DIR]

The job is the real command, fresh each time. The bare network is the very network of the job's
segmenter (its layers, number type, streams and masking of missing ground) on the very same windows
from memory: no reading, staging, sigmoid, copies or tracing. It runs in a process of its own, which
loads it as the job does (heap, threads), so that neither finds the other's memory. Job and
bare passes take turns until there were --rounds of them and the bare network ran --bare-s seconds
in all. Start-up (imports, model, graph) is told apart. Core seconds stand beside seconds, since
they say more on a machine that does other things as well.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.shutil import copy as copy_raster
from results import RESULTS, ROOT, facts_as_text, machine_facts, markdown_table, write_part
from watching import watch

from geo.rasters import TileRaster
from model.segment import Segmenter
from model.staging import StagedWindows
from model.window_network import Slices
from model.windows import plan_cores
from pipeline.config import parse_config
from pipeline.cover import Cover
from pipeline.detect import load_segmenter
from pipeline.image_shelf import ImageShelf
from pipeline.spec import JobSpec, resolve_config
from pipeline.tile_store import TileStore
from pipeline.tile_work import make_task, read_layers
from pipeline.worker_heap import with_heap_settings

LIMIT_S = 3600.0
NUM_WARM = 2
HEADER = (
    "round", "windows", "job s", "network's part s", "bare s", "job / bare", "job core s",
    "bare core s", "start-up s",
)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One run of the job and one pass of the bare network over its windows.

    Attributes:
        num_windows: of the job.
        job_s: from the first tile read to the end.
        segment_s: of it in the segmenter.
        job_cpu_s: core seconds of the whole command, start-up included.
        startup_s: before the first tile.
        bare_s: of the bare network.
        bare_cpu_s: its core seconds.
    """

    num_windows: int
    job_s: float
    segment_s: float
    job_cpu_s: float
    startup_s: float
    bare_s: float
    bare_cpu_s: float

    @property
    def ratio(self) -> float:
        """The job's seconds over those of the bare network."""
        return self.job_s / self.bare_s


def make_copies(image: str, number: int, folder: Path) -> list[str]:
    """The image, and copies of it (as VRTs) one beside the other, a kilometre apart."""
    paths = [str(Path(image).absolute())]
    with rasterio.open(image) as source:
        width_units = source.width * source.transform.a
        unit_m = source.crs.linear_units_factor[1]
    for index in range(1, number):
        path = folder / f"copy{index}.vrt"
        copy_raster(str(Path(image).absolute()), path, driver="VRT")
        with rasterio.open(path, "r+") as copy:
            step = index * (width_units + 1000.0 / unit_m)
            copy.transform = Affine.translation(step, 0.0) @ copy.transform
        paths.append(str(path))
    return paths


def run_job(images: list[str], bundle: str, folder: Path) -> dict[str, float]:
    """One fresh run of the real command: what its run.json says, and its core seconds.

    Raises:
        SystemExit: if it fails.
    """
    out, log, config = folder / "out", folder / "job.log", folder / "job.yaml"
    # JSON is YAML.
    config.write_text(json.dumps({"images": images, "model": bundle, "output": str(out)}))
    command = [str(Path(sys.executable).parent / "everyroof"), "run", "--fresh", str(config)]
    cost = watch(command, log, limit_s=LIMIT_S, env={"PYTHONPATH": str(ROOT)})
    if cost.status != 0:
        raise SystemExit(f"the job ended with status {cost.status}:\n{log.read_text()[-2000:]}")
    return {**json.loads((out / "run.json").read_text()), "cpu_s": cost.cpu_s}


def job_spec(images: list[str], bundle: str, folder: Path) -> JobSpec:
    """What `run_job` computes, to find its windows by."""
    data = {"images": images, "model": bundle, "output": str(folder / "windows")}
    return resolve_config(parse_config(data, source="benchmark"))


def read_rasters(spec: JobSpec, segmenter: Segmenter) -> Iterator[tuple[TileRaster, np.ndarray]]:
    """Every raster of the job as it gets to the segmenter, and which of its cores are asked for."""
    cover, shelf = Cover(spec), ImageShelf(spec, TileStore(spec.store_path))
    for cell in cover.plan_cells():
        for tile in cover.tiles_in(cell):
            task = make_task(spec, cover, shelf, segmenter.fingerprint, tile)
            for raster in read_layers(spec, shelf, task).rasters:
                yield raster, task.cores


def collect_windows(spec: JobSpec, segmenter: Segmenter) -> list[tuple[StagedWindows, Slices]]:
    """Every window of the job as its network gets it, and what of it is looked at."""
    size, margin = segmenter.window_px, segmenter.margin_px
    side, windows = size + 2 * margin, []
    for raster, active in read_rasters(spec, segmenter):
        for core in plan_cores(raster.valid, size, margin, active=active)[0]:
            rows = slice(core.row_off, core.row_off + side)
            cols = slice(core.col_off, core.col_off + side)
            windows.append(
                segmenter.stage_window(raster.pixels[:, rows, cols], raster.valid[rows, cols])
            )
    return windows


def time_bare(
    segmenter: Segmenter, windows: Sequence[tuple[StagedWindows, Slices]]
) -> tuple[float, float]:
    """Seconds and core seconds of nothing but the network."""
    # Masking writes zeros into its input, where they stand already.
    cpu, wall = _cpu_s(), time.perf_counter()
    segmenter.forward_bare(windows)
    return time.perf_counter() - wall, _cpu_s() - cpu


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def serve_bare(images: list[str], bundle: str, folder: Path) -> None:
    """The other process: for each line on stdin one pass over all windows, told as JSON."""
    spec = job_spec(images, bundle, folder)
    segmenter = load_segmenter(spec)
    windows = collect_windows(spec, segmenter)
    time_bare(segmenter, windows[:NUM_WARM])
    print(json.dumps({"num_windows": len(windows)}), flush=True)
    for _ in sys.stdin:
        wall_s, cpu_s = time_bare(segmenter, windows)
        print(json.dumps({"bare_s": wall_s, "bare_cpu_s": cpu_s}), flush=True)


class BareNetwork:
    """The bare network in a process of its own, ready to be asked for passes."""

    def __init__(self, images: list[str], bundle: str, folder: Path) -> None:
        command = [sys.executable, __file__, *images, bundle, "--serve-bare", str(folder)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**with_heap_settings(os.environ), "PYTHONPATH": str(ROOT)},
        )
        self.num_windows = int(self._answer()["num_windows"])

    def pass_once(self) -> dict[str, float]:
        """Seconds and core seconds of one pass over all windows."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the bare network ended with status {self._process.wait()}")
        return json.loads(line)


def take_turn(images: list[str], bundle: str, folder: Path, bare: BareNetwork) -> Turn:
    """One run of the job, then one pass of the bare network."""
    job, passed = run_job(images, bundle, folder), bare.pass_once()
    if job["windows"] != bare.num_windows:
        raise SystemExit(f"the job ran {job['windows']} windows, not {bare.num_windows}")
    return Turn(
        num_windows=bare.num_windows,
        job_s=job["work_s"],
        segment_s=job["stage_s"]["Detect.segment"],
        job_cpu_s=job["cpu_s"],
        startup_s=job["startup_s"],
        bare_s=passed["bare_s"],
        bare_cpu_s=passed["bare_cpu_s"],
    )


def report(folder: Path, images: list[str], turns: Sequence[Turn], facts: dict[str, object]) -> str:
    """Write the table of all rounds and their medians; returns it."""
    rows = [(str(index), *_cells(turn)) for index, turn in enumerate(turns, 1)]
    middle = Turn(
        turns[0].num_windows,
        *(statistics.median(values) for values in zip(*map(_seconds, turns), strict=True)),
    )
    ratio = statistics.median(turn.ratio for turn in turns)
    rows.append(("median", *_cells(middle, ratio)))
    total = sum(turn.bare_s for turn in turns)
    text = f"# Whole job against the bare network\n\n{facts_as_text(facts)}\n"
    text += f"{Path(images[0]).name}, {len(images)} times; the bare network ran {total:.0f} s in "
    text += "all. *Job* is from the first tile read to the end; its core seconds hold start-up, "
    text += "too.\n\n"
    text += markdown_table(HEADER, rows)
    write_part(folder, "whole_job", text, {"machine": facts, "turns": [asdict(t) for t in turns]})
    return text


def _seconds(turn: Turn) -> tuple[float, ...]:
    return tuple(asdict(turn).values())[1:]


def _cells(turn: Turn, ratio: float | None = None) -> tuple[str, ...]:
    job_s, segment_s, job_cpu_s, startup_s, bare_s, bare_cpu_s = _seconds(turn)
    return (
        f"{turn.num_windows}", f"{job_s:.1f}", f"{segment_s:.1f}", f"{bare_s:.1f}",
        f"{turn.ratio if ratio is None else ratio:.3f}", f"{job_cpu_s:.1f}", f"{bare_cpu_s:.1f}",
        f"{startup_s:.1f}",
    )  # fmt: skip


def main() -> None:
    """Take turns; the results are written anew after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="+", help="several are one job")
    parser.add_argument("bundle")
    parser.add_argument("--copies", type=int, default=6, help="of a single image, side by side")
    parser.add_argument("--rounds", type=int, default=3, help="at least")
    parser.add_argument("--bare-s", type=float, default=60.0, help="of the bare network, at least")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--serve-bare", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_bare:
        serve_bare(args.image, args.bundle, args.serve_bare)
        return
    facts, turns = machine_facts(), []
    with tempfile.TemporaryDirectory() as folder:
        images = args.image
        if len(images) == 1:
            images = make_copies(images[0], args.copies, Path(folder))
        bundle = str(Path(args.bundle).absolute())
        bare = BareNetwork(images, bundle, Path(folder))
        while len(turns) < args.rounds or sum(turn.bare_s for turn in turns) < args.bare_s:
            turns.append(take_turn(images, bundle, Path(folder), bare))
            text = report(args.results, images, turns, facts)
            print(turns[-1], f"ratio {turns[-1].ratio:.3f}", file=sys.stderr, flush=True)
        bare.close()
    print(text)


if __name__ == "__main__":
    main()
