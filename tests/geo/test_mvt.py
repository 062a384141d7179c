"""Vector tiles are read back by an independent library."""

import mapbox_vector_tile
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo.mvt import encode_polygon_layer
from geo.polygons import PolygonArray

EXTENT = 4096


def encode(shapes: list[shapely.Polygon], **properties: list[int]) -> bytes:
    polygons = PolygonArray.from_shapely(np.array(shapes, object))
    columns = {name: np.array(column) for name, column in properties.items()}
    ids = np.arange(len(shapes)) + 7
    return encode_polygon_layer("roofs", polygons, ids=ids, properties=columns, extent=EXTENT)


def decode(tile: bytes) -> dict[str, object]:
    return mapbox_vector_tile.decode(tile, default_options={"y_coord_down": True})["roofs"]


def signed_area(ring: list[list[int]]) -> float:
    x, y = np.array(ring, float).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


@st.composite
def roofs(draw: st.DrawFn) -> shapely.Polygon:
    """A turned rectangle, perhaps with a courtyard, perhaps outside of the tile or tiny."""
    x, y = draw(st.floats(-6000, 9000)), draw(st.floats(-6000, 9000))
    width, height = draw(st.floats(0.05, 400)), draw(st.floats(0.05, 400))
    shape = shapely.box(x, y, x + width, y + height)
    if draw(st.booleans()):
        hole = shapely.box(x + width / 3, y + height / 3, x + width / 2, y + height / 2)
        shape = shape.difference(hole)
    return shapely.affinity.rotate(shape, draw(st.floats(0, 90)))


@given(st.lists(roofs(), min_size=1, max_size=12))
def test_outlines_come_back_as_they_were_rounded(shapes):
    found = decode(encode(shapes, c=[3 * k for k in range(len(shapes))]))
    assert found["extent"] == EXTENT
    assert [feature["id"] for feature in found["features"]] == [k + 7 for k in range(len(shapes))]
    for k, (feature, shape) in enumerate(zip(found["features"], shapes, strict=True)):
        assert feature["properties"] == {"c": 3 * k}
        rounded = shapely.transform(shape, np.rint)
        back = shapely.geometry.shape(feature["geometry"])
        assert back.area > 0
        if rounded.is_valid and rounded.area > 0:
            assert back.symmetric_difference(rounded).area == 0
        # The library gives shells positive area as the format asks, on a screen with y downwards.
        rings = feature["geometry"]["coordinates"]
        if feature["geometry"]["type"] == "Polygon":
            assert all(
                signed_area(ring) * (1 if i == 0 else -1) > 0 for i, ring in enumerate(rings)
            )


def test_a_shell_that_collapses_becomes_a_box():
    thin = shapely.box(10.1, 20.1, 30.4, 20.3)
    speck = shapely.box(5.6, 5.6, 5.9, 5.9).difference(shapely.box(5.7, 5.7, 5.8, 5.8))
    found = decode(encode([thin, speck]))["features"]
    boxes = [shapely.geometry.shape(feature["geometry"]).bounds for feature in found]
    assert boxes == [(10, 20, 30, 21), (6, 6, 7, 7)]
    assert [len(feature["geometry"]["coordinates"]) for feature in found] == [1, 1]


def test_a_hole_that_collapses_goes():
    shape = shapely.box(0, 0, 100, 100).difference(shapely.box(50.1, 50.1, 50.3, 50.3))
    (feature,) = decode(encode([shape]))["features"]
    assert len(feature["geometry"]["coordinates"]) == 1


def test_large_numbers_take_as_many_bytes_as_they_need():
    polygons = PolygonArray.from_shapely(np.array([shapely.box(0, 0, 9, 9)] * 4, object))
    ids = np.array([0, 127, 2**35 + 1, 2**53 - 1])
    values = np.array([0, 2**14, 2**21 - 1, 2**32])
    tile = encode_polygon_layer(
        "roofs", polygons, ids=ids, properties={"a": values, "b": values[::-1]}, extent=EXTENT
    )
    found = decode(tile)["features"]
    assert [feature["id"] for feature in found] == ids.tolist()
    assert [feature["properties"]["a"] for feature in found] == values.tolist()
    assert [feature["properties"]["b"] for feature in found] == values[::-1].tolist()


def test_nothing_is_no_layer():
    assert (
        encode_polygon_layer(
            "roofs", PolygonArray.empty(), ids=np.zeros(0, int), properties={}, extent=EXTENT
        )
        == b""
    )


def test_properties_must_fit():
    with pytest.raises(ValueError, match="2 polygons"):
        encode([shapely.box(0, 0, 9, 9)] * 2, c=[1])
