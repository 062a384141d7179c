"""What a first look (`segment.first_look`) leaves out, what it loses and what it costs, by level.

    python benchmarks/first_look.py BUNDLE [--images TIF ...] [--chips FOLDER ...]

Every window is segmented in full, and looked at first at each level. A building (a component of the
full probability, of 8 m2 or more) is lost where all of it lies in windows that are left out. Images
are cut into windows of 256 px, a sixteenth of those of a job and more often empty or with a single
building, which is the harder test; chips (a folder with JPEGs and `instances`, see the data's
README) are one window each, and of their labelled buildings those in chips left out count as well.
Times are medians of a look and of a full pass over the same windows.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from results import RESULTS, facts_as_text, machine_facts, markdown_table, write_part
from run import job_spec, read_rasters
from scipy import ndimage

from model.segment import Segmenter

LEVELS = (0.05, 0.1, 0.15, 0.2, 0.3)
MIN_AREA_M2 = 8.0
IMAGE_WINDOW_PX, IMAGE_MARGIN_PX = 256, 128
CHIP_MARGIN_PX = 64
HEADER = (
    "", "level", "windows", "empty", "of them left out", "buildings found", "lost", "labelled",
    "of them left out", "a look / a full pass",
)  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """A tile for the segmenter.

    Attributes:
        pixels: uint8, shape (bands, height, width), margin included.
        valid: bool, shape (height, width).
        num_labelled: labelled buildings, where somebody counted.
    """

    pixels: np.ndarray
    valid: np.ndarray
    num_labelled: int = 0


def read_images(paths: list[str], bundle: str) -> Iterator[Ground]:
    """All tiles of the images, on the grid of a job."""
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            spec = job_spec([str(Path(path).absolute())], bundle, Path(folder))
            margin = spec.margin_px - IMAGE_MARGIN_PX
            segmenter = Segmenter.load(bundle)
            for raster, _ in read_rasters(spec, segmenter):
                inner = slice(margin, -margin) if margin else slice(None)
                yield Ground(raster.pixels[:, inner, inner], raster.valid[inner, inner])


def read_chips(folder: Path, gsd_m: float) -> Iterator[Ground]:
    """Chips as tiles of one window, nothing around them."""
    for path in sorted(folder.rglob("*.jp*g")):
        instances = folder / "instances" / f"{path.stem}.png"
        if not instances.exists():
            continue
        with rasterio.open(path) as file, rasterio.open(instances) as labels:
            pixels, numbers = file.read(indexes=[1, 2, 3]), labels.read(1)
        areas = np.bincount(numbers.ravel())[1:] * gsd_m**2
        margin = ((0, 0), *2 * ((CHIP_MARGIN_PX, CHIP_MARGIN_PX),))
        yield Ground(
            np.pad(pixels, margin),
            np.pad(np.ones(numbers.shape, bool), CHIP_MARGIN_PX),
            int(np.count_nonzero(areas >= MIN_AREA_M2)),
        )


@dataclass
class Tally:
    """What one level left out."""

    windows: int = 0
    empty: int = 0
    empty_left_out: int = 0
    found: int = 0
    lost: int = 0
    labelled: int = 0
    labelled_left_out: int = 0


def compare(
    grounds: Iterator[Ground], bundle: str, window_px: int, margin_px: int
) -> tuple[dict[float, Tally], float]:
    """Tallies by level, and the time of a look over that of a full pass."""
    options = {"window_px": window_px, "margin_px": margin_px}
    full = Segmenter.load(bundle, **options)
    looker = Segmenter.load(bundle, **options, first_look=LEVELS[0])
    tallies = {level: Tally() for level in LEVELS}
    gsd_m, floor = full.bundle.meta.gsd_m, full.bundle.meta.threshold
    times: list[float] = []
    for ground in grounds:
        begin = time.perf_counter()
        probability = full.segment(ground.pixels, ground.valid)
        middle = time.perf_counter()
        highest = looker.look(ground.pixels, ground.valid)
        times.append((time.perf_counter() - middle) / (middle - begin))
        numbers, num = ndimage.label(probability >= round(255 * floor))
        areas = np.bincount(numbers.ravel(), minlength=num + 1) * gsd_m**2
        numbers[(areas < MIN_AREA_M2)[numbers]] = 0
        for level in LEVELS:
            kept = {core for core, most in highest.items() if most >= round(255 * level)}
            _add(tallies[level], ground, numbers, set(highest), kept)
    return tallies, statistics.median(times) if times else float("nan")


def _add(tally: Tally, ground: Ground, numbers: np.ndarray, cores: set, kept: set) -> None:
    everything, remaining = set(np.unique(numbers)) - {0}, set()
    for core in cores:
        rows = slice(core.row_off, core.row_off + core.height)
        cols = slice(core.col_off, core.col_off + core.width)
        here = set(np.unique(numbers[rows, cols])) - {0}
        tally.windows += 1
        tally.empty += not here
        tally.empty_left_out += not here and core not in kept
        remaining |= here if core in kept else set()
    tally.found += len(everything)
    tally.lost += len(everything - remaining)
    tally.labelled += ground.num_labelled
    tally.labelled_left_out += 0 if kept else ground.num_labelled


def main() -> None:
    """Compare and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--images", nargs="*", default=[])
    parser.add_argument("--chips", nargs="*", type=Path, default=[])
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    bundle = str(Path(args.bundle).absolute())
    gsd_m = Segmenter.load(bundle).bundle.meta.gsd_m
    sets = [
        (Path(path).stem, read_images([path], bundle), IMAGE_WINDOW_PX, IMAGE_MARGIN_PX)
        for path in args.images
    ]
    for folder in args.chips:
        side = next(read_chips(folder, gsd_m)).valid.shape[0] - 2 * CHIP_MARGIN_PX
        sets.append((folder.name, read_chips(folder, gsd_m), side, CHIP_MARGIN_PX))
    rows, facts = [], machine_facts()
    for name, grounds, window_px, margin_px in sets:
        tallies, ratio = compare(grounds, bundle, window_px, margin_px)
        for level, t in tallies.items():
            out = f"{t.empty_left_out / t.empty:.0%}" if t.empty else ""
            labelled = (str(t.labelled), str(t.labelled_left_out)) if t.labelled else ("", "")
            rows.append(
                (name, f"{level:g}", str(t.windows), str(t.empty), out, str(t.found), str(t.lost),
                 *labelled, f"{ratio:.2f}")
            )  # fmt: skip
    text = f"# First look\n\n{facts_as_text(facts)}\n{markdown_table(HEADER, rows)}"
    write_part(args.results, "first_look", text, {"machine": facts, "rows": rows})
    print(text)


if __name__ == "__main__":
    main()
