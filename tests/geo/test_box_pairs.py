"""Boxes that meet: the grid finds what looking at every pair finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.box_pairs import meeting_boxes

_side = st.integers(0, 40)
_CLUSTERS = [(0.0, 0.0), (-179.9, 0.0), (179.9, 0.0), (179.9, 80.0)]


@st.composite
def _boxes(draw):
    corners = draw(st.lists(st.tuples(_side, _side, _side, _side), max_size=25))
    scale = draw(st.sampled_from([1.0, 0.1, 1e-5]))
    boxes = np.array(corners, np.float64).reshape(-1, 4)
    low, extent = boxes[:, :2], boxes[:, 2:] ** 2 / 80
    boxes = np.concatenate([low, low + extent], axis=1) * scale
    # Nearly a turn around the earth between clusters, in either direction or both.
    far = draw(st.lists(st.sampled_from(_CLUSTERS), min_size=len(boxes), max_size=len(boxes)))
    return boxes + np.tile(np.array(far).reshape(-1, 2), 2)


@given(_boxes(), _boxes())
def test_finds_the_pairs_that_a_look_at_all_finds(first, second):
    expected = [
        (i, j)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
        if a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]
    ]
    found = meeting_boxes(first, second)
    assert list(zip(found[0].tolist(), found[1].tolist(), strict=True)) == expected


def test_one_hall_among_many_houses():
    x, y = np.meshgrid(np.arange(60.0), np.arange(60.0))
    houses = np.stack([x.ravel(), y.ravel(), x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    first, second = meeting_boxes(np.array([[10.0, 10.0, 50.0, 50.0]]), houses)
    assert len(first) == 41 * 41
    assert len(np.unique(second)) == 41 * 41
    # As many pairs, the hall among the second.
    second, first = meeting_boxes(houses, np.array([[10.0, 10.0, 50.0, 50.0]]))
    assert len(second) == 41 * 41
    assert not first.any()
    # Everything at one point, and boxes of no extent.
    point = np.zeros((5, 4))
    assert len(meeting_boxes(point, point)[0]) == 25


@pytest.mark.timeout(60)
def test_size_and_distance_cost_no_cells():
    """A box around the earth, one far from all others, and dust that says nothing of either."""
    x = np.arange(5000) * 1e-7
    dust = np.stack([x, x, x + 1e-9, x + 1e-9], axis=1)
    world = np.array([[-180.0, -90.0, 180.0, 90.0]])
    alone = np.array([[170.0, 80.0, 170.1, 80.1]])
    boxes = np.concatenate([dust, world, alone])
    first, _ = meeting_boxes(boxes, boxes)
    # Each with itself, and all with the world, either way round.
    assert len(first) == 3 * len(boxes) - 2
    assert np.bincount(first).max() == len(boxes)


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-7])
@pytest.mark.parametrize("height", [0.0, 1e-5])
def test_points_and_lines_against_boxes_far_outside(spread: float, height: float):
    rng = np.random.default_rng(1)
    low = rng.random((200, 2)) * [spread, height]
    points = np.concatenate([low, low], axis=1)
    line = np.array([[-0.02, 0.0, 0.03, 0.0]])
    houses = rng.random((200, 2)) * 0.05 - 0.02
    houses = np.concatenate([houses, houses + 1e-4], axis=1)
    world = np.array([[-180.0, -90.0, 180.0, 90.0], [1e300, 1e300, 1e301, 1e301]])
    boxes = np.concatenate([points, line, houses, world])
    for second in (points, line, boxes):
        meets = (boxes[:, None, :2] <= second[None, :, 2:]).all(axis=2)
        meets &= (second[None, :, :2] <= boxes[:, None, 2:]).all(axis=2)
        np.testing.assert_array_equal(meeting_boxes(boxes, second), np.nonzero(meets))


def test_boxes_of_all_sizes_in_far_clusters_meet_once_each():
    rng = np.random.default_rng(0)
    clusters = np.array([[0.0, 0.0], [359.8, 0.0], [359.8, 120.0]])
    low = clusters[rng.integers(0, 3, 600)] + rng.normal(0.0, 0.003, (600, 2))
    boxes = np.concatenate([low, low + rng.lognormal(-9.0, 2.0, (600, 2))], axis=1)
    meets = (boxes[:, None, :2] <= boxes[None, :, 2:]).all(axis=2)
    expected = np.nonzero(meets & meets.T)
    assert len(expected[0]) > 2 * len(boxes)
    np.testing.assert_array_equal(meeting_boxes(boxes, boxes), expected)
