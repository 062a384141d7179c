"""Maxima that count, on ground with known answers; the whole is tested by test_watershed.py."""

import numpy as np

from geo.dynamics import _sort_ranks, find_parted


def test_two_hills_and_a_lone_one() -> None:
    levels = np.zeros((5, 20), np.uint8)
    levels[1, 1:8] = [60, 200, 90, 60, 90, 250, 250]
    levels[3, 12:15] = [70, 240, 70]
    parted = find_parted(levels, floor=50, depth=100)
    assert parted.maxima.tolist() == [[1, 2], [1, 6]], "the highest is the last"
    assert parted.maximum_offsets.tolist() == [0, 2]
    # One at each hill of the row, parted behind the lowest pixel.
    assert parted.runs.tolist() == [[1, 1, 5], [1, 5, 8]]
    assert parted.run_offsets.tolist() == [0, 2]
    assert len(find_parted(levels, floor=50, depth=141).maxima) == 0


def test_maxima_in_the_order_of_their_saddles() -> None:
    # From the right: first the saddle at 150, then the one at 100.
    levels = np.array([[250, 50, 255, 100, 200, 150, 210]], np.uint8)
    parted = find_parted(levels, floor=20, depth=50)
    assert parted.maxima[:, 1].tolist() == [4, 6, 0, 2]


def test_components_apart() -> None:
    levels = np.tile(np.array([200, 90, 200, 0], np.uint8), (1, 3))
    parted = find_parted(levels, floor=50, depth=50)
    assert parted.maximum_offsets.tolist() == [0, 2, 4, 6]
    assert parted.maxima[:, 1].tolist() == [2, 0, 6, 4, 10, 8]
    assert parted.runs[:, 1:].tolist() == [[0, 2], [2, 3], [4, 6], [6, 7], [8, 10], [10, 11]]


def test_ranks_beyond_what_is_packed() -> None:
    ranks = np.random.default_rng(0).permutation(1000)
    expected = np.argsort(ranks)
    np.testing.assert_array_equal(_sort_ranks(ranks, 1000), expected)
    np.testing.assert_array_equal(_sort_ranks(ranks, 2**60), expected)
    np.testing.assert_array_equal(_sort_ranks(ranks[:0], 1000), expected[:0])
