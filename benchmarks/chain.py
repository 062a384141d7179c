"""Time from probabilities to Arrow-ready footprints, beside rasterio.features.shapes alone.

A tile of 8 x 8 blocks of 512 x 512 px with 100 buildings each, a quarter of it foreground, edges
frayed; times are per block. Two kinds of masks: those of `benchmarks/trace.py` (8,500 vertices a
block) and the rougher ones of `benchmarks/finish.py` (9,900). Components, growing by a pixel,
tracing, simplifying, squaring, degrees, all columns; one thread.

    python benchmarks/chain.py [--repeats 20]
"""

import argparse
import dataclasses
import statistics
import time
import trace as frayed

import cv2
import finish as rough
import numpy as np
import pyarrow as pa
import rasterio.features

from geo.components import find_instances
from geo.finish import FinishConfig, finish_outlines
from geo.footprint_ids import footprint_ids
from geo.footprints import footprint_table
from geo.grid import WorldGrid
from geo.grow import grow_instances
from geo.instances import Instances
from geo.lonlat import to_lonlat
from geo.pixel_window import PixelWindow
from geo.polygons import PolygonArray
from geo.trace import trace_outlines

GRID = WorldGrid(36, 300)
BLOCKS, BLOCK_PX = 8, 512
WINDOW = PixelWindow(1_500_160, -110_080, BLOCKS * BLOCK_PX, BLOCKS * BLOCK_PX)


def to_table(instances: Instances, finished: PolygonArray) -> pa.Table:
    metric = dataclasses.replace(finished, coords=finished.coords * GRID.gsd_m)
    polygons, is_usable = to_lonlat(metric, GRID.zone)
    instances = instances.take(is_usable)
    return footprint_table(
        polygons,
        ids=footprint_ids(GRID, instances.first_pixels()),
        confidence=instances.probability_sum / (255.0 * instances.num_pixels),
        image_ids=pa.repeat("image", len(instances)),
        image_dates=pa.nulls(len(instances), pa.date32()),
        model_id="model",
    )


def run_chain(probability: np.ndarray, times: dict[str, list[float]]) -> pa.Table:
    marks = [time.perf_counter()]
    instances = find_instances(probability, threshold=128, window=WINDOW)
    marks.append(time.perf_counter())
    grown = grow_instances(instances, 1)
    marks.append(time.perf_counter())
    outlines = trace_outlines(grown)
    marks.append(time.perf_counter())
    finished = finish_outlines(outlines, grown, gsd_m=GRID.gsd_m, config=FinishConfig())
    marks.append(time.perf_counter())
    table = to_table(instances, finished)
    marks.append(time.perf_counter())
    for name, begin, end in zip(times, marks, marks[1:], strict=False):
        times[name].append(1e3 * (end - begin) / BLOCKS**2)
    times["from trace on"].append(1e3 * (marks[-1] - marks[2]) / BLOCKS**2)
    times["total"].append(1e3 * (marks[-1] - marks[0]) / BLOCKS**2)
    return table


def tile_of(blocks: list[np.ndarray]) -> np.ndarray:
    """A tile that repeats some blocks."""
    order = np.arange(BLOCKS**2).reshape(BLOCKS, BLOCKS) % len(blocks)
    return np.block([[blocks[index] for index in row] for row in order])


def without_specks(mask: np.ndarray) -> np.ndarray:
    """Only components of at least 80 px: the 100 buildings."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return mask & (stats[labels, cv2.CC_STAT_AREA] >= 80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    rough_masks = [without_specks(rough.ragged_mask(seed)) for seed in range(4)]
    for label, blocks in (
        ("frayed (trace.py)", [frayed.draw_block(rng) for _ in range(4)]),
        ("rough (finish.py)", [mask.astype(np.uint8) * 200 for mask in rough_masks]),
    ):
        steps = ("components", "grow", "trace", "finish", "columns")
        names = (*steps, "from trace on", "total", "features.shapes")
        times: dict[str, list[float]] = {name: [] for name in names}
        tile = tile_of(blocks)
        num_rows = len(run_chain(tile, {name: [] for name in names}))
        for k in range(args.repeats):
            run_chain(tile, times)
            binary = (blocks[k % len(blocks)] >= 128).astype(np.uint8)
            begin = time.perf_counter()
            list(rasterio.features.shapes(binary, mask=binary > 0))
            times["features.shapes"].append(1e3 * (time.perf_counter() - begin))
        print(
            f"{label}: {num_rows / BLOCKS**2:.0f} footprints; ms per block, median (lowest decile)"
        )
        for name, values in times.items():
            low = statistics.quantiles(values, n=10)[0]
            print(f"  {name:16s} {statistics.median(values):7.3f} ({low:.3f})")


if __name__ == "__main__":
    main()
