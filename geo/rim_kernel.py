"""The compiled part of `geo.rim`."""

import numba
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
BoolArray = npt.NDArray[np.bool_]


@numba.njit(cache=True, nogil=True)
def find_rim_pixels(
    probability: UInt8Array, is_building: BoolArray
) -> tuple[UInt16Array, UInt8Array]:
    """Sum and number of the ground among the four neighbours of each building pixel."""
    height, width = probability.shape
    total = np.zeros((height, width), np.uint16)
    count = np.zeros((height, width), np.uint8)
    for row in range(height):
        for col in range(width):
            if not is_building[row, col]:
                continue
            sum_here, num = 0, 0
            for step in range(4):
                # Up, down, left, right.
                y = row + (step == 1) - (step == 0)
                x = col + (step == 3) - (step == 2)
                if 0 <= y < height and 0 <= x < width and not is_building[y, x]:
                    sum_here += probability[y, x]
                    num += 1
            total[row, col], count[row, col] = sum_here, num
    return total, count
