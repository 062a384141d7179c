import dataclasses

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import GeometryError
from geo.lonlat import COORDINATE_STEP_DEG, snap_polygons, to_lonlat
from geo.polygons import PolygonArray
from geo.zone_degrees import zone_to_degrees

STEP = COORDINATE_STEP_DEG


def as_array(*shapes):
    return PolygonArray.from_shapely(shapely.orient_polygons(np.array(shapes, dtype=object)))


def check_snapped(polygons):
    shapes = polygons.to_shapely()
    assert shapely.is_valid(shapes).all()
    assert (polygons.coords / STEP == np.rint(polygons.coords / STEP)).all()
    for shape in shapes:
        assert shape.exterior.is_ccw
        assert not any(hole.is_ccw for hole in shape.interiors)
    return shapes


def on_lattice(points, east=0, north=0):
    return shapely.Polygon([((x + east) * STEP, (y + north) * STEP) for x, y in points])


metric_polygons = st.builds(
    lambda x, y, radii, turn: shapely.Polygon(
        [
            (x + r * np.cos(turn + a), y + r * np.sin(turn + a))
            for r, a in zip(radii, np.linspace(0, 2 * np.pi, len(radii) + 1)[:-1], strict=True)
        ]
    ),
    st.floats(200_000, 800_000),
    st.floats(-8_000_000, 9_000_000),
    st.lists(st.floats(2.0, 40.0), min_size=4, max_size=12),
    st.floats(0, 6),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(metric_polygons, max_size=4), st.integers(1, 60))
def test_outlines_move_by_less_than_the_step(shapes, zone):
    metric = as_array(*shapes)
    polygons, is_usable = to_lonlat(metric, zone)
    assert is_usable.all()
    check_snapped(polygons)
    to_zone = pyproj.Transformer.from_crs(4326, 32600 + zone, always_xy=True)
    back = np.stack(to_zone.transform(polygons.coords[:, 0], polygons.coords[:, 1]), axis=1)
    np.testing.assert_array_equal(polygons.polygon_offsets, metric.polygon_offsets)
    np.testing.assert_array_equal(polygons.ring_offsets, metric.ring_offsets)
    np.testing.assert_allclose(back, metric.coords, atol=0.0025)


@pytest.mark.parametrize(("zone", "lon"), [(60, 180.0), (1, -180.0)])
def test_longitudes_run_on_across_the_antimeridian(zone, lon):
    to_zone = pyproj.Transformer.from_crs(4326, 32600 + zone, always_xy=True)
    x, y = to_zone.transform(lon, -17.0)
    polygons, is_usable = to_lonlat(as_array(shapely.box(x - 30, y - 20, x + 30, y + 20)), zone)
    assert is_usable.all()
    west, _, east, _ = check_snapped(polygons)[0].bounds
    assert west < lon < east
    assert east - west < 0.001


def test_repair_starts_from_the_degrees_of_proj():
    """Beside so many others that most degrees come from a fit."""
    boxes = [shapely.box(450_000 + 9 * k, 33_000, 450_006 + 9 * k, 33_005) for k in range(200)]
    neck = [(0, 0), (9, 0), (9, 4), (14, 4), (14, 0), (20, 0), (20, 9), (14, 9), (14, 4.0005)]
    neck += [(9, 4.0005), (9, 9), (0, 9)]
    metric = as_array(*boxes, shapely.Polygon(np.array(neck) + (450_100, 33_100)))
    polygons, is_usable = to_lonlat(metric, 36)
    degrees = zone_to_degrees(metric.coords, 36)
    expected, _ = snap_polygons(dataclasses.replace(metric, coords=degrees))
    assert is_usable.all()
    assert len(polygons.coords) < len(metric.coords)  # the neck is gone, and half of its building
    np.testing.assert_array_equal(polygons.coords, expected.coords)


def test_points_that_fall_together_become_one():
    shape = on_lattice([(0, 0), (0.2, -0.1), (50, 0), (50, 50), (49.8, 50.3), (0, 50)])
    polygons, is_usable = snap_polygons(as_array(shape))
    assert is_usable.tolist() == [True]
    points = (polygons.coords / STEP).tolist()
    assert points == [[0, 0], [50, 0], [50, 50], [0, 50], [0, 0]]


def test_holes_that_collapse_vanish():
    hole = [(9.9, 9.9), (9.9, 10.1), (10.1, 10.1)]
    kept = [(20, 20), (20, 30), (30, 30)]
    shape = shapely.Polygon(
        np.array([(0, 0), (50, 0), (50, 50), (0, 50)]) * STEP,
        [np.array(hole) * STEP, np.array(kept) * STEP],
    )
    polygons, is_usable = snap_polygons(as_array(shape))
    assert is_usable.tolist() == [True]
    assert check_snapped(polygons)[0].area == pytest.approx((2500 - 50) * STEP**2)


def test_rounding_that_breaks_a_polygon_is_repaired():
    # A neck narrower than the step: rounding closes it, the larger half stays.
    neck = [(0, 0), (100, 0), (100, 49.8), (160, 49.8), (160, 0), (200, 0)]
    neck += [(200, 100), (160, 100), (160, 50.2), (100, 50.2), (100, 100), (0, 100)]
    others = [
        on_lattice([(0, 0), (9, 0), (9, 9)], 1000),
        on_lattice([(0, 0), (7, 0), (7, 7)], 2000),
    ]
    polygons, is_usable = snap_polygons(as_array(others[0], on_lattice(neck), others[1]))
    assert is_usable.tolist() == [True, True, True]
    shapes = check_snapped(polygons)
    assert shapes[0].equals(others[0])
    assert shapes[1].equals(on_lattice([(0, 0), (100, 0), (100, 100), (0, 100)]))
    assert shapes[2].equals(others[1])


def test_what_has_nothing_left_is_reported():
    sliver = on_lattice([(0.1, 0.1), (40.3, 0.1), (40.3, 0.2)])
    dot = on_lattice([(0.1, 0.1), (0.3, 0.1), (0.3, 0.2)])
    good = on_lattice([(0, 0), (9, 0), (9, 9)])
    polygons, is_usable = snap_polygons(as_array(sliver, good, dot))
    assert is_usable.tolist() == [False, True, False]
    assert check_snapped(polygons)[0].equals(good)


def test_rings_that_touch_in_a_point_are_kept():
    shape = shapely.Polygon(
        np.array([(0, 0), (50, 0), (50, 50), (0, 50)]) * STEP,
        [np.array([(0, 20), (10, 10), (10, 30)]) * STEP],
    )
    polygons, is_usable = snap_polygons(as_array(shape))
    assert is_usable.tolist() == [True]
    assert check_snapped(polygons)[0].equals(shape)


def test_invalid_input_is_repaired():
    bow_tie = on_lattice([(0, 0), (100, 0), (0, 60), (100, 60)])
    clockwise = on_lattice([(0, 0), (0, 10), (10, 10), (10, 0)])
    polygons = PolygonArray.from_shapely(np.array([bow_tie, clockwise]))
    snapped, is_usable = snap_polygons(polygons)
    assert is_usable.tolist() == [True, True]
    shapes = check_snapped(snapped)
    assert shapes[0].area == pytest.approx(1500 * STEP**2, rel=0.02)
    assert shapes[1].equals(clockwise)


small_rings = st.lists(
    st.tuples(st.floats(0, 8), st.floats(0, 8)), min_size=3, max_size=9, unique=True
)


@settings(deadline=None, max_examples=400)
@given(st.lists(small_rings, min_size=1, max_size=4), st.sampled_from([0, 3 * 2**24, -(2**32)]))
def test_whatever_comes_is_valid_or_reported(rings, east):
    shapes = [on_lattice(ring, east, 5) for ring in rings]
    polygons, is_usable = snap_polygons(PolygonArray.from_shapely(np.array(shapes, dtype=object)))
    assert len(polygons) == is_usable.sum()
    check_snapped(polygons)
    for shape, usable in zip(shapes, is_usable, strict=True):
        inner = shape.buffer(0) if shape.is_valid else shapely.Polygon()
        assert usable or inner.buffer(-1.5 * STEP).is_empty


@settings(deadline=None, max_examples=100)
@given(st.lists(small_rings, min_size=1, max_size=4))
def test_snapping_again_changes_nothing(rings):
    shapes = np.array([on_lattice(ring) for ring in rings], dtype=object)
    once, _ = snap_polygons(PolygonArray.from_shapely(shapes))
    twice, is_usable = snap_polygons(once)
    assert is_usable.all()
    assert all(a.equals(b) for a, b in zip(once.to_shapely(), twice.to_shapely(), strict=True))


def test_no_polygons():
    polygons, is_usable = to_lonlat(PolygonArray.empty(), 36)
    assert len(polygons) == len(is_usable) == 0


def test_coordinates_out_of_range_are_refused():
    with pytest.raises(GeometryError, match="outside EPSG:32636"):
        to_lonlat(as_array(shapely.box(1e12, 0, 1e12 + 1, 1)), 36)
    for x in (5000.0, np.nan):
        polygons = as_array(shapely.box(0, 0, 1, 1))
        polygons.coords[0, 0] = x
        with pytest.raises(GeometryError, match="no longitude and latitude"):
            snap_polygons(polygons)
