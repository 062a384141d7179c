"""Direction, rectangle and rectilinear kernels on exact input."""

import numpy as np
import numpy.typing as npt
import pytest

from geo.regularize import (
    SIDE_COLUMNS,
    dominant_direction,
    fit_rectangle,
    is_near_rectangle,
    square_ring,
    sum_along,
)
from geo.simplify import simplify_indices

SNAP_TAN = float(np.tan(np.radians(27)))
Ring = npt.NDArray[np.float64]


def closed(points: list[tuple[float, float]], angle_deg: float = 0.0) -> Ring:
    angle = np.radians(angle_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.array([*points, points[0]], np.float64) @ turn


def simplified(ring: Ring, tolerance: float) -> npt.NDArray[np.int64]:
    kept = np.empty(len(ring), np.int64)
    num = simplify_indices(ring, tolerance, kept, np.empty((len(ring), 2), np.int64))
    return kept[:num]


def sums_of(ring: Ring) -> Ring:
    sums = np.empty((len(ring), 2))
    sum_along(ring, sums)
    return sums


def squared(ring: Ring, angle: float, *, tolerance: float = 0.5, min_side: float = 3.0) -> Ring:
    kept = simplified(ring, tolerance)
    room = 3 * len(ring) + 8
    corners = np.empty((room, 2))
    sides = np.empty((room, SIDE_COLUMNS))
    num = square_ring(
        ring, sums_of(ring), kept, len(kept), angle, SNAP_TAN, min_side, sides, corners
    )
    return corners[:num]


def same_ring(found: Ring, expected: Ring) -> None:
    """The same vertices in the same order, wherever they start."""
    assert len(found) == len(expected)
    start = int(np.argmin(np.linalg.norm(found - expected[0], axis=1)))
    np.testing.assert_allclose(np.roll(found, -start, axis=0), expected, atol=1e-6)


L_SHAPE: list[tuple[float, float]] = [(0, 0), (40, 0), (40, 15), (15, 15), (15, 35), (0, 35)]


@pytest.mark.parametrize("angle_deg", [0.0, 7.0, 30.0, 44.0, 61.0, 89.0, 133.0])
def test_direction_of_a_turned_shape_is_exact(angle_deg: float) -> None:
    ring = closed(L_SHAPE, angle_deg)
    kept = simplified(ring, 0.5)
    found = np.degrees(dominant_direction(ring, sums_of(ring), kept, len(kept), SNAP_TAN))
    assert abs((found - angle_deg + 45) % 90 - 45) < 1e-6


@pytest.mark.parametrize("angle_deg", [0.0, 20.0, 45.0, 100.0])
def test_right_angles_are_left_as_they_are(angle_deg: float) -> None:
    ring = closed(L_SHAPE, angle_deg)
    same_ring(squared(ring, np.radians(angle_deg)), ring[:-1])


def test_cut_corners_become_corners() -> None:
    ring = closed([(2, 0), (40, 0), (40, 28), (38, 30), (0, 30), (0, 2)])
    same_ring(squared(ring, 0.0, min_side=4.0), closed([(0, 0), (40, 0), (40, 30), (0, 30)])[:-1])


def test_long_oblique_walls_stay() -> None:
    points: list[tuple[float, float]] = [(0, 0), (40, 0), (40, 15), (25, 30), (0, 30)]
    ring = closed(points)
    same_ring(squared(ring, 0.0), ring[:-1])


def test_small_steps_are_levelled_by_area_and_large_ones_kept() -> None:
    small = closed([(0, 0), (40, 0), (40, 20), (30, 20), (30, 22), (0, 22)])
    levelled = closed([(0, 0), (40, 0), (40, 21.5), (0, 21.5)])[:-1]
    same_ring(squared(small, 0.0, tolerance=0.5), levelled)
    large = closed([(0, 0), (40, 0), (40, 20), (30, 20), (30, 26), (0, 26)])
    same_ring(squared(large, 0.0), large[:-1])


def test_thin_spikes_are_removed() -> None:
    ring = closed([(0, 0), (40, 0), (40, 20), (21, 20), (21, 30), (20, 30), (20, 20), (0, 20)])
    same_ring(squared(ring, 0.0), closed([(0, 0), (40, 0), (40, 20), (0, 20)])[:-1])


def test_slanting_walls_are_turned_about_their_middle() -> None:
    ring = closed([(0, 0), (40, 2), (40, 24), (0, 22)])
    expected = closed([(0, 1), (40, 1), (40, 23), (0, 23)])[:-1]
    same_ring(squared(ring, 0.0), expected)


def test_rectangle_of_a_block_is_the_block() -> None:
    corners = np.empty((5, 2))
    fit_rectangle(np.arange(12.0), np.zeros(12), np.full(12, 30.0), 0.0, corners)
    np.testing.assert_allclose(corners, [[0, -12], [30, -12], [30, 0], [0, 0], [0, -12]], atol=1e-9)


def test_rectangle_keeps_the_area_of_ragged_pixels() -> None:
    tops = np.arange(20.0)
    starts, ends = np.where(tops % 2 == 0, 0.0, 2.0), np.where(tops % 3 == 0, 31.0, 33.0)
    corners = np.empty((5, 2))
    fit_rectangle(tops, starts, ends, 0.0, corners)
    width, height = corners[2] - corners[0]
    assert width * height == pytest.approx((ends - starts).sum())
    assert width < 32  # a bounding box would be 33


@pytest.mark.parametrize(("point", "distance"), [((10, 5), 5), ((-3, 4), 3), ((23, 14), 5)])
def test_distance_to_a_rectangle(point: tuple[float, float], distance: float) -> None:
    """Inside, beside and beyond a corner of a turned rectangle of 20 x 10."""
    corners = closed([(0, 0), (20, 0), (20, 10), (0, 10)], 30.0)
    ring = closed([point, (0, 0), (20, 10)], 30.0)
    kept = np.array([0])
    assert is_near_rectangle(ring, kept, 1, corners, distance + 1e-9)
    assert not is_near_rectangle(ring, kept, 1, corners, distance - 1e-9)
