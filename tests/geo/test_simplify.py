"""Douglas-Peucker on closed rings."""

import numpy as np
import numpy.typing as npt
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.simplify import refine_indices, simplify_indices, simplify_ring

Ring = npt.NDArray[np.float64]


def closed(points: list[tuple[float, float]]) -> Ring:
    return np.array([*points, points[0]], np.float64)


def staircase(seed: int, num: int) -> Ring:
    """A star-shaped ring with integer coordinates, counter-clockwise."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, num))
    points = np.round(
        rng.uniform(20, 60, num)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    )
    return np.vstack([points, points[:1]])


def turned(ring: Ring, start: int) -> Ring:
    points = np.roll(ring[:-1], -start, axis=0)
    return np.vstack([points, points[:1]])


def test_a_staircase_becomes_a_triangle() -> None:
    steps = [point for k in range(20) for point in ((40 - 2 * k, 2 * k), (40 - 2 * k, 2 * k + 2))]
    ring = closed([(0, 0), *steps, (0, 40)])
    simplified = simplify_ring(ring, tolerance=1.5)
    assert sorted(map(tuple, simplified[:-1])) == [(0, 0), (0, 40), (40, 0)]


def test_vertices_off_by_more_than_the_tolerance_stay() -> None:
    ring = closed([(0, 0), (20, 0), (20, 10), (12, 10), (10, 12), (8, 10), (0, 10)])
    assert (10.0, 12.0) in set(map(tuple, simplify_ring(ring, tolerance=1.9)))
    assert (10.0, 12.0) not in set(map(tuple, simplify_ring(ring, tolerance=2.1)))


def test_a_thin_ring_collapses_to_a_line() -> None:
    ring = closed([(0, 0), (30, 0), (30, 1), (0, 1)])
    assert len(simplify_ring(ring, tolerance=2.0)) == 3


def test_tolerance_zero_drops_only_points_on_straight_edges() -> None:
    ring = closed([(0, 0), (5, 0), (9, 0), (9, 9), (0, 9)])
    assert len(simplify_ring(ring, tolerance=0.0)) == 5


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), num=st.integers(4, 80), tolerance=st.floats(0, 20))
def test_dropped_vertices_lie_within_the_tolerance(seed: int, num: int, tolerance: float) -> None:
    ring = staircase(seed, num)
    simplified = simplify_ring(ring, tolerance=tolerance)
    np.testing.assert_array_equal(simplified[0], simplified[-1])
    outline = shapely.linestrings(simplified)
    assert shapely.distance(outline, shapely.points(ring)).max() <= tolerance + 1e-9
    assert set(map(tuple, simplified)) <= set(map(tuple, ring))


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), num=st.integers(4, 60), start=st.integers(0, 59))
def test_the_start_of_the_ring_does_not_matter(seed: int, num: int, start: int) -> None:
    ring = staircase(seed, num)
    np.testing.assert_array_equal(
        simplify_ring(ring, tolerance=3.0), simplify_ring(turned(ring, start % num), tolerance=3.0)
    )


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num=st.integers(4, 80),
    coarse=st.floats(0, 20),
    factor=st.floats(0.05, 1.0),
)
def test_going_on_from_a_larger_tolerance_changes_nothing(
    seed: int, num: int, coarse: float, factor: float
) -> None:
    ring = staircase(seed, num)
    stack = np.empty((len(ring), 2), np.int64)
    first, refined, expected = (np.empty(len(ring), np.int64) for _ in range(3))
    num_first = simplify_indices(ring, coarse, first, stack)
    num_refined = refine_indices(ring, first[:num_first], coarse * factor, refined, stack)
    num_expected = simplify_indices(ring, coarse * factor, expected, stack)
    np.testing.assert_array_equal(refined[:num_refined], expected[:num_expected])
