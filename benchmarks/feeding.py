"""What a worker's threads beside the network keep up with: reading, handing over and tracing.

    python benchmarks/feeding.py IMAGE BUNDLE [--tile-px 2048] [--rounds 4]

The network runs once over all windows; in every turn after that its answers are told again at once,
as by a network that takes no time. Tiles must be the same to the byte, however many threads.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from results import ROOT, markdown_table

sys.path.insert(0, str(ROOT))

from model.segment import Segmenter
from pipeline.config import parse_config
from pipeline.detect import TileDetector, load_segmenter
from pipeline.spec import JobSpec, resolve_config

THREADS = ((1, 1), (2, 1), (2, 2), (4, 2), (8, 4))
"""(tiles read at once, tiles traced at once)."""


def make_spec(args: argparse.Namespace, folder: Path, threads: tuple[int, int]) -> JobSpec:
    config = {
        "images": [str(args.image.absolute())],
        "model": str(args.bundle.absolute()),
        "output": str(folder / "out"),
        "grid": {"tile_px": args.tile_px},
        "engine": {"read_threads": threads[0], "trace_threads": threads[1]},
    }
    return resolve_config(parse_config(config, source="benchmark"))


@contextmanager
def answers_told(segmenter: Segmenter, answers: dict[Any, Any] | None) -> Iterator[dict[Any, Any]]:
    """Note the network's answers, or tell those that were noted."""
    run, noted = segmenter._run_batch, {} if answers is None else answers

    def answer(stream: int, windows: Sequence[Any]) -> Any:
        key = tuple((px.shape, px[:, ::31, ::29].tobytes(), ok.sum()) for px, ok in windows)
        if answers is None:
            noted[key] = run(stream, windows)
        levels, seen = noted[key]
        return levels.clone(), seen

    segmenter._run_batch = answer  # type: ignore[method-assign]
    try:
        yield noted
    finally:
        segmenter._run_batch = run  # type: ignore[method-assign]


def detect(spec: JobSpec, segmenter: Segmenter) -> tuple[float, float, dict[str, bytes]]:
    """Wall and core seconds of all tiles, and what is stored of them."""
    detector = TileDetector(spec, segmenter)
    tiles = [t for cell in detector.cover.plan_cells() for t in detector.cover.tiles_in(cell)]
    for position in range(len(spec.images)):
        detector.shelf.profile(position)
    wall, core = time.perf_counter(), time.process_time()
    for tile in tiles:
        list(detector.start(tile))
    list(detector.finish())
    wall, core = time.perf_counter() - wall, time.process_time() - core
    detector.close()
    stored = (detector.store.root / "tiles").glob("*/*.arrow")
    return wall, core, {path.name: path.read_bytes() for path in stored}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tile-px", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    times: dict[tuple[int, int], list[tuple[float, float]]] = {each: [] for each in THREADS}
    with tempfile.TemporaryDirectory() as name:
        spec = make_spec(args, Path(name) / "real", THREADS[0])
        segmenter = load_segmenter(spec)
        with answers_told(segmenter, None) as answers:
            expected = detect(spec, segmenter)[2]
        num_windows = segmenter.stats.num_windows
        with answers_told(segmenter, answers):
            for turn in range(args.rounds):
                for threads in THREADS:
                    folder = Path(name) / f"{turn}-{threads[0]}-{threads[1]}"
                    *took, stored = detect(make_spec(args, folder, threads), segmenter)
                    if stored != expected:
                        raise SystemExit(f"tiles differ with {threads} threads")
                    times[threads].append((took[0], took[1]))
    rows = [
        [
            f"{threads[0]}",
            f"{threads[1]}",
            f"{wall:.2f}",
            f"{core:.2f}",
            f"{num_windows / wall:.1f}",
        ]
        for threads, each in times.items()
        for wall, core in [[statistics.median(column) for column in zip(*each, strict=True)]]
    ]
    head = ["read at once", "traced at once", "s", "core s", "windows/s"]
    print(f"{num_windows} windows\n\n{markdown_table(head, rows)}")


if __name__ == "__main__":
    main()
