import math

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.boundary_error import boundary_errors_m


def pair(first, second):
    return np.array([first], object), np.array([second], object)


def error(first, second, **options):
    return boundary_errors_m(*pair(first, second), **options)[0]


SQUARE = shapely.box(0, 0, 10, 10)


def test_equal_outlines_have_none():
    ring = shapely.Polygon(SQUARE.exterior, [shapely.box(4, 4, 6, 6).exterior])
    # Other corners and another start, the same outline.
    again = shapely.segmentize(shapely.reverse(ring), 0.7)
    assert error(ring, again) == pytest.approx(0, abs=1e-12)


def test_a_shifted_square():
    shifted = shapely.affinity.translate(SQUARE, 1, 0)
    # The left side is 1 m off. So is the right one, but for its ends, which near the other's top
    # and bottom. Top and bottom lie on the other's, but for their first metre.
    expected = (10 * 1 + (8 * 1 + 2 * 0.5) + 2 * 0.5) / 40
    assert error(SQUARE, shifted, spacing_m=0.01) == pytest.approx(expected, abs=1e-3)


def test_concentric_circles():
    inner, outer = (shapely.Point(0, 0).buffer(r, quad_segs=256) for r in (10, 12))
    assert error(inner, outer) == pytest.approx(2, abs=1e-3)


def test_a_hole_counts():
    hole = shapely.box(4, 4, 6, 6)
    ring = shapely.Polygon(SQUARE.exterior, [hole.exterior])
    # From the ring: 8 of its 48 m are 4 m off (corners of the hole nearer the outside: none).
    there = 8 * np.mean([4.0]) / 48
    assert error(ring, SQUARE, spacing_m=0.01) == pytest.approx(there / 2, abs=1e-3)


def test_nothing_and_wrong_input():
    none = np.zeros(0, object)
    assert boundary_errors_m(none, none).shape == (0,)
    with pytest.raises(ValueError, match="expected pairs"):
        boundary_errors_m(none, pair(SQUARE, SQUARE)[0])
    with pytest.raises(ValueError, match="spacing_m = 0"):
        boundary_errors_m(none, none, spacing_m=0)


def oracle(first, second, spacing_m):
    """Point by point, with no arrays."""
    means = []
    for one, other in ((first, second), (second, first)):
        outline = [one.exterior, *one.interiors]
        num = max(math.ceil(one.length / spacing_m), 1)
        step = one.length / num
        distances = []
        for index in range(num):
            along = (index + 0.5) * step
            for ring in outline:
                if along <= ring.length or ring is outline[-1]:
                    distances.append(ring.interpolate(along).distance(other.boundary))
                    break
                along -= ring.length
        means.append(sum(distances) / num)
    return sum(means) / 2


sizes = st.floats(1, 20)


@given(st.lists(st.tuples(sizes, sizes, sizes, sizes, st.booleans()), min_size=1, max_size=5))
@settings(max_examples=40)
def test_equals_the_oracle_and_is_symmetric(made):
    first, second = np.empty(len(made), object), np.empty(len(made), object)
    for index, (width, height, x, y, has_hole) in enumerate(made):
        shell = shapely.box(0, 0, width, height)
        hole = shapely.affinity.scale(shell, 0.5, 0.4)
        first[index] = shapely.Polygon(shell.exterior, [hole.exterior]) if has_hole else shell
        second[index] = shapely.box(x / 4, y / 4, x / 4 + height, y / 4 + width)
    found = boundary_errors_m(first, second, spacing_m=0.5)
    expected = [oracle(a, b, 0.5) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(boundary_errors_m(second, first, spacing_m=0.5), found, atol=1e-9)
