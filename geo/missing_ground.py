"""Where ground is missing in an image: the box of what is there, and the runs of what is not."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ValidBox:
    """The smallest box that holds every valid pixel.

    Attributes:
        row: its first row.
        row_end: its last row + 1; 0 where nothing is valid.
        col: its first column.
        col_end: its last column + 1; 0 where nothing is valid.
        num_valid: valid pixels.
    """

    row: int
    row_end: int
    col: int
    col_end: int
    num_valid: int


def find_valid_box(valid: BoolArray) -> ValidBox:
    """The smallest box that holds every True, all zeros where there is none.

    Args:
        valid: bool, shape (height, width).
    """
    return ValidBox(*_find_box(valid))


def known_blocks(valid: BoolArray, factor: int) -> BoolArray:
    """Which squares of `factor` pixels hold a True.

    Args:
        valid: bool, shape (height, width), whole numbers of squares.
        factor: side of a square in pixels, at least 1.

    Returns:
        bool, shape (height / factor, width / factor).
    """
    blocks = np.zeros((valid.shape[0] // factor, valid.shape[1] // factor), np.bool_)
    _mark_blocks(valid, factor, blocks)
    return blocks


def find_missing_runs(known: BoolArray) -> Int32Array:
    """Runs of False along the rows.

    Args:
        known: bool, shape (height, width).

    Returns:
        int32, shape (number of runs, 3): row, first column, last column + 1, in scan order.
    """
    runs = np.empty((_count_runs(known), 3), np.int32)
    _list_runs(known, runs)
    return runs


@numba.njit(cache=True, nogil=True)
def zero_runs(planes: UInt8Array, runs: Int32Array, pixel_bytes: int) -> None:
    """Set runs of pixels to zero bytes, in place, in every plane.

    Args:
        planes: bytes, shape (planes, height, width * pixel_bytes), rows contiguous.
        runs: as of `find_missing_runs`.
        pixel_bytes: bytes of a pixel.
    """
    for plane in range(planes.shape[0]):
        for run in range(runs.shape[0]):
            start, end = runs[run, 1] * pixel_bytes, runs[run, 2] * pixel_bytes
            planes[plane, runs[run, 0], start:end] = 0


@numba.njit(cache=True, nogil=True)
def _find_box(valid: BoolArray) -> tuple[int, int, int, int, int]:
    height, width = valid.shape
    first_row, end_row, first_col, end_col, total = height, 0, width, 0, 0
    for row in range(height):
        num = 0
        for col in range(width):
            num += valid[row, col]
        if num == 0:
            continue
        total += num
        first_row, end_row = min(first_row, row), row + 1
        col = 0
        while col < first_col and not valid[row, col]:
            col += 1
        first_col = min(first_col, col)
        col = width
        while col > end_col and not valid[row, col - 1]:
            col -= 1
        end_col = max(end_col, col)
    if total == 0:
        return 0, 0, 0, 0, 0
    return first_row, end_row, first_col, end_col, total


@numba.njit(cache=True, nogil=True)
def _mark_blocks(valid: BoolArray, factor: int, blocks: BoolArray) -> None:
    num_rows, num_cols = blocks.shape
    for row in range(num_rows * factor):
        block_row = row // factor
        for block_col in range(num_cols):
            if blocks[block_row, block_col]:
                continue
            for col in range(block_col * factor, (block_col + 1) * factor):
                if valid[row, col]:
                    blocks[block_row, block_col] = True
                    break


@numba.njit(cache=True, nogil=True)
def _count_runs(known: BoolArray) -> int:
    num = 0
    for row in range(known.shape[0]):
        before = True
        for col in range(known.shape[1]):
            num += before and not known[row, col]
            before = known[row, col]
    return num


@numba.njit(cache=True, nogil=True)
def _list_runs(known: BoolArray, runs: Int32Array) -> None:
    num, width = 0, known.shape[1]
    for row in range(known.shape[0]):
        col = 0
        while col < width:
            if known[row, col]:
                col += 1
                continue
            start = col
            while col < width and not known[row, col]:
                col += 1
            runs[num, 0], runs[num, 1], runs[num, 2] = row, start, col
            num += 1
