"""Compiled steps between a tile's bytes and a network: values by table, there and back."""

import numba
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
# Bits of bf16 or float32, which numba need not understand to copy them.
BitsArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@numba.njit(cache=True, nogil=True)
def look_up_levels(
    pixels: UInt8Array, valid: BoolArray, tables: BitsArray, images: BitsArray
) -> None:
    """Write what tables say of each pixel, bands last; all bits 0 where not valid.

    Args:
        pixels: uint8, shape (bands, height, width).
        valid: bool, shape (height, width).
        tables: shape (bands, 256).
        images: gets the values, shape (height, width, bands).
    """
    num_bands, height, width = pixels.shape
    for row in range(height):
        for band in range(num_bands):
            for col in range(width):
                images[row, col, band] = tables[band, pixels[band, row, col]]
        for col in range(width):
            if not valid[row, col]:
                for band in range(num_bands):
                    images[row, col, band] = 0


@numba.njit(cache=True, nogil=True)
def look_up_products(
    logits: UInt16Array, first: Float32Array, second: Float32Array, levels: UInt8Array
) -> None:
    """Write round(255 * first[a] * second[b]) of pairs (a, b), ties to even.

    Args:
        logits: bits of bf16, shape (2, height, width).
        first: 65,536 values, 0 to 1.
        second: likewise.
        levels: gets the values, shape (height, width).
    """
    height, width = levels.shape
    for row in range(height):
        for col in range(width):
            product = first[logits[0, row, col]] * second[logits[1, row, col]]
            levels[row, col] = np.uint8(np.rint(product * np.float32(255.0)))


@numba.njit(cache=True, nogil=True)
def look_up_bytes(logits: UInt16Array, table: UInt8Array, levels: UInt8Array) -> None:
    """Write what a table says of each value.

    Args:
        logits: bits of bf16, shape (height, width).
        table: 65,536 values.
        levels: gets them, shape (height, width).
    """
    height, width = levels.shape
    for row in range(height):
        for col in range(width):
            levels[row, col] = table[logits[row, col]]
