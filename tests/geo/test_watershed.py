"""Cuts along valleys, against what they promise and against the plain algorithm."""

import itertools
from collections import deque

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from geo.dynamics import find_parted
from geo.watershed import cut_valleys

Uint8Array = npt.NDArray[np.uint8]


def find_maxima(levels: Uint8Array, floor: int, depth: int) -> list[int]:
    """First pixels of the maxima with a dynamic of at least `depth`, plateau by plateau."""
    found = []
    for level in np.unique(levels[levels >= floor]):
        plateaus, num = ndimage.label(levels == level)
        for number in range(1, num + 1):
            first = int(np.flatnonzero(plateaus == number)[0])
            if dynamic(levels, floor, int(level), first) >= depth:
                found.append(first)
    return found


def dynamic(levels: Uint8Array, floor: int, level: int, first: int) -> float:
    """Fall from a plateau on the best way to a higher pixel, or to an equal one before it."""
    for low in range(level, floor - 1, -1):
        components, _ = ndimage.label(levels >= low)
        own = components == components.flat[first]
        better = levels > level
        better.flat[:first] |= levels.flat[:first] == level
        if (own & better).any():
            return level - low
    return np.inf


@given(
    levels=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)),
                  elements=st.sampled_from([0, 1, 3, 4, 6, 7, 9, 255])),
    floor=st.integers(1, 7),
    depth=st.integers(1, 8),
)  # fmt: skip
def test_one_component_for_each_maximum(levels: Uint8Array, floor: int, depth: int) -> None:
    before = levels.copy()
    cut = cut_valleys(levels, floor=floor, depth=depth)
    assert np.array_equal(levels, before), "the input is not changed"
    is_line = cut != levels
    assert (cut[is_line] == floor - 1).all()
    assert (levels[is_line] >= floor).all()
    components, num = ndimage.label(cut >= floor)
    framed = np.pad(components, 1)
    touched = [
        set(framed[[row, row + 1, row + 1, row + 2], [col + 1, col, col + 2, col + 1]]) - {0}
        for row, col in np.argwhere(is_line)
    ]
    assert all(len(numbers) >= 2 for numbers in touched)
    of_maxima = [components.flat[first] for first in find_maxima(levels, floor, depth)]
    assert 0 not in of_maxima
    assert len(of_maxima) == len(set(of_maxima)), "two maxima in one component"
    # What holds no such maximum hangs on a line.
    assert set(range(1, num + 1)) - set(of_maxima) <= set().union(*touched)


@given(
    levels=arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    floor=st.integers(1, 255),
)
def test_what_holds_one_maximum_is_left_alone(levels: Uint8Array, floor: int) -> None:
    assert np.array_equal(cut_valleys(levels, floor=floor, depth=255), levels)


def cut_plainly(levels: Uint8Array, floor: int, depth: int) -> Uint8Array:
    """The same cuts from union-find and queues over single pixels, in lists and dictionaries."""
    of = {place: int(level) for place, level in np.ndenumerate(levels) if level >= floor}
    cut = levels.copy()
    basin: dict[tuple[int, int], int] = {}
    queues: list[deque[tuple[int, int]]] = [deque() for _ in range(256)]
    seen = set(maxima := plain_maxima(of, depth))
    for number, place in enumerate(maxima, 1):
        queues[of[place]].append(place)
        basin[place] = number
    while any(queues):
        place = next(queue for queue in reversed(queues) if queue).popleft()
        around = {basin[other] for other in neighbours(place) if other in basin}
        if place not in basin and len(around) > 1:
            cut[place] = floor - 1
            continue
        if place not in basin:
            basin[place] = around.pop()
        for other in neighbours(place):
            if other in of and other not in seen:
                seen.add(other)
                queues[of[other]].append(other)
    return cut


def plain_maxima(of: dict[tuple[int, int], int], depth: int) -> list[tuple[int, int]]:
    """Lower maxima that count, as they meet higher ones, then the highest of their components."""
    root: dict[tuple[int, int], tuple[int, int]] = {}
    lower = []
    for place in sorted(of, key=lambda place: (-of[place], place)):
        root[place] = place
        for other in neighbours(place):
            if other not in root or root[other] == root[place]:
                continue
            pair = {root[place], root[other]}
            high, low = sorted(pair, key=lambda place: (-of[place], place))
            if of[low] - of[place] >= depth:
                lower.append(low)
            root.update({one: high for one in root if root[one] == low})
    return lower + sorted({root[place] for place in lower})


def neighbours(place: tuple[int, int]) -> list[tuple[int, int]]:
    """Above, left, right, below: the order in which all compete."""
    row, col = place
    return [(row - 1, col), (row, col - 1), (row, col + 1), (row + 1, col)]


@given(
    levels=st.one_of(
        arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)),
               elements=st.sampled_from(values))
        for values in ([0, 9], [0, 7, 8, 9], [5, 6, 7, 8, 9], [1, 3, 255], list(range(256)))
    ),
    floor=st.sampled_from([1, 2, 6, 8, 100, 255]),
    depth=st.sampled_from([1, 2, 3, 100, 254, 255]),
)  # fmt: skip
def test_every_pixel_as_the_plain_algorithm_has_it(
    levels: Uint8Array, floor: int, depth: int
) -> None:
    expected = cut_plainly(levels, floor, depth)
    np.testing.assert_array_equal(cut_valleys(levels, floor=floor, depth=depth), expected)


@pytest.mark.parametrize("smoothness_px", [0.7, 1.5, 3.0])
@pytest.mark.parametrize("step", [1, 16])
def test_rolling_ground_as_the_plain_algorithm_has_it(smoothness_px: float, step: int) -> None:
    # Wider than a word of eight pixels, with slopes, terraces and saturated plateaus.
    noise = np.random.default_rng(7).standard_normal((37, 45))
    hills = ndimage.gaussian_filter(noise, smoothness_px)
    levels = np.clip(128 + 90 * hills / hills.std(), 0, 255).astype(np.uint8) // step * step
    for floor, depth in ((89, 64), (20, 5), (1, 1)):
        expected = cut_plainly(levels, floor, depth)
        assert (expected != levels).any()
        np.testing.assert_array_equal(cut_valleys(levels, floor=floor, depth=depth), expected)


@pytest.mark.parametrize("num_levels", [2, 3, 5, 9])
def test_maxima_in_the_order_of_the_plain_algorithm(num_levels: int) -> None:
    # Which saddle parted them decides who floods first; with few levels most are equally high.
    generator = np.random.default_rng(num_levels)
    for _ in range(20):
        levels = generator.integers(0, num_levels, (10, 16)).astype(np.uint8)
        of = {place: int(level) for place, level in np.ndenumerate(levels) if level >= 1}
        components, _ = ndimage.label(levels >= 1)
        parted = find_parted(levels, floor=1, depth=1)
        found = [(int(row), int(col)) for row, col in parted.maxima]
        expected = plain_maxima(of, 1)
        assert sorted(found) == sorted(expected)
        for first, end in itertools.pairwise(parted.maximum_offsets):
            own = components[found[first]]
            assert found[first:end] == [place for place in expected if components[place] == own]


def test_any_layout_of_the_input() -> None:
    levels = np.random.default_rng(3).integers(0, 256, (20, 30), np.uint8)
    expected = cut_valleys(levels, floor=60, depth=40)
    found = cut_valleys(np.asfortranarray(levels), floor=60, depth=40)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous
    wide = np.repeat(levels, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(cut_valleys(wide, floor=60, depth=40), expected)


def two_roofs(gap: int) -> Uint8Array:
    """Two roofs of 6 x 5 pixels at 200, a column of `gap` between them, ground around."""
    levels = np.zeros((8, 15), np.uint8)
    levels[1:7, 2:7] = levels[1:7, 8:13] = 200
    levels[1:7, 7] = gap
    return levels


def test_the_line_lies_in_the_valley() -> None:
    expected = two_roofs(99)
    expected[1:7, 7] = 49
    # Not the whole valley is 100 below, so that it does not part them, and then it does.
    assert np.array_equal(cut_valleys(two_roofs(101), floor=50, depth=100), two_roofs(101))
    found = cut_valleys(two_roofs(100), floor=50, depth=100)
    assert np.array_equal(found >= 50, expected >= 50)
    assert np.array_equal(cut_valleys(two_roofs(99), floor=50, depth=100), expected)


def test_a_low_roof_beside_a_high_one() -> None:
    # What counts is the fall from the lower one: 90 to 60.
    levels = np.array([[250, 250, 60, 90, 90]], np.uint8)
    assert ndimage.label(cut_valleys(levels, floor=50, depth=30) >= 50)[1] == 2
    assert ndimage.label(cut_valleys(levels, floor=50, depth=31) >= 50)[1] == 1


def test_slopes_stay_with_their_own_roof() -> None:
    # One threshold that parts these two (above 120) would take the slopes from both.
    levels = np.array([[60, 100, 200, 130, 120, 130, 200, 100, 60]], np.uint8)
    cut = cut_valleys(levels, floor=50, depth=60)
    assert cut.tolist() == [[60, 100, 200, 130, 49, 130, 200, 100, 60]]


def test_a_low_hill_between_equal_saddles_stays_whole() -> None:
    levels = np.array([[255] * 3 + [100] + [180] * 6 + [100] + [255] * 3], np.uint8)
    cut = cut_valleys(levels, floor=50, depth=89)
    assert np.flatnonzero(cut != levels).tolist() in ([3], [10])


def test_a_shed_on_the_saddle_stays() -> None:
    levels = np.array([[200, 100, 200], [0, 100, 0], [100] * 3, [100, 110, 100]], np.uint8)
    cut = cut_valleys(levels, floor=50, depth=89)
    assert np.argwhere(cut != levels).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("levels", "floor", "depth", "message"),
    [
        (np.zeros((2, 2), np.float32), 1, 1, "probability is float32"),
        (np.zeros((1, 2, 2), np.uint8), 1, 1, "expected uint8 with two axes"),
        (np.zeros((2, 2), np.uint8), 0, 1, "floor = 0; expected 1 to 255"),
        (np.zeros((2, 2), np.uint8), 1, 256, "depth = 256; expected 1 to 255"),
    ],
)
def test_bad_input(levels: Uint8Array, floor: int, depth: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut_valleys(levels, floor=floor, depth=depth)


def test_an_empty_array() -> None:
    assert cut_valleys(np.zeros((0, 5), np.uint8), floor=1, depth=1).shape == (0, 5)
