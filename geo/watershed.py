"""Cuts between neighbours: where the probability of building falls between two high places.

One threshold cannot serve everywhere. Where buildings stand close a low one joins them, and where
a network is unsure (roofs and ground that it never learned) a high one leaves crumbs. So the
threshold is low, and what it joins is cut along the valleys that are deep enough: a watershed whose
basins are the maxima with a sufficient dynamic (`geo.dynamics`). Basins grow from their maxima in
order of falling probability, first come first served, and leave a line of pixels where they meet
(Meyer, "Topographic distance and watershed lines", Signal Processing 38, 1994).

Integers only, so that equal input gives equal bits on any machine. What is stored of a tile depends
on this file and on `geo.dynamics`: raise `pipeline.formats.TILE_FORMAT` when its results change.
"""

import numba
import numpy as np
import numpy.typing as npt

from geo.dynamics import find_parted
from geo.kernels import borrowing_njit, inlined_njit, unsigned

Uint8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

_LEVELS = 256
# The state of a pixel is one number, so that a look at a neighbour is one access to memory:
# - above 0: the basin that it belongs to;
# - 0: nothing, for it lies outside of the component or on a line;
# - below 0: minus the pixel that waits behind it in the queue of their level (0 behind the last);
# - from the least int32 on: not reached yet; that number plus its level.
_UNSEEN = -(2**31)
_SEEN = _UNSEEN + _LEVELS


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
    levels = np.ascontiguousarray(probability)
    cut = levels.copy()
    _cut_components(levels, floor, *find_parted(levels, floor=floor, depth=depth), cut)
    return cut


@numba.njit(cache=True, nogil=True)
def _cut_components(
    levels: Uint8Array,
    floor: int,
    maxima: Int32Array,
    maximum_offsets: Int64Array,
    runs: Int32Array,
    run_offsets: Int64Array,
    cut: Uint8Array,
) -> None:
    """Flood each component from its maxima; lower in place what is left between the basins.

    maxima, maximum_offsets, runs, run_offsets: see `geo.dynamics.PartedComponents`.
    """
    # One component after the other, each in an array of its own extent, which stays in the cache.
    state, tails = np.zeros(_LEVELS, np.int32), np.empty(_LEVELS, np.int32)
    for k in range(len(run_offsets) - 1):
        own = runs[run_offsets[k] : run_offsets[k + 1]]
        start, width, size = _place(own)
        if size > len(state):
            state = np.zeros(max(size, 2 * len(state)), np.int32)
        _fill(levels, own, start, width, state)
        _flood(
            maxima[maximum_offsets[k] : maximum_offsets[k + 1]], floor, start, width, state, tails
        )
        _lower_lines(own, start, width, floor, state, cut)


@inlined_njit()
def _place(runs: Int32Array) -> tuple[np.int64, np.int64, np.int64]:
    """Where a component's pixels lie in `state`: (row, col) at start + width * row + col.

    Before them are the heads of the queues, and around them a frame of zeros, so that every pixel
    has four neighbours.

    Returns:
        (start, width, size).
    """
    top, bottom = np.int64(runs[0, 0]), np.int64(runs[-1, 0])
    left, right = np.int64(runs[0, 1]), np.int64(runs[0, 2])
    for k in range(1, len(runs)):
        left, right = min(left, np.int64(runs[k, 1])), max(right, np.int64(runs[k, 2]))
    width = right - left + 2
    return _LEVELS + width * (1 - top) + 1 - left, width, _LEVELS + width * (bottom - top + 3)


@inlined_njit()
def _fill(levels: Uint8Array, runs: Int32Array, start: int, width: int, state: Int32Array) -> None:
    """No pixel was reached yet."""
    for k in range(len(runs)):
        row, first = np.int64(runs[k, 0]), np.int64(runs[k, 1])
        pixels = levels[row, first : runs[k, 2]]
        for i in range(len(pixels)):
            state[unsigned(start + width * row + first + i)] = _UNSEEN + np.int64(pixels[i])


@inlined_njit()
def _lower_lines(
    runs: Int32Array, start: int, width: int, floor: int, state: Int32Array, cut: Uint8Array
) -> None:
    """Lower the pixels of a component that belong to no basin; leave zeros in `state`.

    What lines enclose may not have been reached: it stays.
    """
    for k in range(len(runs)):
        row = np.int64(runs[k, 0])
        for col in range(runs[k, 1], runs[k, 2]):
            pixel = unsigned(start + width * row + col)
            if state[pixel] == 0:
                cut[row, col] = floor - 1
            state[pixel] = 0


@borrowing_njit()
def _flood(
    maxima: Int32Array, floor: int, start: int, width: int, state: Int32Array, tails: Int32Array
) -> None:
    """Give each pixel of a component to a basin, or to a line between them.

    There is a queue per level. Its head is state[level]: like any pixel that waits it says who
    comes next; tails[level] is the last one, or the head.
    """
    for k in range(_LEVELS):
        tails[k] = k
    level, num_basins = 0, 0
    for k in range(len(maxima)):
        pixel = start + width * np.int64(maxima[k, 0]) + maxima[k, 1]
        level = max(level, _enqueue(pixel, state[pixel], state, tails))
    while level >= floor:
        pixel = -np.int64(state[unsigned(level)])
        if pixel == 0:
            level -= 1
            continue
        state[unsigned(level)] = state[unsigned(pixel)]
        if state[unsigned(pixel)] == 0:
            tails[unsigned(level)] = level
        up, down = _look(state, pixel - width), _look(state, pixel + width)
        left, right = _look(state, pixel - 1), _look(state, pixel + 1)
        basin = max(max(up, left), max(right, down))
        if basin <= 0:
            # Nobody comes to a maximum before it is its own turn.
            num_basins += 1
            basin = num_basins
        elif _touches_other(up, left, right, down, basin):
            state[unsigned(pixel)] = 0
            continue
        state[unsigned(pixel)] = basin
        # A hill that does not count is flooded whole by the basin that reaches it first.
        if up < _SEEN:
            level = max(level, _enqueue(pixel - width, up, state, tails))
        if left < _SEEN:
            level = max(level, _enqueue(pixel - 1, left, state, tails))
        if right < _SEEN:
            level = max(level, _enqueue(pixel + 1, right, state, tails))
        if down < _SEEN:
            level = max(level, _enqueue(pixel + width, down, state, tails))


@inlined_njit()
def _touches_other(up: int, left: int, right: int, down: int, basin: int) -> bool:
    """Whether one of four states is a basin below the given one; without branches."""
    up, left = up if up > 0 else basin, left if left > 0 else basin
    right, down = right if right > 0 else basin, down if down > 0 else basin
    return min(min(up, left), min(right, down)) < basin


@inlined_njit()
def _look(state: Int32Array, pixel: int) -> np.int64:
    return np.int64(state[unsigned(pixel)])


@inlined_njit()
def _enqueue(pixel: int, unseen: int, state: Int32Array, tails: Int32Array) -> np.int64:
    """Let a pixel that was not reached yet wait; its level."""
    level = np.int64(unseen) - _UNSEEN
    state[unsigned(pixel)] = 0
    state[unsigned(tails[unsigned(level)])] = -pixel
    tails[unsigned(level)] = pixel
    return level
