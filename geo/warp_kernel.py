"""The inner loops of the warp: positions, validity and bilinear sums, in integers.

Positions are rounded to 1/2048 of a source pixel, far finer than they matter, and values are
summed with whole weights: no instruction set, compiler or library version rounds differently.
"""

import numba
import numpy as np
import numpy.typing as npt

Uint8Array = npt.NDArray[np.uint8]
Uint16Array = npt.NDArray[np.uint16]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NODE_STEP_PX = 64

_FRACTION_BITS = 11


@numba.njit(cache=True, nogil=True)
def paint_cells(
    source: Uint8Array,
    source_valid: Uint8Array,
    has_mask: bool,
    source_off: Int64Array,
    node_x: Float64Array,
    node_y: Float64Array,
    cell_ok: BoolArray,
    node_off: Int64Array,
    num_taps: int,
    area: Int64Array,
    pixels: Uint8Array,
    valid: Uint8Array,
    image_index: Uint16Array,
    index: int,
) -> None:
    """Paint rows area[0]:area[1] and columns area[2]:area[3] of the canvas, cell by cell.

    Within a cell a row of at most 64 pixels is worked on in passes (positions, validity, values):
    short loops without branches.

    Args:
        source: pixels of the level, C-contiguous, shape (height, width, bands).
        source_valid: 1 where they are valid, C-contiguous, shape (height, width); any without mask.
        has_mask: whether to look at it.
        source_off: column and row of the source's first pixel in the level.
        node_x: column of each node in the level, pixel centres being whole numbers.
        node_y: row of each node.
        cell_ok: which cells (squares between four nodes) have positions.
        node_off: column and row of the canvas's first pixel, counted from the first node.
        num_taps: samples per pixel in either direction, 1 or 2.
        area: rows and columns to paint, counted from the canvas's first pixel.
        pixels: is filled where `valid` is 0; shape (bands, height, width).
        valid: is set to 1 where a pixel is painted.
        image_index: is set to `index` there.
        index: number of the image.
    """
    flat, flat_valid = source.reshape(-1), source_valid.reshape(-1)
    shape = source.shape
    sums = np.empty((shape[2], NODE_STEP_PX), np.int64)
    taps = np.empty((4, NODE_STEP_PX), np.int64)
    is_blank = np.empty(NODE_STEP_PX, np.bool_)
    for row in range(area[0], area[1]):
        cell_row, in_row = divmod(row + node_off[1], NODE_STEP_PX)
        col = area[2]
        while col < area[3]:
            cell_col, in_col = divmod(col + node_off[0], NODE_STEP_PX)
            count = min(NODE_STEP_PX - in_col, area[3] - col)
            any_blank = False
            for k in range(count):
                is_blank[k] = valid[row, col + k] == 0
                any_blank |= is_blank[k]
            if any_blank and cell_ok[cell_row, cell_col]:
                sums[:] = 0
                for tap in range(num_taps * num_taps):
                    tap_row, tap_col = divmod(tap, num_taps)
                    t_row = (in_row + (tap_row + 0.5) / num_taps) / NODE_STEP_PX
                    t_col = in_col + (tap_col + 0.5) / num_taps
                    _locate(
                        node_x,
                        node_y,
                        cell_row,
                        cell_col,
                        t_row,
                        t_col,
                        count,
                        source_off,
                        shape,
                        taps,
                        is_blank,
                    )
                    if has_mask:
                        _check_taps(flat_valid, shape, taps, count, is_blank)
                    _add_taps(flat, shape, taps, count, sums)
                _store(sums, is_blank, count, num_taps, row, col, pixels, valid, image_index, index)
            col += count


@numba.njit(cache=True, nogil=True)
def _locate(
    node_x: Float64Array,
    node_y: Float64Array,
    cell_row: int,
    cell_col: int,
    t_row: float,
    in_col: float,
    count: int,
    source_off: Int64Array,
    shape: tuple[int, int, int],
    taps: Int64Array,
    is_ok: BoolArray,
) -> None:
    """Source pixel and weights (0 to 2047) under a run of pixels; False in is_ok where outside.

    taps[0] and taps[1] are the column and row of the upper left source pixel, taps[2] and taps[3]
    the weights of its right and lower neighbours. Where it is outside they are zero.
    """
    x0 = (1.0 - t_row) * node_x[cell_row, cell_col] + t_row * node_x[cell_row + 1, cell_col]
    x1 = (1.0 - t_row) * node_x[cell_row, cell_col + 1] + t_row * node_x[cell_row + 1, cell_col + 1]
    y0 = (1.0 - t_row) * node_y[cell_row, cell_col] + t_row * node_y[cell_row + 1, cell_col]
    y1 = (1.0 - t_row) * node_y[cell_row, cell_col + 1] + t_row * node_y[cell_row + 1, cell_col + 1]
    one = np.int64(1) << _FRACTION_BITS
    height, width = shape[0], shape[1]
    for k in range(count):
        t = (in_col + k) / NODE_STEP_PX
        fixed_x = np.int64(np.floor(((1.0 - t) * x0 + t * x1) * one + 0.5))
        fixed_y = np.int64(np.floor(((1.0 - t) * y0 + t * y1) * one + 0.5))
        weight_x, weight_y = fixed_x & (one - 1), fixed_y & (one - 1)
        col = (fixed_x >> _FRACTION_BITS) - source_off[0]
        row = (fixed_y >> _FRACTION_BITS) - source_off[1]
        # A neighbour without weight does not contribute, and need not exist.
        inside = (col >= 0) & (col + (weight_x > 0) < width)
        inside &= (row >= 0) & (row + (weight_y > 0) < height)
        is_ok[k] &= inside
        taps[0, k] = col * inside
        taps[1, k] = row * inside
        taps[2, k] = weight_x * inside
        taps[3, k] = weight_y * inside


@numba.njit(cache=True, nogil=True)
def _check_taps(
    flat_valid: Uint8Array,
    shape: tuple[int, int, int],
    taps: Int64Array,
    count: int,
    is_ok: BoolArray,
) -> None:
    """False in is_ok where any source pixel with a weight is not valid."""
    for k in range(count):
        start = taps[1, k] * shape[1] + taps[0, k]
        right = np.int64(taps[2, k] > 0)
        down = np.int64(taps[3, k] > 0) * shape[1]
        is_ok[k] &= (
            flat_valid[np.uint64(start)]
            & flat_valid[np.uint64(start + right)]
            & flat_valid[np.uint64(start + down)]
            & flat_valid[np.uint64(start + right + down)]
        ) != 0


@numba.njit(cache=True, nogil=True)
def _add_taps(
    flat: Uint8Array, shape: tuple[int, int, int], taps: Int64Array, count: int, sums: Int64Array
) -> None:
    """Add the weighted values of four neighbours (weights add up to 2^22) to the sums per band."""
    one = np.int64(1) << _FRACTION_BITS
    num_bands = shape[2]
    for k in range(count):
        start = (taps[1, k] * shape[1] + taps[0, k]) * num_bands
        weight_x, weight_y = taps[2, k], taps[3, k]
        right = np.int64(weight_x > 0) * num_bands
        down = np.int64(weight_y > 0) * num_bands * shape[1]
        for band in range(num_bands):
            i = start + band
            top = (one - weight_x) * flat[np.uint64(i)] + weight_x * flat[np.uint64(i + right)]
            i += down
            low = (one - weight_x) * flat[np.uint64(i)] + weight_x * flat[np.uint64(i + right)]
            sums[band, k] += (one - weight_y) * top + weight_y * low


@numba.njit(cache=True, nogil=True)
def _store(
    sums: Int64Array,
    is_ok: BoolArray,
    count: int,
    num_taps: int,
    row: int,
    col: int,
    pixels: Uint8Array,
    valid: Uint8Array,
    image_index: Uint16Array,
    index: int,
) -> None:
    """Round the sums half up and write those pixels that are complete."""
    shift = 2 * _FRACTION_BITS + 2 * (num_taps - 1)
    half = np.int64(1) << (shift - 1)
    for band in range(len(sums)):
        for k in range(count):
            if is_ok[k]:
                pixels[band, row, col + k] = (sums[band, k] + half) >> shift
    for k in range(count):
        if is_ok[k]:
            valid[row, col + k] = 1
            if index:
                # Untouched pages of zeros take no memory; most tiles have one image, 0.
                image_index[row, col + k] = index
