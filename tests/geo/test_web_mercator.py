"""The web map's square, against PROJ."""

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.web_mercator import (
    CIRCUMFERENCE_M,
    MAX_LATITUDE_DEG,
    WORLD_SIDE,
    latitude_of,
    tile_bounds,
    to_unit,
    to_world,
)

_TO_METRES = pyproj.Transformer.from_crs(4326, 3857, always_xy=True)


@given(st.floats(-180, 180), st.floats(-85, 85))
def test_points_lie_where_proj_puts_them(lon, lat):
    x, y = to_unit(lon, lat)
    metres = _TO_METRES.transform(lon, lat)
    assert (float(x) - 0.5) * CIRCUMFERENCE_M == pytest.approx(metres[0], abs=1e-6)
    assert (0.5 - float(y)) * CIRCUMFERENCE_M == pytest.approx(metres[1], abs=1e-6)
    assert latitude_of(float(y)) == pytest.approx(lat, abs=1e-10)


def test_longitudes_are_wrapped_and_poles_lie_on_the_edge():
    x, y = to_world([-180, 180, 540, 190, -0.0], [0, 0, 0, 0, 0])
    assert x.tolist() == [0, 0, 0, to_world([-170], [0])[0][0], WORLD_SIDE // 2]
    assert set(y.tolist()) == {WORLD_SIDE // 2}
    assert to_world([0, 0, 0], [90, MAX_LATITUDE_DEG, -90])[1].tolist() == [0, 0, WORLD_SIDE - 1]


@given(st.integers(0, 22).flatmap(lambda z: st.tuples(st.just(z), st.integers(0, 2**z - 1))))
def test_tiles_meet_edge_to_edge(place):
    z, k = place
    west, south, east, north = tile_bounds(z, k, k)
    assert west < east
    assert south < north
    middle = to_world([(west + east) / 2], [(south + north) / 2])
    assert int(middle[0][0]) >> (32 - z) == k
    if k:
        assert tile_bounds(z, k - 1, k - 1)[2] == west
        assert tile_bounds(z, k - 1, k - 1)[1] == north


def test_the_square_is_a_square():
    assert np.allclose(tile_bounds(0, 0, 0), (-180, -MAX_LATITUDE_DEG, 180, MAX_LATITUDE_DEG))
