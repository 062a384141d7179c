"""Time of Gaussian edge weights against U-Net's distance weights, by instances a chip.

python benchmarks/edge_weights.py [--size 512] [--repeats 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from model.edge_weights import gaussian_edge_weights, unet_distance_weights

_COUNTS = (1, 100, 1000)


def draw_ids(size: int, count: int) -> np.ndarray:
    """`count` square buildings on an even lattice."""
    ids = np.zeros((size, size), np.int32)
    per_side = int(np.ceil(np.sqrt(count)))
    cell = size // per_side
    side = max(cell * 2 // 3, 1)
    for number in range(count):
        row, col = (cell * part + (cell - side) // 2 for part in divmod(number, per_side))
        ids[row : row + side, col : col + side] = number + 1
    return ids


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Until something large was freed, the allocator takes fresh pages for every blur: four times
    # the time, at any number of instances.
    unet_distance_weights(draw_ids(options.size, 1), sigma_px=5.0, amplitude=10.0)
    print(f"{options.size} px, one core")
    for count in _COUNTS:
        ids = draw_ids(options.size, count)
        batch = torch.from_numpy(ids)[None]
        gaussian = median_ms(
            lambda batch=batch: gaussian_edge_weights(batch, sigma_px=3.0, amplitude=20.0),
            options.repeats,
        )
        repeats = options.repeats if count < 1000 else 1
        unet = median_ms(
            lambda ids=ids: unet_distance_weights(ids, sigma_px=5.0, amplitude=10.0), repeats
        )
        print(
            f"{count:5d} instances: gaussian {gaussian:8.2f} ms, unet {unet:10.1f} ms, "
            f"ratio {unet / gaussian:8.1f}"
        )


if __name__ == "__main__":
    main()
