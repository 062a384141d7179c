import numpy as np
import pytest

from geo.connectivity import connect_runs, sum_image_counts
from geo.errors import GeometryError


def test_runs_that_share_a_pixel_are_refused():
    row = np.zeros(2, np.int32)
    start, end = np.array([0, 3], np.int32), np.array([4, 6], np.int32)
    with pytest.raises(GeometryError, match=r"row 0, col 3"):
        connect_runs(row, start, end, np.arange(2), 2)


def test_touching_runs_of_a_row_become_one():
    row = np.array([5, 5, 5], np.int32)
    start, end = np.array([0, 3, 9], np.int32), np.array([3, 7, 12], np.int32)
    runs = connect_runs(row, start, end, np.array([1, 0, 1]), 2)
    assert runs.run_start.tolist() == [0, 9]
    assert runs.run_end.tolist() == [7, 12]
    assert runs.group_of_node.tolist() == [0, 0]
    assert runs.sum_nodes(np.array([10, 5])).tolist() == [15]


def test_image_counts_are_added_and_sorted():
    offsets, images, pixels = sum_image_counts(
        np.array([2, 0, 2, 2]), np.array([7, 1, 3, 7], np.int32), np.array([1, 2, 3, 4]), 3
    )
    assert offsets.tolist() == [0, 1, 1, 3]
    assert images.tolist() == [1, 3, 7]
    assert pixels.tolist() == [2, 3, 5]


def test_runs_touch_along_edges_only():
    """Corners do not connect; nodes that belong together from the start stay together."""
    row = np.array([0, 0, 1, 2, 3], np.int32)
    start, end = np.array([0, 6, 3, 5, 5], np.int32), np.array([3, 9, 6, 9, 9], np.int32)
    apart = connect_runs(row, start, end, np.arange(5), 5)
    assert apart.group_of_node.tolist() == [0, 1, 2, 2, 2]
    assert apart.run_offsets.tolist() == [0, 1, 2, 5]
    together = connect_runs(row, start, end, np.array([0, 1, 1, 2, 3]), 4)
    assert together.group_of_node.tolist() == [0, 1, 1, 1]
    assert together.run_row.tolist() == [0, 0, 1, 2, 3]


def test_no_runs():
    none = np.zeros(0, np.int32)
    runs = connect_runs(none, none, none, np.zeros(0, np.int64), 0)
    assert runs.run_offsets.tolist() == [0]
    offsets, images, pixels = sum_image_counts(np.zeros(0, np.int64), none, np.zeros(0, int), 0)
    assert offsets.tolist() == [0]
    assert len(images) == len(pixels) == 0
