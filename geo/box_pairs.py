"""Which boxes of two lists meet, without making a geometry of any of them.

The boxes of the second list are sorted into cells about twice as wide as they are; each box of the
first looks into the cells that it touches. A pair that several cells hold is told by the one with
the lower left corner of what both boxes share.

Only cells that hold something take room: they lie in a table by a hash of their column and row
(Teschner et al. 2003, "Optimized spatial hashing for collision detection of deformable objects"),
so that boxes in clusters far from each other, as on both sides of the antimeridian, cost no more
than boxes side by side.
"""

import numba
import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

_MAX_CELLS_PER_BOX = 8
_MIN_EXTENT = 1e-12
_MAX_CELLS_A_SIDE = 1e9
# Odd; times a row of the largest grid it stays below 2 ** 63. Cells of a row are neighbours.
_ROW_STRIDE = 2654435761
_MAX_INSERTED = 32


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
    origin, size, shape = _grid_of(first, second)
    spans, own = _cell_spans(first, origin, size, shape), _cell_spans(second, origin, size, shape)
    starts, members = _fill_slots(own, _num_slots(_num_touched(own)))
    none = np.zeros(0, np.int64)
    num_pairs = _find_pairs(first, second, spans, own, starts, members, none, none)
    pairs = np.empty(num_pairs, np.int64), np.empty(num_pairs, np.int64)
    _find_pairs(first, second, spans, own, starts, members, *pairs)
    return pairs


def _grid_of(
    first: Float64Array, second: Float64Array
) -> tuple[Float64Array, Float64Array, Int64Array]:
    """Origin, cell size and (columns, rows) of a grid over the second boxes."""
    origin, end = second[:, :2].min(axis=0), second[:, 2:].max(axis=0)
    extent = np.maximum(end - origin, _MIN_EXTENT)
    size = 2 * (second[:, 2:] - second[:, :2]).mean(axis=0)
    size = np.maximum(size, extent / _MAX_CELLS_A_SIDE)
    while True:
        shape = np.floor(extent / size).astype(np.int64) + 1
        # A hall among many houses must not lie in a thousand cells.
        num = sum(_num_touched(_cell_spans(b, origin, size, shape)) for b in (first, second))
        if num <= _MAX_CELLS_PER_BOX * (len(first) + len(second)):
            return origin, size, shape
        size = np.minimum(2 * size, extent)


@numba.njit(cache=True, nogil=True)
def _cell_spans(
    boxes: Float64Array, origin: Float64Array, size: Float64Array, shape: Int64Array
) -> Int64Array:
    """(west, south, east, north) of the cells that boxes touch, int64, shape (n, 4)."""
    spans = np.empty(boxes.shape, np.int64)
    for i in range(len(boxes)):
        for side in range(4):
            axis = side % 2
            place = (boxes[i, side] - origin[axis]) / size[axis]
            # Clipped before it is made an integer: far outside no integer would hold it.
            spans[i, side] = int(min(max(place, 0.0), shape[axis] - 1.0))
    return spans


@numba.njit(cache=True, nogil=True)
def _num_touched(spans: Int64Array) -> float:
    """Cells that boxes touch, all together."""
    num = 0.0
    for i in range(len(spans)):
        num += (spans[i, 2] - spans[i, 0] + 1.0) * (spans[i, 3] - spans[i, 1] + 1.0)
    return num


def _num_slots(num_members: float) -> int:
    """The next power of two, so that a slot has less than one member on the average."""
    return 1 << int(num_members).bit_length()


@numba.njit(cache=True, nogil=True)
def _slot(col: int, row: int, num_slots: int) -> int:
    return (row * _ROW_STRIDE + col) & (num_slots - 1)


@numba.njit(cache=True, nogil=True)
def _fill_slots(spans: Int64Array, num_slots: int) -> tuple[Int64Array, Int64Array]:
    """First member of each slot; and (box, column, row) of each member, a cell that it touches."""
    starts = np.zeros(num_slots + 1, np.int64)
    for i in range(len(spans)):
        for row in range(spans[i, 1], spans[i, 3] + 1):
            for col in range(spans[i, 0], spans[i, 2] + 1):
                starts[_slot(col, row, num_slots) + 1] += 1
    starts = np.cumsum(starts)
    members, at = np.empty((starts[-1], 3), np.int64), starts.copy()
    for i in range(len(spans)):
        for row in range(spans[i, 1], spans[i, 3] + 1):
            for col in range(spans[i, 0], spans[i, 2] + 1):
                slot = _slot(col, row, num_slots)
                members[at[slot], 0], members[at[slot], 1], members[at[slot], 2] = i, col, row
                at[slot] += 1
    return starts, members


@numba.njit(cache=True, nogil=True)
def _sort(values: Int64Array) -> None:
    """In place; of a few values, as most have, by insertion."""
    if len(values) > _MAX_INSERTED:
        values.sort()
        return
    for k in range(1, len(values)):
        value, at = values[k], k
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value


@numba.njit(cache=True, nogil=True)
def _find_pairs(
    first: Float64Array,
    second: Float64Array,
    spans: Int64Array,
    own: Int64Array,
    starts: Int64Array,
    members: Int64Array,
    pair_first: Int64Array,
    pair_second: Int64Array,
) -> int:
    """Number of pairs; they are written down, in order, if there is room for them."""
    num, num_slots = 0, len(starts) - 1
    for i in range(len(first)):
        begin = num
        for row in range(spans[i, 1], spans[i, 3] + 1):
            for col in range(spans[i, 0], spans[i, 2] + 1):
                slot = _slot(col, row, num_slots)
                for k in range(starts[slot], starts[slot + 1]):
                    # Cells that share a slot, and all but one of those that hold the pair.
                    if members[k, 1] != col or members[k, 2] != row:
                        continue
                    j = members[k, 0]
                    if max(spans[i, 0], own[j, 0]) != col or max(spans[i, 1], own[j, 1]) != row:
                        continue
                    if first[i, 0] > second[j, 2] or second[j, 0] > first[i, 2]:
                        continue
                    if first[i, 1] > second[j, 3] or second[j, 1] > first[i, 3]:
                        continue
                    if len(pair_first):
                        pair_first[num], pair_second[num] = i, j
                    num += 1
        if len(pair_first):
            _sort(pair_second[begin:num])
    return num
