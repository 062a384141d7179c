import datetime

import numpy as np
import pluscodes
import pyarrow as pa
import pytest
import s2geometry
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import translate

from geo.errors import GeometryError
from geo.footprints import (
    CENTROID_STEP_DEG,
    COORDINATE_STEP_DEG,
    FOOTPRINT_SCHEMA,
    PUBLIC_SCHEMA,
    FilterConfig,
    _stored,
    calibrate,
    filter_footprints,
    footprint_ids,
    footprint_table,
    geometry_columns,
    polygons_from_wkb,
    snap_polygons,
    with_geometry,
)
from geo.grid import WorldGrid
from geo.polygons import PolygonArray
from geo.spherical import polygon_areas_m2

# Two rows of Open Buildings v1 (CC BY 4.0, Google).
PUBLISHED = [
    (
        2.96283507,
        30.87489292,
        41.2623,
        0.8782,
        "POLYGON((30.8749202634832 2.96280455119714, 30.874925633046 2.96285967688244, "
        "30.8748655898075 2.96286558849087, 30.874860220248 2.96281046280741, "
        "30.8749202634832 2.96280455119714))",
        "6GJGXV7F+4XJG",
    ),
    (
        0.45898762,
        32.61744969,
        25.3538,
        0.8084,
        "POLYGON((32.6174811987239 0.45898121919608, 32.6174506687015 0.459019966803207, "
        "32.6174181844152 0.458994027306467, 32.6174487144376 0.458955279700022, "
        "32.6174811987239 0.45898121919608))",
        "6GGJFJ58+HXWF",
    ),
]


def as_array(*shapes):
    return PolygonArray.from_shapely(np.array(shapes, dtype=object))


def table_of(*shapes, confidence=None):
    num = len(shapes)
    return footprint_table(
        as_array(*shapes),
        ids=footprint_ids(
            WorldGrid(36, 300), np.array([[-k, k] for k in range(num)]).reshape(-1, 2)
        ),
        confidence=np.linspace(0, 1, num) if confidence is None else confidence,
        image_ids=["kampala"] * num,
        image_dates=[None] * num,
        model_id="everyroof-1",
    )


def rectangle(lon, lat, width_m, height_m, turn, has_hole):
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    scale = np.array([np.cos(np.radians(lat)), 1.0]) * 111_320
    shell = corners * [width_m, height_m] @ turned / scale + [lon, lat]
    hole = (0.4 * corners * [width_m, height_m] @ turned / scale + [lon, lat])[::-1]
    return shapely.Polygon(shell, [hole] if has_hole else [])


buildings = st.builds(
    rectangle,
    st.floats(-180, 180),
    st.floats(-80, 84),
    st.floats(3, 60),
    st.floats(3, 60),
    st.floats(0, 3),
    st.booleans(),
)


def test_published_rows_reproduce():
    shapes = shapely.from_wkt([row[4] for row in PUBLISHED])
    table = table_of(*shapes, confidence=[row[3] for row in PUBLISHED])
    for row, (lat, lon, area, confidence, _, code) in zip(
        table.to_pylist(), PUBLISHED, strict=True
    ):
        assert round(row["area_in_meters"], 4) == area
        assert round(row["confidence"], 4) == confidence
        assert row["full_plus_code"] == code
        # The published centroids carry S2's rounding errors: see test_spherical.py.
        assert row["latitude"] == pytest.approx(lat, abs=1.01e-8)
        assert row["longitude"] == pytest.approx(lon, abs=1.01e-8)
    assert [round(v, 8) for v in table["latitude"].to_pylist()] == [row[0] for row in PUBLISHED]


def test_published_decimals_survive_storage():
    # Any number of 8 (4) decimals comes back from the step that stores it.
    rng = np.random.default_rng(0)
    degrees = np.round(rng.uniform(-180, 180, 10_000), 8)
    stored = _stored(degrees, 8, CENTROID_STEP_DEG)
    assert np.array_equal(np.round(stored, 8), degrees)
    assert np.array_equal(stored * 2.0**27, np.rint(stored * 2.0**27))
    areas = np.round(rng.uniform(0, 1e5, 10_000), 4)
    assert np.array_equal(np.round(_stored(areas, 4, 2.0**-14), 4), areas)


@settings(deadline=None, max_examples=150)
@given(st.lists(buildings, min_size=1, max_size=4))
def test_columns_agree_with_the_stored_polygon(shapes):
    polygons, is_usable = snap_polygons(as_array(*shapes))
    assert is_usable.all()
    columns = geometry_columns(polygons)
    stored = shapely.from_wkb(columns.geometry.to_numpy(zero_copy_only=False))
    assert shapely.is_valid(stored).all()
    lat, lon = columns.latitude.to_pylist(), columns.longitude.to_pylist()
    areas = polygon_areas_m2(PolygonArray.from_shapely(stored))
    for k, shape in enumerate(stored):
        x0, y0 = shape.exterior.coords[0]
        assert -180.0 <= lon[k] < 180.0
        assert abs(x0 - lon[k]) < 0.1  # the polygon lies around its centroid
        centre = translate(shape, -x0, -y0).centroid
        assert lon[k] == pytest.approx(centre.x + x0, abs=1e-8)
        assert lat[k] == pytest.approx(centre.y + y0, abs=1e-8)
        assert columns.area_in_meters[k].as_py() == pytest.approx(areas[k], abs=9e-5)
        assert columns.full_plus_code[k].as_py() == pluscodes.encode(lat[k], lon[k], 12)
        point = s2geometry.S2LatLng.FromDegrees(lat[k], lon[k])
        assert columns.s2_cell[k].as_py() == s2geometry.S2CellId(point).id()


@settings(deadline=None, max_examples=150)
@given(st.lists(buildings, min_size=1, max_size=4))
def test_bboxes_hold_the_geometry_and_nothing_to_spare(shapes):
    columns = geometry_columns(as_array(*shapes))
    bounds = shapely.bounds(shapely.from_wkb(columns.geometry.to_numpy(zero_copy_only=False)))
    boxes = [columns.bbox.field(name).to_numpy() for name in ("xmin", "ymin", "xmax", "ymax")]
    for box, exact, outwards in zip(boxes, bounds.T, (-1, -1, 1, 1), strict=True):
        assert box.dtype == np.float32
        assert (outwards * box.astype(np.float64) >= outwards * exact).all()
        inner = np.nextafter(box, np.float32(-outwards * np.inf))
        assert (outwards * inner.astype(np.float64) < outwards * exact).all()


@pytest.mark.parametrize("turn", [-360.0, 0.0, 360.0])
def test_polygons_across_the_antimeridian_lie_around_their_centroid(turn):
    east_side = shapely.box(-180.0001, 10, -179.9997, 10.0002)
    west_side = shapely.box(179.9998, 10, 180.0001, 10.0002)
    shapes = [translate(shape, turn) for shape in (east_side, west_side)]
    columns = geometry_columns(snap_polygons(as_array(*shapes))[0])
    stored = shapely.from_wkb(columns.geometry.to_numpy(zero_copy_only=False))
    assert columns.longitude.to_pylist() == pytest.approx([-179.9999, 179.99995], abs=1e-6)
    np.testing.assert_allclose(shapely.bounds(stored)[:, 0], [-180.0001, 179.9998], atol=1e-7)
    np.testing.assert_allclose(shapely.bounds(stored)[:, 2], [-179.9997, 180.0001], atol=1e-7)


def test_a_centroid_on_the_antimeridian_is_stored_as_west():
    shape = shapely.box(180 - 2**-14, 10, 180 + 2**-14, 10 + 2**-13)
    columns = geometry_columns(as_array(shape))
    assert columns.longitude.to_pylist() == [-180.0]
    assert columns.bbox.field("xmax")[0].as_py() < -179.99


def test_schema_is_exact():
    public = [
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("area_in_meters", pa.float64()),
        ("confidence", pa.float64()),
        ("geometry", pa.binary()),
        ("full_plus_code", pa.string()),
        ("id", pa.string()),
        ("bbox", FOOTPRINT_SCHEMA.field("bbox").type),
        ("image_id", pa.string()),
        ("image_date", pa.date32()),
        ("model_id", pa.string()),
    ]
    assert [(field.name, field.type) for field in PUBLIC_SCHEMA] == public
    assert [field.name for field in PUBLIC_SCHEMA if field.nullable] == ["image_date"]
    sides = FOOTPRINT_SCHEMA.field("bbox").type
    assert [(f.name, f.type) for f in sides] == [
        (name, pa.float32()) for name in ("xmin", "ymin", "xmax", "ymax")
    ]
    assert FOOTPRINT_SCHEMA.names == [*PUBLIC_SCHEMA.names, "s2_cell"]
    table = table_of(shapely.box(0, 0, 1e-4, 1e-4), shapely.box(1, 1, 1.0001, 1.0001))
    table.validate(full=True)
    assert table.schema.equals(FOOTPRINT_SCHEMA, check_metadata=True)
    assert table_of().schema.equals(FOOTPRINT_SCHEMA)


def test_table_holds_what_it_was_given():
    shapes = shapely.from_wkt([row[4] for row in PUBLISHED])
    day = datetime.date(2023, 7, 8)
    table = footprint_table(
        as_array(*shapes),
        ids=pa.array(["a", "b"]),
        confidence=[0.5, 1.0],
        image_ids=pa.array(["one", "two"]),
        image_dates=[day, None],
        model_id="m",
    )
    assert table["id"].to_pylist() == ["a", "b"]
    assert table["confidence"].to_pylist() == [0.5, 1.0]
    assert table["image_id"].to_pylist() == ["one", "two"]
    assert table["image_date"].to_pylist() == [day, None]
    assert table["model_id"].to_pylist() == ["m", "m"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": [0.5, 1.01]}, "confidence 1.01 of row 1"),
        ({"confidence": [np.nan, 0.5]}, "of row 0"),
        ({"confidence": [0.5]}, "1 values of confidence for 2 polygons"),
        ({"ids": pa.array(["a"])}, "1 values of id for 2 polygons"),
        ({"image_ids": ["a", None]}, "row 1 has no image_id"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, message):
    given_rows = {
        "ids": pa.array(["a", "b"]),
        "confidence": [0.5, 0.5],
        "image_ids": ["a", "b"],
        "image_dates": [None, None],
        "model_id": "m",
    }
    shapes = [shapely.box(0, 0, 1e-4, 1e-4), shapely.box(1, 1, 1.0001, 1.0001)]
    with pytest.raises((ValueError, GeometryError), match=message):
        footprint_table(as_array(*shapes), **{**given_rows, **change})


def test_polygons_beyond_the_pole_are_refused():
    with pytest.raises(GeometryError, match=r"latitude 90\.1"):
        geometry_columns(as_array(shapely.box(0, 90.0, 0.2, 90.2)))


def test_new_polygons_bring_all_their_columns():
    before = table_of(shapely.box(0, 0, 1e-4, 1e-4), shapely.box(1, 1, 1.0001, 1.0001))
    other = as_array(shapely.box(5, 5, 5.0001, 5.0001), shapely.box(6, 6, 6.0001, 6.0002))
    after = with_geometry(before, other)
    assert after.schema.equals(FOOTPRINT_SCHEMA)
    for name in ("confidence", "id", "image_id", "image_date", "model_id"):
        assert after[name].equals(before[name])
    expected = geometry_columns(other)
    for name in ("latitude", "area_in_meters", "geometry", "full_plus_code", "bbox", "s2_cell"):
        assert after[name].combine_chunks().equals(getattr(expected, name))
    with pytest.raises(ValueError, match="2 polygons for 1 rows"):
        with_geometry(before.slice(1), other)


def test_polygons_come_back_from_a_table():
    polygons, _ = snap_polygons(as_array(*(rectangle(32, k, 9, 12, k, k % 2) for k in range(5))))
    back = polygons_from_wkb(table_of(*polygons.to_shapely())["geometry"])
    np.testing.assert_array_equal(back.coords, polygons.coords)
    assert (back.coords % COORDINATE_STEP_DEG == 0).all()


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(-(2**31), 2**31), st.integers(-(2**31), 2**31)), max_size=5),
    st.integers(1, 60),
    st.integers(10, 100_000),
)
def test_ids_are_made_of_zone_pixel_size_and_first_pixel(pixels, zone, gsd_mm):
    first = np.array(pixels, np.int64).reshape(-1, 2)
    ids = footprint_ids(WorldGrid(zone, gsd_mm), first)
    ids.validate(full=True)
    assert ids.to_pylist() == [f"z{zone:02d}_g{gsd_mm}mm_r{row}_c{col}" for row, col in pixels]


def test_each_dropped_row_is_counted_once():
    sides = np.array([1, 3, 5, 7, 9, 30]) / 111_320
    shapes = [shapely.box(0, 0, side, side) for side in sides]
    table = table_of(*shapes, confidence=[0.1, 0.9, 0.9, 0.1, 0.7, 0.2])
    config = FilterConfig(min_area_m2=10, max_area_m2=500, min_confidence=0.5)
    kept, counts = filter_footprints(table, config)
    assert counts == {"dropped_small": 2, "dropped_large": 1, "dropped_uncertain": 1}
    assert kept["id"].to_pylist() == [table["id"][k].as_py() for k in (2, 4)]
    assert kept.schema.equals(FOOTPRINT_SCHEMA)


def test_open_limits_keep_everything():
    table = table_of(shapely.box(0, 0, 1e-6, 1e-6), shapely.box(0, 0, 0.1, 0.1))
    kept, counts = filter_footprints(table, FilterConfig(min_area_m2=0))
    assert kept.equals(table)
    assert set(counts.values()) == {0}
    assert filter_footprints(table.slice(0, 0), FilterConfig())[0].num_rows == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_area_m2": -1}, "min_area_m2 = -1"),
        ({"min_area_m2": np.nan}, "min_area_m2 = nan"),
        ({"min_area_m2": 5, "max_area_m2": 5}, "max_area_m2 = 5"),
        ({"min_confidence": 1.1}, "min_confidence = 1.1"),
    ],
)
def test_limits_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        FilterConfig(**change)


def test_calibration_follows_its_knots():
    knots = [(0.5, 0.2), (0.8, 0.8), (1.0, 0.9)]
    assert calibrate([0.0, 0.5, 0.65, 0.8, 1.0], knots).tolist() == pytest.approx(
        [0.2, 0.2, 0.5, 0.8, 0.9]
    )
    assert calibrate([0.3, 0.7], None).tolist() == [0.3, 0.7]
    assert calibrate([0.3, 0.7], []).tolist() == [0.3, 0.7]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.lists(st.integers(0, 1000), min_size=1, max_size=6, unique=True),
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
)
def test_calibration_never_changes_the_order(scores, raw, calibrated):
    knots = list(zip([r / 1000 for r in sorted(raw)], sorted(calibrated), strict=False))
    result = calibrate(sorted(scores), knots)
    assert (np.diff(result) >= 0).all()
    assert ((result >= 0) & (result <= 1)).all()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(0.5, 0.5), (0.5, 0.6)], "values that rise"),
        ([(0.2, 0.5), (0.5, 0.4)], "never fall"),
        ([(0.0, 0.0), (1.0, 1.2)], "from 0 to 1"),
        ([(0.0, 0.0, 0.0)], "pairs"),
        ([(0.0, np.nan)], "from 0 to 1"),
    ],
)
def test_knots_that_are_no_curve_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        calibrate([0.5], points)
    with pytest.raises(ValueError, match=r"confidence 1\.5"):
        calibrate([1.5], None)
