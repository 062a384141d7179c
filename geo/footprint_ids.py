"""Identifiers of footprints, made from the place alone."""

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.grid import WorldGrid

Int64Array = npt.NDArray[np.int64]
Uint8Array = npt.NDArray[np.uint8]


def footprint_ids(grid: WorldGrid, first_pixels: Int64Array) -> pa.StringArray:
    """Identifiers such as `z36_g300mm_r-110234_c1666012`: zone, pixel size, first pixel.

    The first pixel in scan order is held by one building only, whichever tile, worker or engine
    found it, so that the same imagery and model give the same ids. Words as in tile names.

    Args:
        grid: the zone's grid.
        first_pixels: (row, col) of each building (`Instances.first_pixels`), int64, shape (n, 2).
    """
    pixels = np.ascontiguousarray(first_pixels, np.int64)
    prefix = np.frombuffer(f"z{grid.zone:02d}_g{grid.gsd_mm}mm_r".encode(), np.uint8)
    offsets = np.zeros(len(pixels) + 1, np.int32)
    longest = len(prefix) + 2 + 2 * 20
    data = np.empty(len(pixels) * longest, np.uint8)
    num_bytes = _write_ids(prefix, pixels, offsets, data)
    # A copy of what was used: the buffer was sized for the longest numbers.
    buffers = pa.py_buffer(offsets), pa.py_buffer(data[:num_bytes].copy())
    return pa.StringArray.from_buffers(len(pixels), *buffers)


@numba.njit(cache=True, nogil=True)
def _write_ids(
    prefix: Uint8Array, pixels: Int64Array, offsets: npt.NDArray[np.int32], data: Uint8Array
) -> int:
    """Fill the texts and their offsets; returns the number of bytes."""
    at = 0
    for i in range(len(pixels)):
        for k in range(len(prefix)):
            data[at + k] = prefix[k]
        at = _write_number(pixels[i, 0], data, at + len(prefix))
        data[at], data[at + 1] = ord("_"), ord("c")
        at = _write_number(pixels[i, 1], data, at + 2)
        offsets[i + 1] = at
    return at


@numba.njit(cache=True, nogil=True)
def _write_number(number: int, data: Uint8Array, at: int) -> int:
    """Write an integer in decimal; returns the position after it."""
    if number < 0:
        data[at] = ord("-")
        at, number = at + 1, -number
    num_digits, rest = 1, number // 10
    while rest:
        num_digits, rest = num_digits + 1, rest // 10
    for k in range(num_digits - 1, -1, -1):
        data[at + k] = ord("0") + number % 10
        number //= 10
    return at + num_digits
