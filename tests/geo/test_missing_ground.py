"""Missing ground against plain loops of numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geo.missing_ground import (
    ValidBox,
    find_missing_runs,
    find_valid_box,
    known_blocks,
    zero_runs,
)

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(valid=MASKS)
def test_the_box_is_the_smallest_that_holds_all_valid_pixels(valid: np.ndarray) -> None:
    rows, cols = np.nonzero(valid)
    expected = (
        ValidBox(rows.min(), rows.max() + 1, cols.min(), cols.max() + 1, len(rows))
        if len(rows)
        else ValidBox(0, 0, 0, 0, 0)
    )
    assert find_valid_box(valid) == expected


def test_the_box_of_a_part_of_a_larger_array() -> None:
    large = np.zeros((20, 30), bool)
    large[5:9, 11:13] = True
    large[0, 0] = True
    assert find_valid_box(large[4:, 10:25]) == ValidBox(1, 5, 1, 3, 8)


@given(valid=MASKS, factor=st.integers(1, 4))
def test_known_blocks_hold_a_valid_pixel(valid: np.ndarray, factor: int) -> None:
    whole = valid.repeat(2, 0).repeat(3, 1)  # any shape
    height, width = (side // factor for side in whole.shape)
    cut = whole[: height * factor, : width * factor]
    expected = cut.reshape(height, factor, width, factor).any(axis=(1, 3))
    np.testing.assert_array_equal(known_blocks(cut, factor), expected)


@given(known=MASKS)
def test_runs_are_the_missing_pixels_once_and_as_long_as_can_be(known: np.ndarray) -> None:
    runs = find_missing_runs(known)
    seen = np.zeros(known.shape, int)
    for row, start, end in runs:
        seen[row, start:end] += 1
    np.testing.assert_array_equal(seen, ~known)
    assert runs.dtype == np.int32
    # The starts of runs, told apart from the plain definition.
    edges = np.diff(np.pad(~known, ((0, 0), (1, 0))).astype(int), axis=1) == 1
    assert len(runs) == np.count_nonzero(edges)


@given(known=MASKS, pixel_bytes=st.integers(1, 6), num_planes=st.integers(1, 3))
def test_zeroing_runs_touches_missing_pixels_only(
    known: np.ndarray, pixel_bytes: int, num_planes: int
) -> None:
    planes = np.full((num_planes, *known.shape, pixel_bytes), 7, np.uint8)
    rows = planes.reshape(num_planes, known.shape[0], -1)
    zero_runs(rows, find_missing_runs(known), pixel_bytes)
    expected = np.where(known[None, :, :, None], 7, 0)
    np.testing.assert_array_equal(planes, np.broadcast_to(expected, planes.shape))
