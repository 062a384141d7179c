"""Vector tiles read back by the package mapbox-vector-tile."""

import mapbox_vector_tile
import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo.polygons import PolygonArray
from geo.vector_tiles import TileFrame, encode_layer

WORLD = TileFrame(zoom=0, x=0, y=0, extent=4096)


def decoded(tile):
    return mapbox_vector_tile.decode(tile, default_options={"y_coord_down": True})


def encode(shapes, columns=None, frame=WORLD, index=None):
    polygons = PolygonArray.from_shapely(shapely.orient_polygons(np.array(shapes, object)))
    index = np.arange(len(shapes)) if index is None else np.asarray(index)
    return decoded(encode_layer("things", frame, polygons, index, columns or {}))["things"]


def step_box(west, north, east, south):
    return shapely.box(west / 4096, north / 4096, east / 4096, south / 4096)


def test_coordinates_and_properties():
    columns = {
        "count": np.array([3, 300, 3]),
        "mean": np.array([0.5, np.nan, 0.25]),
        "name": pa.array(["a", "żółć", None]),
    }
    shapes = [step_box(1, 2, 30, 40), step_box(100, 200, 300, 400), step_box(-9, -8, 5, 5000)]
    layer = encode(shapes, columns)
    assert layer["extent"] == 4096
    assert layer["version"] == 2
    assert [feature["properties"] for feature in layer["features"]] == [
        {"count": 3, "mean": 0.5, "name": "a"},
        {"count": 300, "name": "żółć"},
        {"count": 3, "mean": 0.25},
    ]
    for feature, shape in zip(layer["features"], shapes, strict=True):
        found = shapely.geometry.shape(feature["geometry"])
        assert found.equals(shapely.transform(shape, lambda xy: np.rint(xy * 4096)))


def test_rings_turn_as_the_specification_wants():
    holed = step_box(0, 0, 100, 100).difference(step_box(10, 10, 20, 20))
    (feature,) = encode([holed])["features"]
    shell, hole = feature["geometry"]["coordinates"]
    # With y downwards a shell's area is positive: counter-clockwise in these numbers.
    assert shapely.LinearRing(shell).is_ccw
    assert not shapely.LinearRing(hole).is_ccw


@given(
    st.lists(
        st.tuples(*[st.integers(0, 4000)] * 2, *[st.integers(1, 90)] * 2), min_size=1, max_size=20
    ),
    st.data(),
)
def test_any_boxes_in_any_order(boxes, data):
    shapes = [step_box(x, y, x + width, y + height) for x, y, width, height in boxes]
    index = data.draw(st.permutations(range(len(boxes))))
    features = encode(shapes, {"row": np.array(index)}, index=index)["features"]
    assert [feature["properties"]["row"] for feature in features] == index
    for row, feature in zip(index, features, strict=True):
        x, y, width, height = boxes[row]
        assert shapely.geometry.shape(feature["geometry"]).bounds == (x, y, x + width, y + height)


@pytest.mark.parametrize("size", [1e-9, 1e-5])
def test_what_vanishes_is_a_square_of_a_step(size):
    (feature,) = encode([shapely.box(0.5, 0.5, 0.5 + size, 0.5 + size)])["features"]
    assert shapely.geometry.shape(feature["geometry"]).area == 1
    sliver = shapely.Polygon([(0.5, 0.5), (0.7, 0.5), (0.7, 0.5 + size)])
    (feature,) = encode([sliver])["features"]
    assert shapely.geometry.shape(feature["geometry"]).area >= 1


def test_holes_that_vanish_are_left_out():
    holed = step_box(0, 0, 100, 100).difference(shapely.box(0.01, 0.01, 0.01001, 0.01001))
    (feature,) = encode([holed])["features"]
    assert len(feature["geometry"]["coordinates"]) == 1


def test_a_tile_deep_down():
    frame = TileFrame(zoom=15, x=19349, y=16355, extent=8192)
    west, north = frame.x / 2**15, frame.y / 2**15
    step = 1 / 2**15 / 8192
    shape = shapely.box(west + 10 * step, north + 20 * step, west + 100 * step, north + 90 * step)
    (feature,) = encode([shape], frame=frame)["features"]
    assert shapely.geometry.shape(feature["geometry"]).bounds == (10, 20, 100, 90)
