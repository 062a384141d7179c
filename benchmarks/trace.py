"""Time of labelling, growing and tracing drawn masks, beside rasterio.features.shapes.

Masks of 512 x 512 px with 100 buildings (rotated rectangles and L-shapes with ragged edges, 25 %
foreground) and one tile of such blocks. Prints medians; one thread.

    python benchmarks/trace.py --repeats 200
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import rasterio.features

from geo.components import find_instances
from geo.grow import grow_instances
from geo.instances import Instances
from geo.pixel_window import PixelWindow
from geo.trace import trace_outlines

BLOCK_PX = 512
THRESHOLD = 128


def draw_block(rng: np.random.Generator) -> np.ndarray:
    """Probability of 100 buildings with ragged edges, uint8; about 25 % foreground."""
    block = np.zeros((BLOCK_PX, BLOCK_PX), np.uint8)
    pitch = BLOCK_PX / 10
    for index in range(100):
        center = pitch * (np.array([index % 10, index // 10]) + 0.5 + rng.uniform(-0.1, 0.1, 2))
        size, angle = rng.uniform(17, 36, 2), rng.uniform(0, 90)
        corners = cv2.boxPoints((tuple(center), tuple(size), angle))
        if index % 3 == 0:  # an L-shape
            corners = np.insert(corners, 2, (corners[1] + corners[2]) / 2, axis=0)
            corners[3] = (corners[0] + corners[2]) / 2
        cv2.fillPoly(block, [np.round(corners).astype(np.int32)], 255)
    noise = cv2.GaussianBlur(rng.normal(0, 1, block.shape), (0, 0), 1.0)
    ragged = cv2.GaussianBlur(block, (0, 0), 1.5) + 110.0 * noise
    ragged[cv2.dilate(block, np.ones((5, 5))) == 0] = 0
    return np.clip(ragged, 0, 255).astype(np.uint8)


def median_ms(function: Callable[[int], object], repeats: int) -> float:
    """Median of single calls in ms; the argument counts the calls, so that inputs can rotate."""
    function(0)
    times = []
    for index in range(repeats):
        begin = time.perf_counter()
        function(index)
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def bench_blocks(blocks: list[np.ndarray], repeats: int) -> None:
    window = PixelWindow(0, 0, BLOCK_PX, BLOCK_PX)
    images = np.repeat(np.arange(BLOCK_PX) // 300, BLOCK_PX).reshape(BLOCK_PX, -1)
    images = images.astype(np.uint16)

    def find(index: int, image_index: np.ndarray | None = None) -> Instances:
        block = blocks[index % len(blocks)]
        return find_instances(block, threshold=THRESHOLD, window=window, image_index=image_index)

    found = [find(index) for index in range(len(blocks))]
    grown = [grow_instances(instances, 1) for instances in found]

    def shapes(index: int) -> list[object]:
        mask = blocks[index % len(blocks)] >= THRESHOLD
        return list(rasterio.features.shapes(mask.view(np.uint8), mask=mask, connectivity=4))

    def pick(table: list[Instances], index: int) -> Instances:
        return table[index % len(table)]

    times = {
        "find_instances": median_ms(find, repeats),
        "find_instances, two images": median_ms(lambda i: find(i, images), repeats),
        "trace_outlines": median_ms(lambda i: trace_outlines(pick(found, i)), repeats),
        "find + trace": median_ms(lambda i: trace_outlines(find(i)), repeats),
        "grow_instances, 1 px": median_ms(lambda i: grow_instances(pick(found, i), 1), repeats),
        "grow_instances, 3 px": median_ms(lambda i: grow_instances(pick(found, i), 3), repeats),
        "trace_outlines, grown": median_ms(lambda i: trace_outlines(pick(grown, i)), repeats),
        "rasterio.features.shapes": median_ms(shapes, max(3, repeats // 10)),
    }
    outlines = trace_outlines(found[0])
    share = np.mean([block >= THRESHOLD for block in blocks])
    print(
        f"{BLOCK_PX} px blocks: {share:.1%} foreground, {len(found[0])} instances, "
        f"{len(found[0].run_row)} runs, {len(outlines.coords)} coordinates"
    )
    for name, ms in times.items():
        print(f"  {name:28s} {ms:8.3f} ms   {ms / times['find + trace']:6.2f} x find + trace")


def bench_tile(blocks: list[np.ndarray], tile_px: int, repeats: int) -> None:
    num = tile_px // BLOCK_PX
    tile = np.block([[blocks[(i + j) % len(blocks)] for j in range(num)] for i in range(num)])
    window = PixelWindow(0, 0, *tile.shape[::-1])
    found = find_instances(tile, threshold=THRESHOLD, window=window)
    times = {
        "find_instances": median_ms(
            lambda _: find_instances(tile, threshold=THRESHOLD, window=window), repeats
        ),
        "trace_outlines": median_ms(lambda _: trace_outlines(found), repeats),
        "grow_instances, 1 px": median_ms(lambda _: grow_instances(found, 1), repeats),
    }
    print(f"one tile of {len(tile)} px: {len(found)} instances")
    for name, ms in times.items():
        print(f"  {name:28s} {ms:8.3f} ms   {ms / num**2:6.3f} ms per {BLOCK_PX} px block")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--tile-px", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    blocks = [draw_block(rng) for _ in range(8)]
    bench_blocks(blocks, args.repeats)
    bench_tile(blocks, args.tile_px, max(3, args.repeats // 20))


if __name__ == "__main__":
    main()
