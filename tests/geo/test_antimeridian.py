"""Outlines across the antimeridian, cut in two."""

import numpy as np
import shapely
from exported_rows import AT_ANTIMERIDIAN, drawn_batches, outlines
from hypothesis import given
from hypothesis import strategies as st

from geo.antimeridian import crosses_antimeridian, cut_at_antimeridian


@given(st.floats(-181.0, 181.0), st.floats(-80.0, 80.0), st.floats(1e-5, 0.5), st.floats(1e-5, 0.5))
def test_parts_cover_the_same_ground(west, south, width, height):
    box = shapely.box(west, south, west + width, south + height)
    cut = cut_at_antimeridian(box)
    assert cut.is_valid
    assert np.isclose(cut.area, box.area, rtol=1e-6)
    assert cut.bounds[0] >= -180.0
    assert cut.bounds[2] <= 180.0
    for part in shapely.get_parts(cut):
        assert part.exterior.is_ccw
    middle = (box.centroid.x + 180.0) % 360.0 - 180.0
    assert cut.distance(shapely.Point(middle, box.centroid.y)) < 1e-9


def test_what_does_not_cross_is_kept():
    box = shapely.box(179.0, 0.0, 180.0, 1.0)
    assert cut_at_antimeridian(box) is box


def test_only_those_beyond_are_found():
    batches = drawn_batches(300, centre=AT_ANTIMERIDIAN)
    found = np.concatenate([crosses_antimeridian(rows["bbox"]) for rows in batches])
    bounds = shapely.bounds(outlines(batches))
    is_beyond = (bounds[:, 0] < -180.0) | (bounds[:, 2] > 180.0)
    assert is_beyond.sum() > 3
    assert (found >= is_beyond).all()
    assert found.sum() <= is_beyond.sum() + 2
