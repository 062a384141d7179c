import struct

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import GeometryError
from geo.polygons import PolygonArray
from geo.wkb import polygons_from_wkb, polygons_to_wkb

coordinates = st.floats(-200, 200)


def block(west, south, width, height, has_hole):
    shell = shapely.box(west, south, west + width, south + height).exterior
    hole = shapely.box(
        west + width / 4, south + height / 4, west + width / 2, south + height / 2
    ).exterior
    return shapely.Polygon(shell, [hole] if has_hole else [])


blocks = st.builds(
    block,
    coordinates,
    coordinates,
    st.floats(1e-5, 10),
    st.floats(1e-5, 10),
    st.booleans(),
)


def same_polygons(a, b):
    np.testing.assert_array_equal(a.coords, b.coords)
    np.testing.assert_array_equal(a.ring_offsets, b.ring_offsets)
    np.testing.assert_array_equal(a.polygon_offsets, b.polygon_offsets)


@settings(deadline=None, max_examples=200)
@given(st.lists(blocks, max_size=5))
def test_bytes_are_those_of_geos(shapes):
    shapes = shapely.orient_polygons(np.array(shapes, dtype=object))
    polygons = PolygonArray.from_shapely(shapes)
    column = polygons_to_wkb(polygons)
    column.validate(full=True)
    assert column.to_pylist() == list(shapely.to_wkb(shapes, byte_order=1))
    same_polygons(polygons_from_wkb(column), polygons)


@settings(deadline=None, max_examples=50)
@given(blocks)
def test_rings_are_turned_the_right_way(shape):
    turned = shapely.orient_polygons(shape, exterior_cw=True)
    written = polygons_to_wkb(PolygonArray.from_shapely(np.array([turned])))[0].as_py()
    back = shapely.from_wkb(written)
    assert back.exterior.is_ccw
    assert not any(hole.is_ccw for hole in back.interiors)
    assert back.normalize() == shape.normalize()


def test_slices_chunks_and_large_columns_are_read():
    shapes = [block(k, 0, 1, 1, k % 2) for k in range(6)]
    wkb = list(shapely.to_wkb(shapes, byte_order=1))
    expected = PolygonArray.from_shapely(np.array(shapes[2:5]))
    same_polygons(polygons_from_wkb(pa.array(wkb, pa.binary())[2:5]), expected)
    same_polygons(polygons_from_wkb(pa.array(wkb, pa.large_binary())[2:5]), expected)
    chunks = pa.chunked_array([wkb[:1], wkb[1:4], wkb[4:]], pa.binary()).slice(2, 3)
    same_polygons(polygons_from_wkb(chunks), expected)


def test_other_byte_orders_and_dimensions_are_read():
    shape = block(1, 2, 3, 4, True)
    tall = shapely.force_3d(shape, 7.0)
    column = pa.array(
        [
            shapely.to_wkb(shape, byte_order=0),
            shapely.to_wkb(tall, byte_order=1, output_dimension=3),
            shapely.to_wkb(tall, byte_order=1, output_dimension=3, flavor="iso"),
        ],
        pa.binary(),
    )
    same_polygons(polygons_from_wkb(column), PolygonArray.from_shapely(np.array([shape] * 3)))


def test_nothing_is_written_and_read():
    assert len(polygons_to_wkb(PolygonArray.empty())) == 0
    assert len(polygons_from_wkb(pa.array([], pa.binary()))) == 0
    assert len(polygons_from_wkb(pa.chunked_array([], pa.binary()))) == 0


SQUARE = shapely.to_wkb(shapely.box(0, 0, 1, 1), byte_order=1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, "row 1 has no geometry"),
        (SQUARE[:-1], "row 1 is damaged"),
        (b"", "row 1 is damaged"),
        (SQUARE[:5] + struct.pack("<I", 0xFFFFFFFF) + SQUARE[9:], "row 1 is damaged"),
        (SQUARE[:9] + struct.pack("<I", 0xFFFFFFFF) + SQUARE[13:], "row 1 is damaged"),
        (shapely.to_wkb(shapely.Point(1, 2)), "row 1 holds a Point"),
        (shapely.to_wkb(shapely.MultiPolygon([shapely.box(0, 0, 1, 1)])), "row 1 holds a Multi"),
        (shapely.to_wkb(shapely.Polygon()), "row 1 holds an empty polygon"),
    ],
)
def test_rows_that_are_no_polygons_are_named(row, message):
    with pytest.raises(GeometryError, match=message):
        polygons_from_wkb(pa.array([SQUARE, row], pa.binary()))


def test_text_is_refused():
    with pytest.raises(GeometryError, match="got string"):
        polygons_from_wkb(pa.array(["POINT(1 2)"]))
