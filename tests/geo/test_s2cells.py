import numpy as np
import pytest
import s2geometry
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import GeometryError
from geo.s2cells import (
    cell_from_token,
    cell_level,
    cell_parent,
    cell_polygon,
    cell_range,
    cell_token,
    s2_leaf_cells,
)

cells_of_any_level = st.builds(
    lambda lat, lon, level: int(cell_parent(s2_leaf_cells([lat], [lon]), level)[0]),
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.integers(0, 30),
)


def library_cells(lat, lon):
    make, point = s2geometry.S2CellId, s2geometry.S2LatLng.FromDegrees
    pairs = zip(lat.tolist(), lon.tolist(), strict=True)
    return np.array([make(point(y, x)).id() for y, x in pairs], np.uint64)


def test_equals_the_library_on_random_points():
    rng = np.random.default_rng(1)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 50_000)))
    lon = rng.uniform(-180, 180, 50_000)
    np.testing.assert_array_equal(s2_leaf_cells(lat, lon), library_cells(lat, lon))


def test_equals_the_library_on_cell_corners():
    rng = np.random.default_rng(2)
    corners = []
    for _ in range(6_000):
        face, level = int(rng.integers(6)), int(rng.integers(31))
        position = int(rng.integers(1 << 60))
        cell = s2geometry.S2Cell(s2geometry.S2CellId.FromFacePosLevel(face, position, level))
        corner = s2geometry.S2LatLng(cell.GetVertex(int(rng.integers(4))))
        corners.append((corner.lat().degrees(), corner.lng().degrees()))
    lat, lon = np.array(corners).T
    for toward in (-np.inf, 0.0, np.inf):
        y = np.clip(np.nextafter(lat, toward) if toward else lat, -90, 90)
        x = np.nextafter(lon, -toward) if toward else lon
        np.testing.assert_array_equal(s2_leaf_cells(y, x), library_cells(y, x))


def test_equals_the_library_on_face_edges_poles_and_antimeridian():
    on_edges = np.arange(-180.0, 181.0, 7.5)
    lon = np.concatenate([on_edges, np.nextafter(on_edges, 0), on_edges + 1e-9, [540.0, -723.25]])
    tilted = np.degrees(np.arctan(np.cos(np.radians(on_edges))))  # edges of the polar faces
    lat = np.concatenate([on_edges[np.abs(on_edges) <= 90], tilted, -tilted, [0.0, -0.0]])
    lat = np.concatenate([lat, np.nextafter(lat, 0)])
    lat, lon = (grid.ravel() for grid in np.meshgrid(lat, lon))
    np.testing.assert_array_equal(s2_leaf_cells(lat, lon), library_cells(lat, lon))


@settings(deadline=None, max_examples=200)
@given(cells_of_any_level, st.data())
def test_cell_arithmetic_equals_the_library(cell, data):
    library = s2geometry.S2CellId(cell)
    assert library.is_valid()
    assert cell_level(cell) == library.level()
    assert cell_token(cell) == library.ToToken()
    assert cell_from_token(cell_token(cell)) == cell
    assert cell_range(cell) == (library.range_min().id(), library.range_max().id())
    level = data.draw(st.integers(0, library.level()))
    parent = cell_parent(np.array([cell], np.uint64), level)
    assert parent.dtype == np.uint64
    assert int(parent[0]) == library.parent(level).id()


@settings(deadline=None, max_examples=200)
@given(
    cells_of_any_level.filter(lambda cell: cell_level(cell) <= 20), st.floats(0, 1), st.floats(0, 1)
)
def test_cell_polygons_are_valid_and_hold_their_points(cell, a, b):
    polygon = cell_polygon(cell)
    assert polygon.is_valid
    assert polygon.exterior.is_ccw
    first, last = cell_range(cell)
    inside = s2geometry.S2CellId(int(first + (last - first) * a) | 1).ToLatLng()
    lat, lon = inside.lat().degrees(), inside.lng().degrees()
    drawn = [shapely.Point(lon + turn, lat) for turn in (-360, 0, 360)]
    # Chords between densified points leave the curved edge by a small share of the cell.
    slack = 0.02 * np.sqrt(polygon.area)
    assert min(polygon.distance(point) for point in drawn) <= slack


def test_polygons_of_faces():
    areas = [cell_polygon((2 * face + 1) << 60).area for face in range(6)]
    assert sum(areas) == pytest.approx(360 * 180, rel=1e-3)
    west, south, east, north = cell_polygon(5 << 60).bounds  # face 2, around the north pole
    assert (east - west, north) == (360.0, 90.0)
    assert south == pytest.approx(np.degrees(np.arctan(np.sqrt(0.5))))


def test_polygon_across_the_antimeridian_has_no_jump():
    cell = int(cell_parent(s2_leaf_cells([-17.0], [179.999]), 4)[0])
    west, _, east, _ = cell_polygon(cell).bounds
    assert east - west < 15.0


@pytest.mark.parametrize(("lat", "lon"), [(90.5, 0.0), (np.nan, 0.0), (0.0, np.inf)])
def test_points_without_a_cell_are_refused(lat, lon):
    with pytest.raises(GeometryError, match="point 1"):
        s2_leaf_cells([0.0, lat], [0.0, lon])


@pytest.mark.parametrize("cell", [0, 2, 7 << 61 | 1, 1 << 64, -1])
def test_numbers_that_are_no_cells_are_refused(cell):
    with pytest.raises(ValueError, match="no S2 cell"):
        cell_level(cell)


@pytest.mark.parametrize("token", ["", "x", "1A", "0", "10000000000000001", "2"])
def test_texts_that_are_no_tokens_are_refused(token):
    with pytest.raises(ValueError, match="S2"):
        cell_from_token(token)


def test_parents_need_finer_cells():
    cells = cell_parent(s2_leaf_cells([1.0], [2.0]), 10)
    with pytest.raises(ValueError, match="coarser"):
        cell_parent(cells, 11)
    with pytest.raises(ValueError, match="level = 31"):
        cell_parent(cells, 31)


def test_no_points_give_no_cells():
    assert s2_leaf_cells([], []).shape == (0,)
