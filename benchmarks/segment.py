"""Segmenting on this machine: overhead over bare forward passes, precisions, memory.

    python benchmarks/segment.py BUNDLE [--threads 2] [--window 1024] [--rounds 5]

Overhead: `Segmenter.segment` on a tile of one core against the bare network (folded, same type,
same threads) on the same window, alternating. Bare means one call of the module in inference mode:
no normalising, sigmoid or copies. Memory: peak resident size of a fresh process for every setting.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

VARIANTS = {
    "bf16": {"precision": "bf16"},
    "fp32": {"precision": "fp32"},
    "bf16, batch 4": {"precision": "bf16", "batch_size": 4},
    "bf16, d4": {"precision": "bf16", "tta": "d4"},
    "bf16, compile": {"precision": "bf16", "compile": True},
}


def timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure(bundle: Path, options: dict[str, object], rounds: int) -> dict[str, float]:
    """Medians of bare pass and segment, in ms a window, their ratio, and the peak memory."""
    import numpy as np
    import torch

    from model.segment import Segmenter

    begin = time.perf_counter()
    segmenter = Segmenter.load(bundle, **options)
    load_s = time.perf_counter() - begin
    side = segmenter.window_px + 2 * segmenter.margin_px
    num_windows = segmenter.stats.batch_size
    shape = (side, side + (num_windows - 1) * segmenter.window_px)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (len(segmenter.bundle.meta.bands), *shape), dtype=np.uint8)
    valid = np.ones(shape, bool)
    num_passes = 8 if segmenter.config.tta == "d4" else 1
    dtype = torch.bfloat16 if segmenter.precision == "bf16" else torch.float32
    images = torch.randn(num_windows, len(pixels), side, side).to(dtype)
    images = images.contiguous(memory_format=torch.channels_last)

    first = segmenter.margin_px - segmenter.reach_px
    inner = (slice(first, side - first), slice(first, side - first))

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(num_passes):
                segmenter._network(images, None, inner)

    first_s = timed(lambda: segmenter.segment(pixels, valid))
    timed(bare)
    pairs = [(timed(bare), timed(lambda: segmenter.segment(pixels, valid))) for _ in range(rounds)]
    return {
        "load_s": load_s,
        "first_s": first_s,
        "bare_ms": 1e3 * statistics.median(pair[0] for pair in pairs) / num_windows,
        "segment_ms": 1e3 * statistics.median(pair[1] for pair in pairs) / num_windows,
        "ratio": statistics.median(segment / bare for bare, segment in pairs),
        "best_ratio": min(pair[1] for pair in pairs) / min(pair[0] for pair in pairs),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_in_process(arguments: argparse.Namespace, variant: str) -> dict[str, float]:
    """The same in a fresh process, so that peaks do not add up."""
    command = [sys.executable, __file__, str(arguments.bundle), "--variant", variant]
    for name in ("threads", "window", "rounds"):
        command += [f"--{name}", str(getattr(arguments, name))]
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variant", choices=sorted(VARIANTS), help="only this one, as JSON")
    parser.add_argument("--skip", action="append", default=[], choices=sorted(VARIANTS))
    arguments = parser.parse_args()
    if arguments.variant:
        options = {
            **VARIANTS[arguments.variant],
            "num_threads": arguments.threads,
            "window_px": arguments.window,
        }
        print(json.dumps(measure(arguments.bundle, options, arguments.rounds)))
        return
    print(f"{'':<16}{'bare ms':>9}{'segment':>9}{'ratio':>7}{'best':>7}{'load s':>8}", end="")
    print(f"{'first s':>9}{'peak MB':>9}")
    for variant in VARIANTS:
        if variant in arguments.skip:
            continue
        row = measure_in_process(arguments, variant)
        print(f"{variant:<16}{row['bare_ms']:>9.0f}{row['segment_ms']:>9.0f}", end="")
        print(f"{row['ratio']:>7.3f}{row['best_ratio']:>7.3f}{row['load_s']:>8.1f}", end="")
        print(f"{row['first_s']:>9.1f}{row['peak_mb']:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
