"""Cuts between neighbours: where the probability of building falls between two high places.

One threshold cannot serve everywhere. Where buildings stand close a low one joins them, and where
a network is unsure (roofs and ground that it never learned) a high one leaves crumbs. So the
threshold is low, and what it joins is cut along the valleys that are deep enough: a watershed whose
basins are the maxima with a sufficient dynamic. The dynamic of a maximum is how far one has to come
down from it on the best way to a higher one (Grimaud, "A new measure of contrast: the dynamics",
SPIE 1769, 1992). Basins grow from their maxima in order of falling probability, first come first
served, and leave a line of pixels where they meet (Meyer, "Topographic distance and watershed
lines", Signal Processing 38, 1994).

Integers only, so that equal input gives equal bits on any machine. What is stored of a tile depends
on this file: raise `pipeline.formats.TILE_FORMAT` when its results change.
"""

import numba
import numpy as np
import numpy.typing as npt

from geo.connectivity import find_root

Uint8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]

_LEVELS = 256
_NONE = np.int32(-1)
# What becomes of a pixel: not reached yet, waiting in a queue, a line between basins.
_UNSEEN, _WAITING, _LINE = np.int32(0), np.int32(-1), np.int32(-2)


def cut_valleys(probability: Uint8Array, *, floor: int, depth: int) -> Uint8Array:
    """Lower the pixels between maxima that a valley parts, so that components come apart.

    Every 4-connected component of the pixels with at least `floor` falls into as many components as
    it has maxima with a dynamic of at least `depth` (its highest one always counts), and one more
    for each low hill that nothing but a line between two others touches. Only pixels of the lines
    are changed; each touches two components of the result.

    Args:
        probability: uint8, shape (height, width); not changed.
        floor: least probability of a building pixel, 1 to 255.
        depth: least fall from a maximum on the best way to a higher one, 1 to 255.

    Returns:
        uint8, same shape: `floor - 1` on the lines, the input elsewhere.

    Raises:
        ValueError: if a shape, dtype or value is not as described.
    """
    if probability.dtype != np.uint8 or probability.ndim != 2:
        raise ValueError(
            f"probability is {probability.dtype} of shape {probability.shape}; expected uint8 with "
            "two axes"
        )
    for name, value in (("floor", floor), ("depth", depth)):
        if not 1 <= value <= 255:
            raise ValueError(f"{name} = {value}; expected 1 to 255")
    # A frame of zeros, so that every pixel has four neighbours.
    framed = np.zeros((probability.shape[0] + 2, probability.shape[1] + 2), np.uint8)
    framed[1:-1, 1:-1] = probability
    levels = framed.ravel()
    # Zeros from numpy are pages of memory only where something is written: little of most ground.
    parent = np.zeros(levels.size, np.int32)
    maxima = _find_neighbours(levels, framed.shape[1], floor, depth, parent)
    if len(maxima) == 0:
        return probability.copy()
    basin, after = np.zeros(levels.size, np.int32), np.zeros(levels.size, np.int32)
    _draw_lines(levels, framed.shape[1], floor, maxima, basin, after)
    return np.ascontiguousarray(framed[1:-1, 1:-1])


@numba.njit(cache=True, nogil=True)
def _sort_falling(levels: Uint8Array, floor: int) -> Int32Array:
    """Positions of the pixels with at least `floor`, highest first, then in scan order."""
    begin = np.zeros(_LEVELS + 1, np.int64)
    for level in levels:
        if level >= floor:
            begin[_LEVELS - level] += 1
    for k in range(_LEVELS):
        begin[k + 1] += begin[k]
    order = np.empty(begin[_LEVELS], np.int32)
    for pixel in range(len(levels)):
        level = levels[pixel]
        if level >= floor:
            k = _LEVELS - 1 - level
            order[begin[k]] = pixel
            begin[k] += 1
    return order


@numba.njit(cache=True, nogil=True)
def _find_neighbours(
    levels: Uint8Array, width: int, floor: int, depth: int, parent: Int32Array
) -> Int32Array:
    """The first pixel of each maximum that counts, of the components that have two of them.

    Union-find over pixels of falling probability. The root of a set is the first pixel of its
    highest maximum; of equal ones the first in scan order is the higher.

    parent: zeros, one a pixel, which means that it was not met yet: pixel 0 lies in the frame.
    """
    order = _sort_falling(levels, floor)
    maxima = np.empty(len(order), np.int32)
    num_lower = 0
    for pixel in order:
        level = np.int64(levels[pixel])
        parent[pixel] = pixel
        for step in (-width, -1, 1, width):
            if parent[pixel + step] == 0:
                continue
            high, low = find_root(parent, pixel), find_root(parent, pixel + step)
            if high == low:
                continue
            if levels[high] < levels[low] or (levels[high] == levels[low] and high > low):
                high, low = low, high
            if np.int64(levels[low]) - level >= depth:
                maxima[num_lower] = low
                num_lower += 1
            parent[low] = high
    return _with_highest(maxima, num_lower, parent)


@numba.njit(cache=True, nogil=True)
def _with_highest(maxima: Int32Array, num_lower: int, parent: Int32Array) -> Int32Array:
    """Lower maxima, and after them, once each, the highest of the components they lie in."""
    roots = np.empty(num_lower, np.int32)
    for k in range(num_lower):
        roots[k] = find_root(parent, maxima[k])
    return np.concatenate((maxima[:num_lower], np.unique(roots)))


@numba.njit(cache=True, nogil=True)
def _draw_lines(
    levels: Uint8Array,
    width: int,
    floor: int,
    maxima: Int32Array,
    basin: Int32Array,
    after: Int32Array,
) -> None:
    """Flood from the maxima; lower in place what is left between the basins.

    Components that no maximum lies in are not looked at: nothing is to be cut there.

    basin: zeros, one a pixel; after: work space of the same size.
    """
    # One queue per level: heads, tails, and in `after` the pixel after each one.
    head = np.full(_LEVELS, _NONE, np.int32)
    tail = np.full(_LEVELS, _NONE, np.int32)
    for number in range(len(maxima)):
        pixel = maxima[number]
        _enqueue(pixel, levels[pixel], head, tail, after)
        # Its own number, before anyone comes.
        basin[pixel] = number + 1
    level = _LEVELS - 1
    while level >= floor:
        pixel = head[level]
        if pixel < 0:
            level -= 1
            continue
        head[level] = after[pixel]
        if basin[pixel] <= 0:
            basin[pixel] = _basin_of_neighbours(basin, pixel, width)
        if basin[pixel] == _LINE:
            # Nobody looks at the level of a pixel that was seen.
            levels[pixel] = floor - 1
            continue
        for step in (-width, -1, 1, width):
            other = pixel + step
            if basin[other] == _UNSEEN and levels[other] >= floor:
                basin[other] = _WAITING
                _enqueue(other, levels[other], head, tail, after)
                # A hill that does not count is flooded whole by the basin that reaches it first.
                if levels[other] > level:
                    level = int(levels[other])


@numba.njit(cache=True, nogil=True)
def _enqueue(pixel: int, level: int, head: Int32Array, tail: Int32Array, after: Int32Array) -> None:
    after[pixel] = _NONE
    if head[level] < 0:
        head[level] = pixel
    else:
        after[tail[level]] = pixel
    tail[level] = pixel


@numba.njit(cache=True, nogil=True)
def _basin_of_neighbours(basin: Int32Array, pixel: int, width: int) -> np.int32:
    """The one basin that a pixel touches, or a line where it touches two."""
    found = _LINE
    for step in (-width, -1, 1, width):
        other = basin[pixel + step]
        if other <= 0:
            continue
        if found > 0 and other != found:
            return _LINE
        found = other
    return found
