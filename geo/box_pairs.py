"""Which boxes of two lists meet, without making a geometry of any of them.

The boxes of the second list are sorted into a grid of cells about twice as wide as they are; each
box of the first looks into the cells that it touches. A pair that several cells hold is told by the
one with the lower left corner of what both boxes share.
"""

import math

import numba
import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

_MAX_CELLS_PER_BOX = 4


def meeting_boxes(first: Float64Array, second: Float64Array) -> tuple[Int64Array, Int64Array]:
    """Pairs of boxes that share a point, edges included.

    Args:
        first: (min_x, min_y, max_x, max_y), finite, float64, shape (num_first, 4).
        second: the same, shape (num_second, 4).

    Returns:
        Index of the first and of the second of each pair, int64, by the first, then the second.
    """
    if len(first) == 0 or len(second) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first, second = np.ascontiguousarray(first), np.ascontiguousarray(second)
    grid = _grid_of(second)
    starts, members = _fill_cells(second, *grid)
    num_pairs = _find_pairs(first, second, *grid, starts, members, np.zeros((0, 2), np.int64))
    pairs = np.empty((num_pairs, 2), np.int64)
    _find_pairs(first, second, *grid, starts, members, pairs)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order, 0], pairs[order, 1]


def _grid_of(boxes: Float64Array) -> tuple[Float64Array, Float64Array, int, int]:
    """Origin, cell size, columns and rows of a grid over boxes."""
    origin, end = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    extent = np.maximum(end - origin, 1e-12)
    size = np.maximum(2 * (boxes[:, 2:] - boxes[:, :2]).mean(axis=0), extent * 1e-9)
    # No more cells than a few for each box, however far apart they lie.
    excess = (extent / size + 1).prod() / (_MAX_CELLS_PER_BOX * len(boxes))
    size = np.minimum(size * math.sqrt(max(excess, 1.0)), extent)
    num_cols, num_rows = (np.floor(extent / size).astype(np.int64) + 1).tolist()
    return origin, size, num_cols, num_rows


@numba.njit(cache=True, nogil=True)
def _cell(value: float, origin: float, size: float, num: int) -> int:
    return min(max(int((value - origin) / size), 0), num - 1)


@numba.njit(cache=True, nogil=True)
def _fill_cells(
    boxes: Float64Array, origin: Float64Array, size: Float64Array, num_cols: int, num_rows: int
) -> tuple[Int64Array, Int64Array]:
    """First member of each cell, and the boxes that touch it."""
    starts = np.zeros(num_cols * num_rows + 1, np.int64)
    for turn in range(2):
        if turn == 1:
            starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(starts[:-1])))
            members = np.empty(starts[-1], np.int64)
            at = starts[:-1].copy()
        else:
            members, at = np.empty(0, np.int64), starts
        for i in range(len(boxes)):
            west = _cell(boxes[i, 0], origin[0], size[0], num_cols)
            east = _cell(boxes[i, 2], origin[0], size[0], num_cols)
            south = _cell(boxes[i, 1], origin[1], size[1], num_rows)
            north = _cell(boxes[i, 3], origin[1], size[1], num_rows)
            for row in range(south, north + 1):
                for col in range(west, east + 1):
                    cell = row * num_cols + col
                    if turn == 1:
                        members[at[cell]] = i
                    at[cell] += 1
    return starts, members


@numba.njit(cache=True, nogil=True)
def _find_pairs(
    first: Float64Array,
    second: Float64Array,
    origin: Float64Array,
    size: Float64Array,
    num_cols: int,
    num_rows: int,
    starts: Int64Array,
    members: Int64Array,
    pairs: Int64Array,
) -> int:
    """Number of pairs; they are written down if there is room for them."""
    num = 0
    for i in range(len(first)):
        west = _cell(first[i, 0], origin[0], size[0], num_cols)
        east = _cell(first[i, 2], origin[0], size[0], num_cols)
        south = _cell(first[i, 1], origin[1], size[1], num_rows)
        north = _cell(first[i, 3], origin[1], size[1], num_rows)
        for row in range(south, north + 1):
            for col in range(west, east + 1):
                cell = row * num_cols + col
                for k in range(starts[cell], starts[cell + 1]):
                    j = members[k]
                    left, right = max(first[i, 0], second[j, 0]), min(first[i, 2], second[j, 2])
                    low, high = max(first[i, 1], second[j, 1]), min(first[i, 3], second[j, 3])
                    if left > right or low > high:
                        continue
                    if _cell(left, origin[0], size[0], num_cols) != col:
                        continue
                    if _cell(low, origin[1], size[1], num_rows) != row:
                        continue
                    if len(pairs):
                        pairs[num, 0], pairs[num, 1] = i, j
                    num += 1
    return num
