"""Cuts along valleys, against a slow flood by levels."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

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
