"""Numbers as text equal Python's own formatting, and parse back to what was stored."""

import json

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo.footprints import CENTROID_STEP_DEG, COORDINATE_STEP_DEG
from geo.number_text import fixed_text, ring_text
from geo.polygons import PolygonArray

lattice = st.integers(-181 * 2**25, 181 * 2**25).map(lambda k: k * COORDINATE_STEP_DEG)


def triangle(x, y):
    """A polygon whose first point is (x, y)."""
    return PolygonArray.from_shapely(np.array([shapely.Polygon([(x, y), (200, y), (x, 200)])]))


def wkt_number(value):
    return ring_text(triangle(value, 1.0), "wkt")[0].as_py()[len("POLYGON((") :].split(" ")[0]


@given(lattice)
def test_wkt_prints_as_c_does(value):
    assert wkt_number(value) == f"{value:.15g}"


@given(st.floats(0.004, 180.0) | st.floats(-180.0, -0.004))
def test_wkt_of_any_double(value):
    assert wkt_number(value) == f"{value:.15g}"


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, 1.0, -1.0, 100.0, 180.0, 2.0**-25, -(2.0**-25), 9.99999999999999999, 0.1, 99.9999],
)
def test_wkt_of_special_values(value):
    assert wkt_number(value) == f"{value + 0.0:.15g}"


@given(lattice)
def test_what_wkt_prints_comes_back_to_the_lattice(value):
    parsed = float(wkt_number(value))
    assert abs(parsed - value) < 1e-12
    assert round(parsed / COORDINATE_STEP_DEG) * COORDINATE_STEP_DEG == value


@given(st.lists(lattice, min_size=2, max_size=2))
def test_what_geojson_prints_comes_back_to_the_lattice(point):
    x, y = point
    text = ring_text(triangle(x, y), "geojson")[0].as_py()
    parsed = np.array(json.loads(text)[0][0])
    assert (np.round(parsed / COORDINATE_STEP_DEG) * COORDINATE_STEP_DEG == point).all()
    assert json.loads(text)[0][0] == [round(x, 9), round(y, 9)]


@given(st.lists(st.integers(-180 * 10**8, 180 * 10**8), max_size=5))
def test_stored_centroids_print_their_decimals(decimals):
    stored = np.rint(np.array(decimals) / 1e8 / CENTROID_STEP_DEG) * CENTROID_STEP_DEG
    texts = fixed_text(stored, 8).to_pylist()
    assert texts == [f"{value + 0.0:.8f}" for value in stored]
    assert [round(float(text) * 1e8) for text in texts] == decimals


@given(st.floats(-1e6, 1e6), st.integers(0, 9))
def test_stripped_text_means_the_same(value, decimals):
    (plain,) = fixed_text([value], decimals).to_pylist()
    (short,) = fixed_text([value], decimals, strip=True).to_pylist()
    assert float(short) == float(plain)
    assert not ("." in short and short[-1] in "0.")
    # Doubles lie further apart than some decimals.
    assert abs(float(plain) - value) <= 0.5000001 * 10.0**-decimals + np.spacing(abs(value))


def test_holes_and_slices():
    shell = shapely.box(0, 0, 4, 4)
    holed = shell.difference(shapely.box(1, 1, 2, 2))
    polygons = PolygonArray.from_shapely(np.array([shell, holed, shell]))
    for text, polygon in zip(
        ring_text(polygons, "wkt").to_pylist(), polygons.to_shapely(), strict=True
    ):
        assert shapely.from_wkt(text).equals_exact(polygon, 0)
    for text, polygon in zip(
        ring_text(polygons, "geojson").to_pylist(), polygons.to_shapely(), strict=True
    ):
        read = shapely.geometry.shape({"type": "Polygon", "coordinates": json.loads(text)})
        assert read.equals_exact(polygon, 0)


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="cannot be printed"):
        fixed_text([1.0, np.nan], 4)
    with pytest.raises(ValueError, match="cannot be printed"):
        fixed_text([1e10], 8)
