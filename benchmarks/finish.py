"""Time per building of finishing, on drawn masks with ragged edges.

512 x 512 px, a quarter of it buildings, 100 of them, edges frayed: about 90 traced vertices each.
The stages are timed side by side with GEOS doing the simplifying alone.

    python benchmarks/finish.py [--repeats 50] [--gsd-m 0.3]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import shapely

from geo.components import find_instances
from geo.finish import FORM_NAMES, FinishConfig, finish_with_forms
from geo.pixel_window import PixelWindow
from geo.run_overlap import iou_with_runs
from geo.trace import trace_outlines

SIZE_PX, PER_SIDE = 512, 10


def ragged_mask(seed: int) -> np.ndarray:
    """100 turned rectangles, a quarter of the pixels, their edges frayed by smooth noise."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(SIZE_PX, SIZE_PX))
    for axis in (0, 1):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    noise /= noise.std()
    row, col = np.mgrid[:SIZE_PX, :SIZE_PX] + 0.5
    mask = np.zeros((SIZE_PX, SIZE_PX), bool)
    cell = SIZE_PX / PER_SIDE
    for k in range(PER_SIDE**2):
        angle = rng.uniform(0, np.pi)
        width = rng.uniform(20, 33)
        half_u, half_v = width / 2, 655 / width / 2
        x = col - (k % PER_SIDE + 0.5) * cell
        y = row - (k // PER_SIDE + 0.5) * cell
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        depth = np.minimum(half_u - np.abs(u), half_v - np.abs(v))
        mask |= depth + 0.8 * noise > 0
    return mask & (np.maximum(np.abs(col % cell - cell / 2), np.abs(row % cell - cell / 2)) < 24)


def median_ms(function: Callable[[], object], repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--gsd-m", type=float, default=0.3)
    args = parser.parse_args()
    mask = ragged_mask(0)
    probability = mask.astype(np.uint8) * 200
    instances = find_instances(probability, threshold=128, window=PixelWindow(0, 0, 512, 512))
    instances = instances.take(instances.num_pixels >= 80)
    outlines = trace_outlines(instances)
    shapes = outlines.to_shapely()
    count = len(instances)
    print(f"{count} buildings, {mask.mean():.0%} foreground, {len(outlines.coords)} vertices")
    for name, config in (
        ("simplify and square", FinishConfig()),
        ("simplify only", FinishConfig(square=False)),
    ):
        ms = median_ms(
            lambda c=config: finish_with_forms(outlines, instances, gsd_m=args.gsd_m, config=c),
            args.repeats,
        )
        finished, forms = finish_with_forms(outlines, instances, gsd_m=args.gsd_m, config=config)
        share = dict(zip(FORM_NAMES, np.bincount(forms, minlength=len(FORM_NAMES)), strict=True))
        iou = iou_with_runs(finished, instances)
        print(
            f"{name:20s} {ms:7.3f} ms ({1e3 * ms / count:.1f} us each), vertices "
            f"{len(finished.coords)}, IoU with traced {iou.mean():.4f} (min {iou.min():.3f}), "
            f"valid {shapely.is_valid(finished.to_shapely()).all()}, {share}"
        )
    geos = median_ms(lambda: shapely.simplify(shapes, 0.4 / args.gsd_m), 5)
    print(f"{'GEOS simplify alone':20s} {geos:7.3f} ms")


if __name__ == "__main__":
    main()
