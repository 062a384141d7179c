"""Maxima with a sufficient dynamic: how far one has to come down from each to reach a higher one.

The dynamic is that of Grimaud ("A new measure of contrast: the dynamics", SPIE 1769, 1992). It is
found by union-find over the pixels of falling level: where two hills meet, the lower one's dynamic
is known. Of equal pixels the first in scan order is the higher.

Nearly all of those unions join a pixel to the slope it lies on. Here rows are first divided at
their lowest points into ridges, and a ridge whose top has a higher pixel above or below it belongs
to the hill there. What is left are the places where hills meet: in the order of the pixels these
make the same unions of the same hills as all pairs of neighbours would.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from geo.connectivity import find_root
from geo.kernels import inlined_njit, unsigned

Uint8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Uint64Array = npt.NDArray[np.uint64]

_ZERO = np.uint64(0)
# A ridge: its first column, the one after its last, the first pixel of its highest level, the ridge
# of the same hill that it hangs on.
_START, _END, _TOP, _UPPER = 0, 1, 2, 3
# A place where hills meet: its rank among all of them, and the ridges there.
_RANK, _OWN, _OTHER = 0, 1, 2
# The neighbours of a pixel in the order in which they are looked at; the left one is not needed.
_UP, _RIGHT, _DOWN, _STEPS = 0, 2, 3, 4


class PartedComponents(NamedTuple):
    """Components with two maxima or more that count.

    Attributes:
        maxima: (row, col) of the first pixel of each, int32, shape (n, 2); by component, its
            highest one last and the others in the order in which they meet a higher one.
        maximum_offsets: component k has maxima[maximum_offsets[k]:maximum_offsets[k + 1]]; int64.
        runs: (row, first column, column after the last one), int32, shape (n, 3); the pixels, by
            component and in scan order.
        run_offsets: component k has runs[run_offsets[k]:run_offsets[k + 1]]; int64.
    """

    maxima: Int32Array
    maximum_offsets: Int64Array
    runs: Int32Array
    run_offsets: Int64Array


def find_parted(levels: Uint8Array, *, floor: int, depth: int) -> PartedComponents:
    """The 4-connected components of pixels with at least `floor` that have two maxima that count.

    A maximum counts if its dynamic is at least `depth`, and the highest of a component always.

    Args:
        levels: uint8, shape (height, width), C-contiguous; not changed.
        floor: 1 to 255.
        depth: 1 to 255.
    """
    ridges, first_ridge = _find_ridges(levels, np.uint8(floor))
    parent = ridges[:, _UPPER].copy()
    places = _find_meetings(levels, ridges, first_ridge, parent)
    order = _sort_ranks(places[:, _RANK], 256 * levels.size * _STEPS)
    lower = _join_hills(levels, ridges, places, order, depth, parent)
    component, highest = _number_components(lower, parent)
    tops = np.concatenate((lower, highest))
    order, maximum_offsets = _sort_by_component(component[tops], len(highest))
    maxima = np.column_stack(np.divmod(ridges[tops[order], _TOP], levels.shape[1]))
    order, run_offsets = _sort_by_component(component, len(highest))
    runs = _take_runs(ridges, order, levels.shape[1])
    return PartedComponents(maxima, maximum_offsets, runs, run_offsets)


@numba.njit(cache=True, nogil=True)
def _find_ridges(levels: Uint8Array, floor: np.uint8) -> tuple[Int32Array, Int64Array]:
    """Ridges in scan order, and the number of each row's first."""
    height, width = levels.shape
    # With room behind the row, where nothing is.
    line, is_high = np.zeros(width + 1, np.uint8), np.zeros(width // 8 * 8 + 8, np.bool_)
    # The ridge of each column, in the row above and in this one.
    above, here = np.empty(width, np.int32), np.empty(width, np.int32)
    ridges, first_ridge = np.empty((width + 1, 4), np.int32), np.zeros(height + 1, np.int64)
    for row in range(height):
        begin = first_ridge[row]
        if begin + width > len(ridges):
            ridges = np.concatenate((ridges, np.empty_like(ridges)))
        pixels = levels[row]
        for col in range(width):
            line[col], is_high[col] = pixels[col], pixels[col] >= floor
        words = is_high.view(np.uint64)
        end = _divide_row(line, floor, words, is_high, row * width, begin, ridges, here)
        if row > 0:
            upper, offset = ridges[first_ridge[row - 1] : begin], (row - 1) * width
            _hang(upper, offset, levels[row - 1], pixels, here, 1)
            _hang(ridges[begin:end], row * width, pixels, levels[row - 1], above, 0)
        first_ridge[row + 1] = end
        above, here = here, above
    return ridges[: first_ridge[height]], first_ridge


@inlined_njit()
def _divide_row(
    line: Uint8Array,
    floor: np.uint8,
    words: Uint64Array,
    is_high: BoolArray,
    offset: int,
    number: int,
    ridges: Int32Array,
    here: Int32Array,
) -> int:
    """Ridges of a row: up, and then not up any more; the number after the last one's."""
    col, width = 0, len(line) - 1
    while col < width:
        # Most ground is passed eight pixels at a time.
        if words[col >> 3] == _ZERO:
            col = (col | 7) + 1
            continue
        if not is_high[col]:
            col += 1
            continue
        start, top, is_rising = col, col, True
        while True:
            here[unsigned(col)] = number
            ridges[unsigned(number), _START], ridges[unsigned(number), _END] = start, col + 1
            ridges[unsigned(number), _TOP], ridges[unsigned(number), _UPPER] = offset + top, number
            col += 1
            if line[unsigned(col)] < floor:
                break
            rises = line[unsigned(col)] > line[unsigned(col - 1)]
            is_start = rises > is_rising
            number += is_start
            start = col if is_start else start
            top = col if rises else top
            is_rising = rises
        number += 1
    return number


@inlined_njit()
def _hang(
    ridges: Int32Array,
    offset: int,
    line: Uint8Array,
    beside: Uint8Array,
    ridge_beside: Int32Array,
    least: int,
) -> None:
    """Hang ridges of a row on those of the row beside it, where their tops have a higher pixel.

    Which one a ridge hangs on if there are two makes no difference.

    least: by how much: of equal pixels the one above is the higher.
    """
    for k in range(len(ridges)):
        col = ridges[k, _TOP] - offset
        upper, own = np.int64(ridge_beside[col]), np.int64(ridges[k, _UPPER])
        ridges[k, _UPPER] = upper if np.int64(beside[col]) - line[col] >= least else own


@numba.njit(cache=True, nogil=True)
def _find_meetings(
    levels: Uint8Array, ridges: Int32Array, first_ridge: Int64Array, parent: Int32Array
) -> Int64Array:
    """The first place where any two ridges of different hills touch, int64, shape (n, 3).

    At every later one they are joined already.

    parent: of the ridges; becomes the top ridges of their hills.
    """
    for k in range(len(parent)):
        parent[k] = find_root(parent, k)
    # To the right at most one, and downwards fewer than both rows have ridges.
    places = np.empty((3 * len(ridges), 3), np.int64)
    num = 0
    for row in range(len(levels)):
        begin, end = first_ridge[row], first_ridge[row + 1]
        for k in range(begin, end - 1):
            if parent[k] != parent[k + 1] and ridges[k, _END] == ridges[k + 1, _START]:
                col = ridges[k, _END] - 1
                places[num, _RANK] = _rank(levels, row, col, _RIGHT)
                places[num, _OWN], places[num, _OTHER] = k, k + 1
                num += 1
        if row > 0:
            above = first_ridge[row - 1]
            num = _meet_above(levels, row, ridges, above, begin, end, parent, places, num)
    return places[:num]


@inlined_njit()
def _meet_above(
    levels: Uint8Array,
    row: int,
    ridges: Int32Array,
    above: int,
    begin: int,
    end: int,
    parent: Int32Array,
    places: Int64Array,
    num: int,
) -> int:
    """Append the places between a row and the one above it; their number then.

    above, begin, end: the first ridge of the row above, of this row and of the next one.
    """
    here = begin
    while above < begin and here < end:
        above_end, here_end = ridges[above, _END], ridges[here, _END]
        first = max(ridges[above, _START], ridges[here, _START])
        stop = min(above_end, here_end)
        if first < stop and parent[above] != parent[here]:
            col, is_above = _lower_pixel(levels[row - 1], levels[row], first, stop)
            if is_above:
                places[num, _RANK] = _rank(levels, row - 1, col, _DOWN)
            else:
                places[num, _RANK] = _rank(levels, row, col, _UP)
            places[num, _OWN], places[num, _OTHER] = above, here
            num += 1
        above += above_end <= here_end
        here += here_end < above_end
    return num


@inlined_njit()
def _lower_pixel(
    above: Uint8Array, here: Uint8Array, first: int, stop: int
) -> tuple[np.int64, np.bool_]:
    """The lower pixel of the highest pair, the first in scan order: column, and if it is above."""
    best, found = np.int64(-1), np.int64(first)
    for col in range(first, stop):
        a, b = np.int64(above[unsigned(col)]), np.int64(here[unsigned(col)])
        # Of equal ones the one above is the higher.
        value = 2 * min(a, b) + (a < b)
        found = np.int64(col) if value > best else found
        best = max(best, value)
    return found, best % 2 == 1


@inlined_njit()
def _rank(levels: Uint8Array, row: int, col: int, step: int) -> int:
    """Order of pairs of neighbours: level, pixel and step from the lower pixel to the other."""
    height, width = levels.shape
    return (((255 - np.int64(levels[row, col])) * height + row) * width + col) * _STEPS + step


def _sort_ranks(ranks: Int64Array, end: int) -> Int64Array:
    """Indices of the ranks, all different and below `end`, in ascending order."""
    num_bits = len(ranks).bit_length()
    if end << num_bits >= 2**63:
        return np.argsort(ranks)
    # numpy sorts numbers several times as fast as their indices.
    order = ranks << num_bits
    order |= np.arange(len(ranks))
    order.sort()
    order &= (1 << num_bits) - 1
    return order


@numba.njit(cache=True, nogil=True)
def _join_hills(
    levels: Uint8Array,
    ridges: Int32Array,
    places: Int64Array,
    order: Int64Array,
    depth: int,
    parent: Int32Array,
) -> Int64Array:
    """Top ridges of the lower maxima that count, in the order in which they meet a higher one.

    Union-find; the root of a set is the ridge of its highest maximum. Ridges are numbered in scan
    order, so of equal ones the smaller number is the higher.
    """
    flat = levels.ravel()
    lower = np.empty(len(places), np.int64)
    num = 0
    for k in order:
        high, low = find_root(parent, places[k, _OWN]), find_root(parent, places[k, _OTHER])
        if high == low:
            continue
        most, least = np.int64(flat[ridges[high, _TOP]]), np.int64(flat[ridges[low, _TOP]])
        if most < least or (most == least and high > low):
            high, low, least = low, high, most
        level = 255 - places[k, _RANK] // (flat.size * _STEPS)
        if least - level >= depth:
            lower[num] = low
            num += 1
        parent[low] = high
    return lower[:num]


@numba.njit(cache=True, nogil=True)
def _number_components(lower: Int64Array, parent: Int32Array) -> tuple[Int32Array, Int64Array]:
    """The component of each ridge, -1 where no lower maximum is, and the roots of components."""
    component, roots = np.full(len(parent), -1, np.int32), np.empty(len(lower), np.int64)
    num = 0
    for ridge in lower:
        root = find_root(parent, ridge)
        if component[root] < 0:
            component[root], roots[num] = num, root
            num += 1
    for k in range(len(parent)):
        component[k] = component[find_root(parent, k)]
    return component, roots[:num]


@numba.njit(cache=True, nogil=True)
def _sort_by_component(component: Int32Array, num: int) -> tuple[Int64Array, Int64Array]:
    """Indices by component, otherwise in order, and each component's first one among them."""
    offsets = np.zeros(num + 1, np.int64)
    for k in range(len(component)):
        if component[k] >= 0:
            offsets[component[k] + 1] += 1
    for c in range(num):
        offsets[c + 1] += offsets[c]
    order, fill = np.empty(offsets[num], np.int64), offsets.copy()
    for k in range(len(component)):
        c = component[k]
        if c >= 0:
            order[fill[c]] = k
            fill[c] += 1
    return order, offsets


@numba.njit(cache=True, nogil=True)
def _take_runs(ridges: Int32Array, order: Int64Array, width: int) -> Int32Array:
    """(row, first column, column after the last one) of some ridges."""
    runs = np.empty((len(order), 3), np.int32)
    for i in range(len(order)):
        k = order[i]
        runs[i, 0] = ridges[k, _TOP] // width
        runs[i, 1], runs[i, 2] = ridges[k, _START], ridges[k, _END]
    return runs
