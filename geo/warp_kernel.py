"""The inner loops of the warp: positions, validity and bilinear sums, in integers.

Positions are rounded to 1/2048 of a source pixel, far finer than they matter, and values are
summed with whole weights: no instruction set, compiler or library version rounds differently.
"""

import numba
import numpy as np
import numpy.typing as npt

Uint8Array = npt.NDArray[np.uint8]
Uint16Array = npt.NDArray[np.uint16]
Uint32Array = npt.NDArray[np.uint32]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NODE_STEP_PX = 64

_FRACTION_BITS = 11
_ONE = 1 << _FRACTION_BITS
# The weights of a pixel's samples add up to 2^24: 255 times that and a half still are below 2^32.
_SUM_BITS = 24
_GROUP_BANDS = 4

# What the passes hand on, each 64 numbers long, lies in one array: at fixed distances within it
# the compiler sees that nothing overlaps, and that a pass may run on many pixels at once.
_RUN = NODE_STEP_PX
_IS_OK = 0
_COL = _RUN
_ROW = 2 * _RUN
_RIGHT = 3 * _RUN
_DOWN = 4 * _RUN
_WEIGHTS = 5 * _RUN
_WORDS = 9 * _RUN
_WORK_SIZE = 13 * _RUN


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
    short loops without branches. Each takes 64 pixels, whatever the length of the run, and calls
    come from here alone: a function with branches would count references to its arrays.

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
    width, num_bands = source.shape[1], source.shape[2]
    sums = np.empty(-(-num_bands // _GROUP_BANDS) * _GROUP_BANDS * _RUN, np.uint32)
    work = np.empty(_WORK_SIZE, np.uint32)
    # In the rows before it, words of two pixels and of those below end within the source.
    end_row = (len(flat) - num_bands - _GROUP_BANDS + 1) // max(width * num_bands, 1) - 1
    for row in range(area[0], area[1]):
        cell_row, in_row = divmod(row + node_off[1], NODE_STEP_PX)
        col = area[2]
        while col < area[3]:
            cell_col, in_col = divmod(col + node_off[0], NODE_STEP_PX)
            count = min(NODE_STEP_PX - in_col, area[3] - col)
            num_ok = np.int64(0)
            if cell_ok[cell_row, cell_col]:
                num_ok = _find_blank(valid, row, col, count, work)
            sums[:] = 1 << (_SUM_BITS - 1)
            for tap in range(num_taps * num_taps):
                if num_ok == 0:
                    break
                tap_row, tap_col = divmod(tap, num_taps)
                t_row = (in_row + (tap_row + 0.5) / num_taps) / NODE_STEP_PX
                edge_x = _between(node_x, cell_row, cell_col, t_row)
                edge_y = _between(node_y, cell_row, cell_col, t_row)
                in_tap = in_col + (tap_col + 0.5) / num_taps
                _locate(edge_x, edge_y, in_tap, source_off, source.shape, work)
                if not _is_within(edge_x, edge_y, source_off, source.shape):
                    num_ok = _leave_out(source.shape, work)
                # Rounding moves a position by far less than the pixel that is left here.
                has_words = max(edge_y) - source_off[1] + 1.0 < end_row
                if has_mask and num_ok > 0:
                    if has_words:
                        num_ok = _check_mask(flat_valid, width, work)
                    else:
                        num_ok = _check_mask_at_end(flat_valid, width, work)
                if num_ok > 0:
                    _weigh(num_taps, work)
                    for first in range(0, num_bands, _GROUP_BANDS):
                        if has_words:
                            _gather(flat, source.shape, first, work)
                        else:
                            _gather_at_end(flat, source.shape, first, work)
                        _add(work, first, sums)
            if num_ok > 0:
                _store(sums, work, num_ok == count, row, col, count, pixels, valid)
                if index:
                    # Untouched pages of zeros take no memory; most tiles have one image, 0.
                    _store_index(work, row, col, count, image_index, index)
            col += count


@numba.njit(cache=True, nogil=True)
def _find_blank(valid: Uint8Array, row: int, col: int, count: int, work: Uint32Array) -> np.int64:
    """1 in _IS_OK where a pixel is still blank, 0 beyond the run; how many are."""
    line = valid[row, col : col + count]
    num_blank = np.uint32(0)
    for k in range(count):
        is_blank = np.uint32(line[k] == 0)
        work[_IS_OK + k] = is_blank
        num_blank += is_blank
    for k in range(count, _RUN):
        work[_IS_OK + k] = 0
    return np.int64(num_blank)


@numba.njit(cache=True, nogil=True)
def _between(
    nodes: Float64Array, cell_row: int, cell_col: int, t_row: float
) -> tuple[float, float]:
    """Positions on the left and the right edge of a cell."""
    left = (1.0 - t_row) * nodes[cell_row, cell_col] + t_row * nodes[cell_row + 1, cell_col]
    right = (1.0 - t_row) * nodes[cell_row, cell_col + 1]
    return left, right + t_row * nodes[cell_row + 1, cell_col + 1]


@numba.njit(cache=True, nogil=True)
def _locate(
    edge_x: tuple[float, float],
    edge_y: tuple[float, float],
    in_col: float,
    source_off: Int64Array,
    shape: tuple[int, int, int],
    work: Uint32Array,
) -> None:
    """Source pixel and weights (0 to 2047) under a run of pixels.

    _COL and _ROW are those of the upper left source pixel, _RIGHT and _DOWN the weights of its
    right and lower neighbours. Outside, a column or row may be the one before the first (as int32)
    or behind the last. What lies beyond the cell gets the position of its right edge: that too is
    read, though never used.
    """
    x0, x1 = edge_x
    y0, y1 = edge_y
    one = np.float64(_ONE)
    first_x, first_y = source_off[0] * one, source_off[1] * one
    end_x, end_y = shape[1] * one, shape[0] * one
    for k in range(_RUN):
        t = min((in_col + k) / NODE_STEP_PX, 1.0)
        x = np.floor(((1.0 - t) * x0 + t * x1) * one + 0.5) - first_x
        y = np.floor(((1.0 - t) * y0 + t * y1) * one + 0.5) - first_y
        x, y = min(max(x, -1.0), end_x), min(max(y, -1.0), end_y)
        # Whole numbers far below 2^53: nothing is rounded.
        col, row = np.floor(x / one), np.floor(y / one)
        work[_COL + k] = np.int32(col)
        work[_ROW + k] = np.int32(row)
        work[_RIGHT + k] = np.int32(x - col * one)
        work[_DOWN + k] = np.int32(y - row * one)


@numba.njit(cache=True, nogil=True)
def _is_within(
    edge_x: tuple[float, float],
    edge_y: tuple[float, float],
    source_off: Int64Array,
    shape: tuple[int, int, int],
) -> bool:
    """Whether a row of a cell is all inside, with a pixel to spare; False in doubt."""
    left, right = min(edge_x) - source_off[0], max(edge_x) - source_off[0]
    top, bottom = min(edge_y) - source_off[1], max(edge_y) - source_off[1]
    return (left >= 1.0) & (right <= shape[1] - 2) & (top >= 1.0) & (bottom <= shape[0] - 2)


@numba.njit(cache=True, nogil=True)
def _leave_out(shape: tuple[int, int, int], work: Uint32Array) -> np.int64:
    """0 in _IS_OK where a position is outside, and the first source pixel in its stead.

    Returns:
        How many pixels are left.
    """
    height, width = shape[0], shape[1]
    num_ok = np.uint32(0)
    for k in range(_RUN):
        col, row = np.int32(work[_COL + k]), np.int32(work[_ROW + k])
        # A neighbour without weight does not contribute, and need not exist.
        inside = (col >= 0) & (col + (work[_RIGHT + k] > 0) < width)
        inside &= (row >= 0) & (row + (work[_DOWN + k] > 0) < height)
        work[_IS_OK + k] *= inside
        work[_COL + k] *= inside
        work[_ROW + k] *= inside
        work[_RIGHT + k] *= inside
        work[_DOWN + k] *= inside
        num_ok += work[_IS_OK + k]
    return np.int64(num_ok)


@numba.njit(cache=True, nogil=True)
def _check_mask(flat_valid: Uint8Array, width: int, work: Uint32Array) -> np.int64:
    """0 in _IS_OK where any source pixel with a weight is not valid."""
    one, row_step = np.uint64(1), np.uint64(width)
    for k in range(_RUN):
        i = np.uint64(np.int64(work[_ROW + k]) * width + np.int64(work[_COL + k]))
        top = np.uint32(flat_valid[i]) | np.uint32(flat_valid[i + one]) << 8
        i += row_step
        low = np.uint32(flat_valid[i]) | np.uint32(flat_valid[i + one]) << 8
        work[_WORDS + k] = top & (low | 0xFFFF * (work[_DOWN + k] == 0))
    num_ok = np.uint32(0)
    for k in range(_RUN):
        both = work[_WORDS + k]
        work[_IS_OK + k] &= both & (both >> 8 | (work[_RIGHT + k] == 0))
        num_ok += work[_IS_OK + k]
    return np.int64(num_ok)


@numba.njit(cache=True, nogil=True)
def _check_mask_at_end(flat_valid: Uint8Array, width: int, work: Uint32Array) -> np.int64:
    """As `_check_mask`, without touching what has no weight."""
    num_ok = np.uint32(0)
    for k in range(_RUN):
        i = np.int64(work[_ROW + k]) * width + np.int64(work[_COL + k])
        right = np.int64(work[_RIGHT + k] > 0)
        down = np.int64(work[_DOWN + k] > 0) * width
        work[_IS_OK + k] &= np.uint32(
            flat_valid[np.uint64(i)]
            & flat_valid[np.uint64(i + right)]
            & flat_valid[np.uint64(i + down)]
            & flat_valid[np.uint64(i + right + down)]
        )
        num_ok += work[_IS_OK + k]
    return np.int64(num_ok)


@numba.njit(cache=True, nogil=True)
def _weigh(num_taps: int, work: Uint32Array) -> None:
    """Weights of the four neighbours; those of all samples of a pixel add up to 2^24."""
    scale = np.uint32(4 // (num_taps * num_taps))
    for k in range(_RUN):
        right, down = work[_RIGHT + k], work[_DOWN + k]
        work[_WEIGHTS + k] = (_ONE - right) * (_ONE - down) * scale
        work[_WEIGHTS + _RUN + k] = right * (_ONE - down) * scale
        work[_WEIGHTS + 2 * _RUN + k] = (_ONE - right) * down * scale
        work[_WEIGHTS + 3 * _RUN + k] = right * down * scale


@numba.njit(cache=True, nogil=True)
def _gather(flat: Uint8Array, shape: tuple[int, int, int], first: int, work: Uint32Array) -> None:
    """Four bands of each of the four neighbours as words, the first band in the lowest byte.

    Words of fewer bands hold bytes of other pixels above them.
    """
    num_bands = shape[2]
    row_step = shape[1] * num_bands
    for k in range(_RUN):
        i = np.int64(work[_ROW + k]) * row_step + np.int64(work[_COL + k]) * num_bands + first
        work[_WORDS + k] = _word(flat, i)
        work[_WORDS + _RUN + k] = _word(flat, i + num_bands)
        work[_WORDS + 2 * _RUN + k] = _word(flat, i + row_step)
        work[_WORDS + 3 * _RUN + k] = _word(flat, i + row_step + num_bands)


@numba.njit(cache=True, nogil=True)
def _word(flat: Uint8Array, start: int) -> np.uint32:
    """Four bytes, which compilers recognise as one load."""
    i = np.uint64(start)
    low = np.uint32(flat[i]) | np.uint32(flat[i + np.uint64(1)]) << 8
    high = np.uint32(flat[i + np.uint64(2)]) << 16 | np.uint32(flat[i + np.uint64(3)]) << 24
    return np.uint32(low | high)


@numba.njit(cache=True, nogil=True)
def _gather_at_end(
    flat: Uint8Array, shape: tuple[int, int, int], first: int, work: Uint32Array
) -> None:
    """As `_gather`, without touching what has no weight or is no band of the pixel."""
    width, num_bands = shape[1], shape[2]
    for k in range(_RUN):
        i = (np.int64(work[_ROW + k]) * width + np.int64(work[_COL + k])) * num_bands
        right = np.int64(work[_RIGHT + k] > 0) * num_bands
        down = np.int64(work[_DOWN + k] > 0) * num_bands * width
        for neighbour in range(4):
            start = i + neighbour % 2 * right + neighbour // 2 * down
            word = np.uint32(0)
            for band in range(first, min(num_bands, first + _GROUP_BANDS)):
                word |= np.uint32(flat[np.uint64(start + band)]) << (8 * (band - first))
            work[_WORDS + neighbour * _RUN + k] = word


@numba.njit(cache=True, nogil=True)
def _add(work: Uint32Array, first: int, sums: Uint32Array) -> None:
    """Add the weighted values of the four neighbours to the sums of four bands from the first on.

    Sums of bands that do not exist are of no use, and nobody looks at them.
    """
    start = np.uint64(first * _RUN)
    for k in range(_RUN):
        # Unsigned, or each index would be looked at for a minus.
        i = start + np.uint64(k)
        a, weight_a = work[_WORDS + k], work[_WEIGHTS + k]
        b, weight_b = work[_WORDS + _RUN + k], work[_WEIGHTS + _RUN + k]
        c, weight_c = work[_WORDS + 2 * _RUN + k], work[_WEIGHTS + 2 * _RUN + k]
        d, weight_d = work[_WORDS + 3 * _RUN + k], work[_WEIGHTS + 3 * _RUN + k]
        top = (a & 255) * weight_a + (b & 255) * weight_b
        sums[i] += top + (c & 255) * weight_c + (d & 255) * weight_d
        top = (a >> 8 & 255) * weight_a + (b >> 8 & 255) * weight_b
        sums[i + np.uint64(_RUN)] += top + (c >> 8 & 255) * weight_c + (d >> 8 & 255) * weight_d
        top = (a >> 16 & 255) * weight_a + (b >> 16 & 255) * weight_b
        sums[i + np.uint64(2 * _RUN)] += (
            top + (c >> 16 & 255) * weight_c + (d >> 16 & 255) * weight_d
        )
        top = (a >> 24) * weight_a + (b >> 24) * weight_b
        sums[i + np.uint64(3 * _RUN)] += top + (c >> 24) * weight_c + (d >> 24) * weight_d


@numba.njit(cache=True, nogil=True)
def _store(
    sums: Uint32Array,
    work: Uint32Array,
    is_whole: bool,
    row: int,
    col: int,
    count: int,
    pixels: Uint8Array,
    valid: Uint8Array,
) -> None:
    """Write the pixels that are complete; the sums began with the half that rounds them."""
    end = col + count
    for band in range(len(pixels)):
        line = pixels[band, row, col:end]
        for k in range(count):
            value = np.uint8(sums[band * _RUN + k] >> _SUM_BITS)
            line[k] = value if is_whole or work[_IS_OK + k] else line[k]
    line = valid[row, col:end]
    for k in range(count):
        line[k] |= np.uint8(work[_IS_OK + k])


@numba.njit(cache=True, nogil=True)
def _store_index(
    work: Uint32Array, row: int, col: int, count: int, image_index: Uint16Array, index: int
) -> None:
    line = image_index[row, col : col + count]
    for k in range(count):
        line[k] = index if work[_IS_OK + k] else line[k]
