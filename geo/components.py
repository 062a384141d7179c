"""Probability -> building instances: 4-connected components as exact pixel runs.

The mask is scanned eight pixels at a time; everything after the scan is linear in the number of
runs. Nothing but integers is added up, so that the result does not depend on how the work is cut.
"""

import numba
import numpy as np
import numpy.typing as npt

from geo.connectivity import ConnectedRuns, connect_runs, sum_image_counts
from geo.instances import BoolArray, Instances, Int32Array, Int64Array
from geo.pixel_window import PixelWindow
from geo.rim import Rim

Uint8Array = npt.NDArray[np.uint8]
Uint16Array = npt.NDArray[np.uint16]
Uint64Array = npt.NDArray[np.uint64]

# Pixels per strip of rows: mask and probability of a strip fit into a core's L2 cache together.
_STRIP_PIXELS = 1 << 18

# numba compares and adds uint64 with an int literal through float64: all constants are uint64.
_ZERO, _ONE, _BYTE, _TOP_BYTE = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(56)
# Times 2**(8 k), the top byte is k: the number of the lowest byte of a word that is set to one.
_BYTE_NUMBERS = np.uint64(0x0001020304050607)


def find_instances(
    probability: Uint8Array,
    *,
    threshold: int,
    window: PixelWindow,
    image_index: Uint16Array | None = None,
    rim: Rim | None = None,
) -> Instances:
    """4-connected components of the pixels with at least the threshold's probability.

    Args:
        probability: uint8, shape (height, width) of the window; never changed.
        threshold: least probability of a building pixel, 1 to 255 (0 would take everything).
        window: the pixels' place on the grid.
        image_index: which image each pixel came from, uint16, same shape; None where there is only
            one image, which then has index 0.
        rim: what lies just outside, in the same pixels; None leaves the sums at 0.

    Returns:
        The instances, sorted by first pixel; runs in grid rows and columns.

    Raises:
        ValueError: if a shape, dtype or the threshold is not as described.
    """
    _check_input(probability, threshold, window, image_index)
    _check_rim(rim, window)
    probability = np.require(probability, requirements=["C", "W"])  # one type for the kernel
    row, start, end, run_sum = _scan_strips(probability, threshold, window)
    runs = connect_runs(row, start, end, np.arange(len(row)), len(row))
    num_pixels = runs.sum_nodes(end.astype(np.int64) - start)
    image_offsets, images, image_pixels = _count_images(runs, num_pixels, window, image_index)
    return Instances(
        run_row=runs.run_row,
        run_start=runs.run_start,
        run_end=runs.run_end,
        run_offsets=runs.run_offsets,
        num_pixels=num_pixels,
        probability_sum=runs.sum_nodes(run_sum),
        rim_sum=_sum_over_runs(runs, window, None if rim is None else rim.total),
        rim_count=_sum_over_runs(runs, window, None if rim is None else rim.count),
        image_offsets=image_offsets,
        image_index=images,
        image_pixels=image_pixels,
    )


def exceeds_extent(bounds: Int64Array, max_extent_px: int) -> BoolArray:
    """Which bounds are wider or higher than an instance may be.

    Args:
        bounds: (row_min, col_min, row_end, col_end), int64, shape (n, 4).
        max_extent_px: greatest width and height in pixels, at least 1.

    Raises:
        ValueError: if `max_extent_px` is below 1.
    """
    if max_extent_px < 1:
        raise ValueError(f"max_extent_px = {max_extent_px}; expected at least 1 pixel")
    return np.asarray((bounds[:, 2:] - bounds[:, :2] > max_extent_px).any(axis=1))


def split_oversize(instances: Instances, max_extent_px: int) -> tuple[Instances, Instances]:
    """The instances that fit into `max_extent_px` in both directions, and those that do not.

    Args:
        instances: whole instances; nothing is merged here.
        max_extent_px: greatest width and height in pixels, at least 1.

    Returns:
        (fitting, oversize), each in the order of the input.
    """
    is_oversize = exceeds_extent(instances.bounds(), max_extent_px)
    return instances.take(~is_oversize), instances.take(is_oversize)


def _check_input(
    probability: Uint8Array, threshold: int, window: PixelWindow, image_index: Uint16Array | None
) -> None:
    shape = (window.height, window.width)
    if probability.dtype != np.uint8 or probability.shape != shape:
        raise ValueError(
            f"probability is {probability.dtype} {probability.shape}; expected uint8 {shape}"
        )
    if image_index is not None and (image_index.dtype != np.uint16 or image_index.shape != shape):
        raise ValueError(
            f"image_index is {image_index.dtype} {image_index.shape}; expected uint16 {shape}"
        )
    if not 1 <= threshold <= 255:
        raise ValueError(f"threshold = {threshold}; expected 1 to 255")


def _check_rim(rim: Rim | None, window: PixelWindow) -> None:
    shape = (window.height, window.width)
    for name, dtype in (("total", np.uint16), ("count", np.uint8)):
        if rim is not None:
            values = getattr(rim, name)
            if values.dtype != dtype or values.shape != shape:
                raise ValueError(
                    f"rim.{name} is {values.dtype} {values.shape}; expected "
                    f"{np.dtype(dtype)} {shape}"
                )


def _sum_over_runs(
    runs: ConnectedRuns, window: PixelWindow, values: Uint8Array | Uint16Array | None
) -> Int64Array:
    """Sum of a raster over each group's pixels, int64; zeros without a raster."""
    if values is None:
        return np.zeros(len(runs.run_offsets) - 1, np.int64)
    sums: Int64Array = _add_up_runs(
        runs.run_row - np.int32(window.row_off),
        runs.run_start - np.int32(window.col_off),
        runs.run_end - np.int32(window.col_off),
        runs.run_offsets,
        np.require(values, requirements=["C", "W"]),
    )
    return sums


@numba.njit(cache=True, nogil=True)
def _add_up_runs(
    row: Int32Array,
    start: Int32Array,
    end: Int32Array,
    run_offsets: Int64Array,
    values: Uint16Array,
) -> Int64Array:
    sums = np.zeros(len(run_offsets) - 1, np.int64)
    for i in range(len(sums)):
        for r in range(run_offsets[i], run_offsets[i + 1]):
            line = values[row[r]]
            for col in range(start[r], end[r]):
                sums[i] += np.int64(line[col])
    return sums


def _scan_strips(
    probability: Uint8Array, threshold: int, window: PixelWindow
) -> tuple[Int32Array, Int32Array, Int32Array, Int64Array]:
    """All runs in scan order: row, start, end in grid pixels, and the sum of the probability."""
    height, width = probability.shape
    num_rows = max(1, _STRIP_PIXELS // max(width, 1))
    # A row ends with at least one empty byte: a run always ends inside its row.
    mask = np.zeros((min(num_rows, height), width // 8 * 8 + 8), np.bool_)
    words = mask.view("<u8")
    strips = []
    for first in range(0, height, num_rows):
        strip = probability[first : first + num_rows]
        np.greater_equal(strip, threshold, out=mask[: len(strip), :width])
        strips.append(
            _scan_runs(words[: len(strip)], strip, window.row_off + first, window.col_off)
        )
    if len(strips) == 1:
        return strips[0]
    if not strips:
        none = np.zeros(0, np.int32)
        return none, none, none, np.zeros(0, np.int64)
    row, start, end, run_sum = (np.concatenate(parts) for parts in zip(*strips, strict=True))
    return row, start, end, run_sum


@numba.njit(cache=True, nogil=True)
def _scan_runs(
    words: Uint64Array, probability: Uint8Array, row_off: int, col_off: int
) -> tuple[Int32Array, Int32Array, Int32Array, Int64Array]:
    """Runs of a strip; the mask comes as little-endian words of eight pixels, 0 or 1 each."""
    num_rows, num_words = words.shape
    # Worst case every other pixel; pages that are never written cost nothing.
    capacity = num_rows * (4 * num_words)
    run_row = np.empty(capacity, np.int32)
    run_start, run_end = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    run_sum = np.empty(capacity, np.int64)
    n, start = 0, np.int64(-1)
    for r in range(num_rows):
        last = _ZERO
        for w in range(num_words):
            word = words[r, w]
            flips = word ^ ((word << _BYTE) | last)
            last = word >> _TOP_BYTE
            while flips != _ZERO:
                lowest = flips & (~flips + _ONE)
                flips ^= lowest
                col = 8 * w + np.int64((lowest * _BYTE_NUMBERS) >> _TOP_BYTE)
                if start < 0:
                    start = col
                    continue
                run_row[n], run_start[n], run_end[n] = row_off + r, col_off + start, col_off + col
                run_sum[n] = probability[r, start:col].sum()
                start = np.int64(-1)
                n += 1
    return run_row[:n].copy(), run_start[:n].copy(), run_end[:n].copy(), run_sum[:n].copy()


def _count_images(
    runs: ConnectedRuns,
    num_pixels: Int64Array,
    window: PixelWindow,
    image_index: Uint16Array | None,
) -> tuple[Int64Array, Int32Array, Int64Array]:
    """Pixels per instance and image: (image_offsets, image_index, image_pixels)."""
    n = len(num_pixels)
    if image_index is None:
        return np.arange(n + 1), np.zeros(n, np.int32), num_pixels
    owner, images, pixels = _image_stretches(
        runs.run_row - np.int32(window.row_off),
        runs.run_start - np.int32(window.col_off),
        runs.run_end - np.int32(window.col_off),
        runs.run_offsets,
        np.require(image_index, requirements=["C", "W"]),
        int(num_pixels.sum()),
    )
    return sum_image_counts(owner, images, pixels, n)


@numba.njit(cache=True, nogil=True)
def _image_stretches(
    row: Int32Array,
    start: Int32Array,
    end: Int32Array,
    run_offsets: Int64Array,
    image_index: Uint16Array,
    capacity: int,
) -> tuple[Int64Array, Int32Array, Int64Array]:
    """Pixel counts of stretches of one instance and one image: mostly one per instance."""
    owner, pixels = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    image = np.empty(capacity, np.int32)
    n = 0
    for i in range(len(run_offsets) - 1):
        first = n
        for r in range(run_offsets[i], run_offsets[i + 1]):
            col, line = start[r], image_index[row[r]]
            while col < end[r]:
                index, begin = line[col], col
                while col < end[r] and line[col] == index:
                    col += 1
                if n == first or image[n - 1] != np.int32(index):
                    owner[n], image[n], pixels[n] = i, index, 0
                    n += 1
                pixels[n - 1] += col - begin
    return owner[:n].copy(), image[:n].copy(), pixels[:n].copy()
