import numpy as np
import pytest
import s2geometry
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import GeometryError
from geo.polygons import PolygonArray
from geo.spherical import EARTH_RADIUS_M, polygon_areas_m2, polygon_centroids

# Two rows of Open Buildings v1 (CC BY 4.0, Google): latitude, longitude, area, outline.
PUBLISHED = [
    (
        2.96283507,
        30.87489292,
        41.2623,
        "POLYGON((30.8749202634832 2.96280455119714, 30.874925633046 2.96285967688244, "
        "30.8748655898075 2.96286558849087, 30.874860220248 2.96281046280741, "
        "30.8749202634832 2.96280455119714))",
    ),
    (
        0.45898762,
        32.61744969,
        25.3538,
        "POLYGON((32.6174811987239 0.45898121919608, 32.6174506687015 0.459019966803207, "
        "32.6174181844152 0.458994027306467, 32.6174487144376 0.458955279700022, "
        "32.6174811987239 0.45898121919608))",
    ),
]


def library_area_m2(polygon):
    rings = [polygon.exterior, *polygon.interiors]
    return sum(
        sign * ring_area_m2(ring)
        for sign, ring in zip([1] + [-1] * len(rings), rings, strict=False)
    )


def ring_loop(ring):
    point = s2geometry.S2LatLng.FromDegrees
    loop = s2geometry.S2Loop()
    loop.Init([point(y, x).ToPoint() for x, y in ring.coords[:-1]])
    loop.Normalize()
    return loop


def published_loop(wkt):
    return ring_loop(shapely.from_wkt(wkt).exterior)


def ring_area_m2(ring):
    return ring_loop(ring).GetArea() * EARTH_RADIUS_M**2


def star(lon, lat, radius_deg, radii, turn=0.0):
    """A star-shaped ring around a point, as large as asked on the ground in both directions."""
    angles = turn + np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    x = lon + radius_deg * np.array(radii) * np.cos(angles) / np.cos(np.radians(lat))
    return np.stack([x, lat + radius_deg * np.array(radii) * np.sin(angles)], axis=1)


stars = st.builds(
    lambda lon, lat, size_m, radii, has_hole: shapely.Polygon(
        star(lon, lat, size_m / 111_320, radii),
        [star(lon, lat, size_m / 111_320, [0.2, 0.3, 0.15, 0.25])[::-1]] if has_hole else [],
    ),
    st.floats(-180, 180),
    st.floats(-80, 84),
    st.floats(1.0, 150.0),
    st.lists(st.floats(0.4, 1.0), min_size=4, max_size=12),
    st.booleans(),
)


def published_polygons():
    return PolygonArray.from_shapely(shapely.from_wkt([row[3] for row in PUBLISHED]))


def test_published_areas_reproduce():
    areas = polygon_areas_m2(published_polygons())
    assert np.round(areas, 4).tolist() == [row[2] for row in PUBLISHED]


def test_published_centroids_reproduce():
    # The published digits are those of S2's own loop centroid, which is off by up to half a
    # millimetre on polygons of a few metres: ours is the exact one, and agrees to one unit.
    published = np.array([[lon, lat] for lat, lon, _, _ in PUBLISHED])
    loops = [published_loop(wkt) for _, _, _, wkt in PUBLISHED]
    centres = [s2geometry.S2LatLng(loop.GetCentroid()) for loop in loops]
    of_s2 = np.array([[c.lng().degrees(), c.lat().degrees()] for c in centres])
    assert np.round(of_s2, 8).tolist() == published.tolist()
    ours = polygon_centroids(published_polygons())
    np.testing.assert_allclose(ours, published, rtol=0, atol=1e-8)
    np.testing.assert_allclose(ours, of_s2, rtol=0, atol=5e-9)


@settings(deadline=None, max_examples=300)
@given(st.lists(stars, min_size=1, max_size=4))
def test_areas_equal_the_library(shapes):
    areas = polygon_areas_m2(PolygonArray.from_shapely(np.array(shapes)))
    expected = [library_area_m2(shape) for shape in shapes]
    np.testing.assert_allclose(areas, expected, rtol=1e-9, atol=1e-4)


def test_area_of_a_large_cell_equals_the_library():
    corners = star(30.0, 40.0, 2.0, [1.0, 0.7, 1.0, 0.8, 0.9])
    polygon = shapely.Polygon(corners)
    area = polygon_areas_m2(PolygonArray.from_shapely(np.array([polygon])))[0]
    assert area == pytest.approx(library_area_m2(polygon), rel=1e-12)


def test_tiny_square_keeps_its_digits():
    side = 2.0**-24  # 6.6 mm
    square = shapely.box(85.25, 0.0, 85.25 + side, side)
    area = polygon_areas_m2(PolygonArray.from_shapely(np.array([square])))[0]
    assert area == pytest.approx((np.radians(side) * EARTH_RADIUS_M) ** 2, rel=1e-6)


@settings(deadline=None, max_examples=200)
@given(stars)
def test_centroids_equal_shapely(shape):
    # Shifted to the first vertex: there shapely loses no digits either.
    x0, y0 = shape.exterior.coords[0]
    centre = shapely.transform(shape, lambda points: points - [x0, y0]).centroid
    centroid = polygon_centroids(PolygonArray.from_shapely(np.array([shape])))[0]
    np.testing.assert_allclose(centroid, [x0 + centre.x, y0 + centre.y], rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(stars)
def test_direction_of_rings_does_not_matter(shape):
    there = PolygonArray.from_shapely(np.array([shape]))
    back = PolygonArray.from_shapely(np.array([shape.reverse()]))
    np.testing.assert_allclose(polygon_areas_m2(back), polygon_areas_m2(there), rtol=1e-6)
    np.testing.assert_allclose(polygon_centroids(back), polygon_centroids(there), atol=1e-12)


def test_no_polygons():
    assert polygon_areas_m2(PolygonArray.empty()).shape == (0,)
    assert polygon_centroids(PolygonArray.empty()).shape == (0, 2)


def test_polygon_without_area_has_no_centroid():
    flat = shapely.Polygon([(0, 0), (1e-4, 1e-4), (2e-4, 2e-4), (0, 0)])
    polygons = PolygonArray.from_shapely(np.array([shapely.box(0, 0, 1, 1), flat]))
    with pytest.raises(GeometryError, match="polygon 1 has no area"):
        polygon_centroids(polygons)
    assert polygon_areas_m2(polygons)[1] == pytest.approx(0.0, abs=1e-6)
