"""Strict validity on integers against GEOS."""

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.ring_validity import MAX_COORDINATE, is_strictly_valid, make_validity_room


def verdict(*rings: list[tuple[int, int]]) -> bool:
    closed = [np.array([*ring, ring[0]], np.int64) for ring in rings]
    ends = np.cumsum([len(ring) for ring in closed])
    room = make_validity_room(ends[-1])
    return bool(is_strictly_valid(np.concatenate(closed), ends, len(rings), room))


def mirrored(ring: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return ring[::-1]


SQUARE = [(0, 0), (10, 0), (10, 10), (0, 10)]
HOLE = [(2, 2), (2, 4), (4, 4), (4, 2)]


@pytest.mark.parametrize(
    ("rings", "expected"),
    [
        ([SQUARE], True),
        ([mirrored(SQUARE)], False),
        ([SQUARE, HOLE], True),
        ([SQUARE, mirrored(HOLE)], False),
        ([SQUARE, [(20, 2), (20, 4), (24, 4), (24, 2)]], False),  # beside the shell
        ([SQUARE, [(0, 2), (2, 4), (2, 2)]], False),  # touches the shell
        ([SQUARE, HOLE, [(6, 6), (6, 8), (8, 8), (8, 6)]], True),
        ([SQUARE, [(1, 1), (1, 8), (8, 8), (8, 1)], HOLE], False),  # a hole in a hole
        ([SQUARE, HOLE, [(1, 1), (1, 8), (8, 8), (8, 1)]], False),
        ([[(0, 0), (10, 10), (10, 0), (0, 10)]], False),  # a bow tie
        ([[(0, 0), (10, 0), (20, 0), (5, 0), (5, 9)]], False),  # runs back
        ([[(0, 0), (10, 0), (10, 0), (5, 9)]], False),  # an edge without length
        ([[(0, 0), (10, 0), (5, 0)]], False),  # flat
        ([[(0, 0), (10, 0), (10, 10), (5, 0), (0, 10)]], False),  # touches its own edge
        ([[(0, 0), (5, 0), (10, 0), (5, 9)]], True),  # a straight vertex is allowed
        (
            [
                [
                    (k * MAX_COORDINATE, j * MAX_COORDINATE)
                    for k, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))
                ]
            ],
            True,
        ),
    ],
)
def test_known_cases(rings: list[list[tuple[int, int]]], expected: bool) -> None:
    assert verdict(*rings) is expected


def spiky(rng: np.random.Generator, num: int, swaps: int) -> npt.NDArray[np.int64]:
    """A star-shaped ring of many vertices; swapped vertices make most of them cross themselves."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, num))
    radius = rng.uniform(500, 1000, num)
    ring = np.round(radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.int64)
    for _ in range(swaps):
        k = int(rng.integers(num - 1))
        ring[[k, k + 1]] = ring[[k + 1, k]]
    return ring


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 100_000),
    num=st.sampled_from([4, 5, 8, 20, 31, 32, 90]),  # from 32 on edges are sorted
    swaps=st.integers(0, 2),
    step=st.sampled_from([1, 100, 400]),
)
def test_single_rings_agree_with_geos(seed: int, num: int, swaps: int, step: int) -> None:
    ring = spiky(np.random.default_rng(seed), num, swaps) // step  # coarse steps make contacts
    closed = np.vstack([ring, ring[:1]])
    line = shapely.linearrings(closed.astype(np.float64))
    is_moving = (np.diff(closed, axis=0) != 0).any(axis=1).all()
    expected = is_moving and shapely.is_valid(shapely.Polygon(line)) and shapely.is_ccw(line)
    assert verdict([tuple(point) for point in ring]) is bool(expected)
