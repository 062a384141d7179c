"""Speed of the whole job: first tile read to dataset written, against bare forward passes.

    python benchmarks/run.py IMAGE BUNDLE [--repeats 3]

Run and bare passes take turns on the same windows with the same torch settings; start-up (imports,
model loading, graph building) is reported apart.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from model.segment import Segmenter
from model.windows import plan_cores
from pipeline.config import parse_config
from pipeline.cover import Cover
from pipeline.image_shelf import ImageShelf
from pipeline.spec import JobSpec, resolve_config
from pipeline.tile_store import TileStore
from pipeline.tile_work import make_task, read_layers


def time_run(image: str, bundle: str, out: Path) -> dict[str, float]:
    """One fresh run of the real command; what its run.json says."""
    command = [str(Path(sys.executable).parent / "everyroof"), "run", "--fresh"]
    arguments = ["--image", image, "--out", str(out), "--model", bundle]
    subprocess.run([*command, *arguments], check=True, stderr=subprocess.DEVNULL)
    return json.loads((out / "run.json").read_text())


def collect_windows(spec: JobSpec, segmenter: Segmenter) -> list[torch.Tensor]:
    """Every window of the job as the network gets it."""
    cover, shelf = Cover(spec), ImageShelf(spec, TileStore(spec.store_path))
    size, margin = segmenter.window_px, segmenter.margin_px
    windows = []
    for cell in cover.plan_cells():
        for tile in cover.tiles_in(cell):
            task = make_task(spec, cover, shelf, segmenter.fingerprint, tile)
            for raster in read_layers(spec, shelf, task).rasters:
                for core in plan_cores(raster.valid, size, margin)[0]:
                    side = size + 2 * margin
                    rows = slice(core.row_off, core.row_off + side)
                    cols = slice(core.col_off, core.col_off + side)
                    pixels = np.ascontiguousarray(raster.pixels[:, rows, cols])
                    windows.append(torch.from_numpy(pixels)[None])
    return windows


def time_bare(segmenter: Segmenter, windows: list[torch.Tensor]) -> float:
    """Seconds of nothing but forward passes."""
    dtype = torch.bfloat16 if segmenter.precision == "bf16" else torch.float32
    total = 0.0
    for window in windows:
        image = ((window.float() / 255 - 0.45) / 0.25).to(dtype)
        image = image.contiguous(memory_format=torch.channels_last)
        begin = time.perf_counter()
        with torch.inference_mode():
            segmenter._network(image)
        total += time.perf_counter() - begin
    return total


def main() -> None:
    """Take turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("bundle")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        data = {
            "images": [args.image],
            "model": args.bundle,
            "output": str(Path(folder) / "windows"),
        }
        spec = resolve_config(parse_config(data, source="benchmark"))
        segmenter = Segmenter.load(args.bundle)
        windows = collect_windows(spec, segmenter)
        time_bare(segmenter, windows[:2])
        ratios, startups = [], []
        for repeat in range(args.repeats):
            run, bare = time_run(args.image, args.bundle, out), time_bare(segmenter, windows)
            ratios.append(run["work_s"] / bare)
            startups.append(run["startup_s"])
            stages = ", ".join(f"{k} {v:.2f}" for k, v in run["stage_s"].items())
            print(
                f"{repeat}: work {run['work_s']:.1f} s, bare {bare:.1f} s for {len(windows)} "
                f"windows, ratio {ratios[-1]:.3f}, start-up {startups[-1]:.1f} s ({stages})"
            )
    print(f"median ratio {statistics.median(ratios):.3f}")
    print(f"median start-up {statistics.median(startups):.1f} s")


if __name__ == "__main__":
    main()
