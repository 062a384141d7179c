"""Growing instances back by whole pixels: the network learns buildings eroded by that much."""

import dataclasses

import numba
import numpy as np

from geo.instances import Instances, Int32Array, Int64Array


def grow_instances(instances: Instances, radius_px: int) -> Instances:
    """Dilate each instance by a square of (2 radius_px + 1) pixels, alone.

    Grown instances may overlap each other: nothing but the instance itself decides its shape. On
    pixel outlines the square is the mitred offset. The order, `num_pixels`, the sums of
    probability and rim and the image counts stay those of the input. So the result need not be
    sorted by first pixel, and ids and confidences are taken from the input.

    Works on runs: the union with itself, shifted down by as many rows as it already spans, doubles
    the height of the square, so that ceil(log2(2 radius_px + 1)) linear passes do.

    Args:
        instances: any instances.
        radius_px: how far to grow in every direction, in pixels; 0 gives the input back.

    Raises:
        ValueError: if `radius_px` is negative.
    """
    if radius_px < 0:
        raise ValueError(f"radius_px = {radius_px}; expected 0 or more pixels")
    if radius_px == 0:
        return instances
    runs = (instances.run_row, instances.run_start, instances.run_end, instances.run_offsets)
    height, widen_px = 1, radius_px
    while height < 2 * radius_px + 1:
        shift = min(height, 2 * radius_px + 1 - height)
        runs = _unite_with_shifted(*runs, shift, widen_px)
        height, widen_px = height + shift, 0
    row, start, end, offsets = runs
    return dataclasses.replace(
        instances,
        run_row=row - np.int32(radius_px),
        run_start=start,
        run_end=end,
        run_offsets=offsets,
    )


@numba.njit(cache=True, nogil=True)
def _unite_with_shifted(
    run_row: Int32Array,
    run_start: Int32Array,
    run_end: Int32Array,
    run_offsets: Int64Array,
    shift: int,
    widen_px: int,
) -> tuple[Int32Array, Int32Array, Int32Array, Int64Array]:
    """Union of each instance, widened on both sides, with itself `shift` rows further down."""
    capacity = 2 * len(run_row)
    row = np.empty(capacity, np.int32)
    start, end = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    offsets = np.zeros_like(run_offsets)
    n = 0
    for i in range(len(run_offsets) - 1):
        begin = n
        a, b, stop = run_offsets[i], run_offsets[i], run_offsets[i + 1]
        # Merge by (row, start): `a` in place, `b` shifted down and so never ahead of `a`.
        while b < stop:
            r, k = run_row[b] + shift, b
            if a < stop and (run_row[a] < r or (run_row[a] == r and run_start[a] < run_start[b])):
                r, k = run_row[a], a
                a += 1
            else:
                b += 1
            s, e = run_start[k] - widen_px, run_end[k] + widen_px
            if n > begin and row[n - 1] == r and s <= end[n - 1]:
                end[n - 1] = max(end[n - 1], e)
            else:
                row[n], start[n], end[n] = r, s, e
                n += 1
        offsets[i + 1] = n
    return row[:n].copy(), start[:n].copy(), end[:n].copy(), offsets
