import math

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import DatasetError, GeometryError
from geo.footprints import (
    COORDINATE_STEP_DEG,
    FOOTPRINT_SCHEMA,
    footprint_ids,
    footprint_table,
    geometry_columns,
    snap_polygons,
)
from geo.grid import METRES_PER_DEGREE, WorldGrid
from geo.overlap import OverlapConfig, resolve_overlaps
from geo.overlap_pairs import OVERLAP_TOLERANCE_M
from geo.polygons import PolygonArray

KAMPALA = (32.6, 0.35)
ZONE_EDGE = (36.0, 0.35)  # zone 36 to the west, 37 to the east
ANTIMERIDIAN = (180.0, -16.8)  # zone 60 to the west, 1 to the east
CONFIG = OverlapConfig()


def box(x, y, width, height, angle_deg=0.0):
    """A rectangle in local metres, turned about its middle."""
    made = shapely.box(x, y, x + width, y + height)
    return shapely.affinity.rotate(made, angle_deg) if angle_deg else made


def table_of(rows, origin=KAMPALA):
    """Footprints of (shape in metres around the origin, confidence, zone, number) rows."""
    lon, lat = origin
    scale = METRES_PER_DEGREE * np.array([math.cos(math.radians(lat)), 1.0])
    shapes = [shapely.transform(row[0], lambda xy: xy / scale + [lon, lat]) for row in rows]
    polygons, is_usable = snap_polygons(PolygonArray.from_shapely(np.array(shapes, object)))
    assert is_usable.all()
    return footprint_table(
        polygons,
        ids=pa.array([identifier(row[2], row[3]) for row in rows], pa.string()),
        confidence=[row[1] for row in rows],
        image_ids=["drawn"] * len(rows),
        image_dates=[None] * len(rows),
        model_id="none",
    )


def identifier(zone, number):
    return footprint_ids(WorldGrid(zone, 300), np.array([[-number, number]]))[0].as_py()


def rows_of(*shapes, confidence=None, zones=None):
    confidence = confidence or [0.9 - 0.05 * index for index in range(len(shapes))]
    zones = zones or [36] * len(shapes)
    return [
        (shape, confidence[index], zones[index], index + 1) for index, shape in enumerate(shapes)
    ]


NOTHING = FOOTPRINT_SCHEMA.empty_table()


def polygons_of(table):
    """Shapely polygons of a table by id, in degrees."""
    shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    return dict(zip(table["id"].to_pylist(), shapes, strict=True))


def resolve(rows, origin=KAMPALA, config=CONFIG):
    return resolve_overlaps(table_of(rows, origin), NOTHING, config)


def areas(result):
    return result.table["area_in_meters"].to_numpy()


def counts(result):
    return (
        *(result.num_trimmed, result.num_dropped_twins, result.num_dropped_small),
        result.num_dropped_parts,
    )


# ------------------------------------------------------------------------------------ known answers


def test_the_more_confident_keeps_the_sliver():
    result = resolve(rows_of(box(0, 0, 10, 10), box(9.4, 0, 10, 10), confidence=[0.7, 0.8]))
    # Areas are those of the S2 sphere and coordinates snapped: 1 % is wide, a sliver is 6 %.
    np.testing.assert_allclose(areas(result), [94, 100], rtol=0.01)
    assert counts(result) == (1, 0, 0, 0)


def test_at_equal_confidence_the_smaller_id_keeps_it():
    result = resolve(rows_of(box(0, 0, 10, 10), box(9.4, 0, 10, 10), confidence=[0.8, 0.8]))
    np.testing.assert_allclose(areas(result), [100, 94], rtol=0.01)


def test_untrimmed_outlines_decide():
    # 0 trims 1 and 1 trims 2; what 1 lost is not given back to 2.
    rows = rows_of(box(0, 0, 10, 10), box(8, 0, 10, 10), box(9, 0, 20, 10))
    result = resolve(rows)
    np.testing.assert_allclose(areas(result), [100, 80, 110], rtol=0.01)
    assert counts(result) == (2, 0, 0, 0)


def test_several_winners_at_once():
    rows = rows_of(box(0, 0, 10, 10), box(16, 0, 10, 10), box(9, 2, 8, 6))
    result = resolve(rows)
    np.testing.assert_allclose(areas(result), [100, 100, 36], rtol=0.01)


def test_columns_follow_the_trimmed_outline():
    table = table_of(rows_of(box(0, 0, 10, 10), box(8, 0, 10, 10)))
    result = resolve_overlaps(table, NOTHING, CONFIG).table
    outlines = np.array(list(polygons_of(result).values()), object)
    expected = geometry_columns(PolygonArray.from_shapely(outlines))
    for name in ("latitude", "longitude", "area_in_meters", "full_plus_code", "bbox", "s2_cell"):
        assert result[name].combine_chunks().equals(getattr(expected, name)), name
    assert result["longitude"][1].as_py() > table["longitude"][1].as_py()
    for name in ("id", "confidence", "image_id", "image_date", "model_id"):
        assert result[name].equals(table[name])
    assert result.schema.equals(FOOTPRINT_SCHEMA)


def test_without_overlap_nothing_is_touched():
    ring = shapely.Polygon(box(50, 0, 30, 30).exterior, [box(55, 5, 20, 20).exterior])
    rows = rows_of(
        box(0, 0, 10, 10),
        box(10, 0, 10, 10),  # shares an edge
        box(20, 10, 10, 10),  # shares a corner
        ring,
        box(60, 10, 5, 5),  # in its courtyard
        box(100, 0, 10, 40, 30),
        box(115, 0, 10, 40, 30),  # bboxes overlap, outlines do not
    )
    table = table_of(rows)
    result = resolve_overlaps(table, table_of(rows_of(box(500, 0, 9, 9)))[:0], CONFIG)
    assert result.table is table
    assert counts(result) == (0, 0, 0, 0)


def test_untouched_rows_keep_their_bytes_and_order():
    shapes = [box(30 * index, 0, 10, 10, 7 * index) for index in range(6)]
    shapes[3] = box(69, 1, 10, 10)  # trimmed by the one before
    table = table_of(rows_of(*shapes))
    result = resolve_overlaps(table, NOTHING, CONFIG).table
    assert result["id"].equals(table["id"])
    untouched = [0, 1, 2, 4, 5]
    assert result.take(untouched).equals(table.take(untouched))
    assert not result.slice(3, 1)["geometry"].equals(table.slice(3, 1)["geometry"])


def test_a_remnant_is_dropped_and_counted():
    rows = rows_of(box(0, 0, 10, 10), box(4, 0, 10, 10), box(100, 0, 10, 10))
    result = resolve(rows)  # 60 % of the second lies under the first
    assert result.table["id"].to_pylist() == [identifier(36, 1), identifier(36, 3)]
    assert counts(result) == (0, 0, 1, 0)
    kept = resolve(rows, config=OverlapConfig(min_kept_share=0.35))
    np.testing.assert_allclose(areas(kept), [100, 40, 100], rtol=0.01)


def test_a_trimmed_row_below_the_least_area_is_dropped():
    rows = rows_of(box(0, 0, 10, 10), box(9.5, 0, 2, 2.2))
    assert counts(resolve(rows)) == (0, 0, 1, 0)  # 3.3 m2 remain
    assert counts(resolve(rows, config=OverlapConfig(min_area_m2=3.0))) == (1, 0, 0, 0)


def test_a_covered_row_and_a_copy_are_dropped():
    rows = rows_of(box(0, 0, 20, 20), box(5, 5, 5, 5), box(0, 0, 20, 20))
    assert counts(resolve(rows)) == (0, 0, 2, 0)
    nothing_left = OverlapConfig(min_kept_share=0, min_area_m2=0)
    assert counts(resolve(rows, config=nothing_left)) == (0, 0, 2, 0)


def test_the_largest_part_stays():
    rows = rows_of(box(12, -5, 2, 20), box(0, 0, 20, 10))
    result = resolve(rows)
    np.testing.assert_allclose(areas(result), [40, 120], rtol=0.01)
    assert counts(result) == (1, 0, 0, 1)


def test_a_shed_cuts_a_hole_into_a_lesser_roof():
    rows = rows_of(box(5, 5, 5, 5), box(0, 0, 20, 20))
    result = resolve(rows)
    outline = polygons_of(result.table)[identifier(36, 2)]
    assert len(outline.interiors) == 1
    assert outline.exterior.is_ccw
    assert not outline.interiors[0].is_ccw
    np.testing.assert_allclose(areas(result), [25, 375], rtol=0.01)


def test_rounding_is_no_overlap():
    rows = rows_of(box(0, 0, 10, 10), box(9.995, 0, 10, 10))
    assert counts(resolve(rows)) == (0, 0, 0, 0)
    rows = rows_of(box(0, 0, 10, 10), box(9.97, 0, 10, 10))
    assert counts(resolve(rows)) == (1, 0, 0, 0)


# ------------------------------------------------------------------------------------------- twins


def test_only_zones_make_twins():
    shapes = box(0, 0, 10, 10), box(4, 0, 10, 10)
    assert counts(resolve(rows_of(*shapes, zones=[36, 37]), ZONE_EDGE)) == (0, 1, 0, 0)
    assert counts(resolve(rows_of(*shapes, zones=[36, 36]), ZONE_EDGE)) == (0, 0, 1, 0)


def test_the_zone_that_holds_the_centroid_keeps_its_row():
    west, east = box(-30, 0, 10, 10), box(20, 0, 10, 10)
    rows = [(west, 0.6, 36, 1), (west, 0.9, 37, 2), (east, 0.9, 36, 3), (east, 0.6, 37, 4)]
    result = resolve(rows, ZONE_EDGE)
    assert result.table["id"].to_pylist() == [identifier(36, 1), identifier(37, 4)]
    assert counts(result) == (0, 2, 0, 0)


def test_two_centroids_in_their_own_zones_leave_it_to_confidence():
    # Each zone draws the centroid on its own side; both ranks are first class.
    rows = [(box(-12, 0, 20, 10), 0.6, 36, 1), (box(-8, 0, 20, 10), 0.7, 37, 2)]
    assert resolve(rows, ZONE_EDGE).table["id"].to_pylist() == [identifier(37, 2)]
    rows = [(box(-8, 0, 20, 10), 0.6, 36, 1), (box(-12, 0, 20, 10), 0.6, 37, 2)]
    # Now neither lies in its own zone and the confidences are equal: the id decides.
    assert resolve(rows, ZONE_EDGE).table["id"].to_pylist() == [identifier(36, 1)]


def test_a_dropped_row_drops_nobody():
    # 0 drops 1, which alone would have dropped 2. All centroids lie in their own zones.
    shapes = box(-8, 0, 10, 10), box(-6, 0, 16, 22), box(-8, 12, 10, 10)
    rows = rows_of(*shapes, zones=[36, 37, 36], confidence=[0.9, 0.8, 0.7])
    result = resolve(rows, ZONE_EDGE)
    assert result.table["id"].to_pylist() == [identifier(36, 1), identifier(36, 3)]
    np.testing.assert_allclose(areas(result), [100, 100], rtol=0.01)  # 1 trims nobody either
    assert resolve(rows[1:], ZONE_EDGE).table["id"].to_pylist() == [identifier(37, 2)]


def test_partial_overlap_across_zones_is_a_sliver():
    rows = rows_of(box(-10, 0, 10, 10), box(-2, 0, 10, 10), zones=[36, 37])
    result = resolve(rows, ZONE_EDGE)
    np.testing.assert_allclose(areas(result), [100, 80], rtol=0.01)
    assert counts(result) == (1, 0, 0, 0)


def test_twins_and_slivers_across_the_antimeridian():
    rows = [
        (box(-9, 0, 10, 10), 0.9, 60, 1),  # centroid in the west, reaches beyond +180
        (box(0.5, 0, 10, 10), 0.8, 1, 2),  # centroid in the east: 0.5 m of overlap
        (box(-9, 0, 10, 10.2), 0.95, 1, 3),  # twin of 1, its centroid in the wrong zone
    ]
    table = table_of(rows, ANTIMERIDIAN)
    assert table["longitude"][0].as_py() > 179.9
    assert table["longitude"][1].as_py() < -179.9
    result = resolve_overlaps(table, NOTHING, CONFIG)
    assert result.table["id"].to_pylist() == [identifier(60, 1), identifier(1, 2)]
    np.testing.assert_allclose(areas(result), [100, 95], rtol=0.01)
    assert counts(result) == (1, 1, 0, 0)
    for owned in ([0], [1], [2], [1, 2]):
        rest = [index for index in range(3) if index not in owned]
        part = resolve_overlaps(table.take(owned), table.take(rest), CONFIG).table
        wanted = [i for i in table.take(owned)["id"].to_pylist() if i in polygons_of(result.table)]
        assert part["id"].to_pylist() == wanted


# ------------------------------------------------------------------------------------- bad input


def test_no_rows():
    assert resolve_overlaps(NOTHING, NOTHING, CONFIG).table.num_rows == 0
    context = table_of(rows_of(box(0, 0, 10, 10), box(9, 0, 10, 10)))
    assert resolve_overlaps(NOTHING, context, CONFIG).table.num_rows == 0


def test_chunked_tables():
    table = table_of(rows_of(*(box(9 * index, 0, 10, 10) for index in range(5))))
    chunked = pa.concat_tables([table[:2], table[2:2], table[2:]])
    whole = resolve_overlaps(table, NOTHING, CONFIG).table
    assert resolve_overlaps(chunked, NOTHING, CONFIG).table.equals(whole)


def test_a_row_owned_twice_is_refused():
    table = table_of(rows_of(box(0, 0, 10, 10), box(50, 0, 10, 10)))
    with pytest.raises(DatasetError, match="z36_g300mm_r-2_c2 occurs twice"):
        resolve_overlaps(table, table[1:], CONFIG)


def test_an_invalid_outline_is_refused():
    table = table_of(rows_of(box(0, 0, 10, 10), box(5, 0, 10, 10)))
    lon, lat = KAMPALA
    bowtie = shapely.Polygon(
        [(lon, lat), (lon + 1e-4, lat + 1e-4), (lon + 1e-4, lat), (lon, lat + 1e-4)]
    )
    geometry = pa.array([table["geometry"][0].as_py(), shapely.to_wkb(bowtie)], pa.binary())
    index = table.schema.get_field_index("geometry")
    table = table.set_column(index, table.schema.field(index), geometry)
    with pytest.raises(GeometryError, match="no valid polygons"):
        resolve_overlaps(table, NOTHING, CONFIG)


@pytest.mark.parametrize("zone_text", ["zxx_g300mm_r-1_c1", "z99_g300mm_r-1_c1", "7"])
def test_an_id_without_a_zone_is_refused(zone_text):
    table = table_of(rows_of(box(0, 0, 10, 10)))
    index = table.schema.get_field_index("id")
    table = table.set_column(index, table.schema.field(index), pa.array([zone_text]))
    with pytest.raises(DatasetError, match="zone"):
        resolve_overlaps(table, NOTHING, CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_area_m2": -1.0},
        {"min_area_m2": math.nan},
        {"min_kept_share": 1.1},
        {"twin_overlap": -0.1},
    ],
)
def test_config_names_what_is_wrong(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OverlapConfig(**wrong)


# ----------------------------------------------------------------------------------- properties


@st.composite
def neighbourhoods(draw):
    """Crowded rows of two zones around a place, or of one zone."""
    origin, zones = draw(
        st.sampled_from([(KAMPALA, [36]), (ZONE_EDGE, [36, 37]), (ANTIMERIDIAN, [60, 1])])
    )
    rows = []
    for number in range(draw(st.integers(2, 14))):
        shape = box(
            *(draw(st.integers(-150, 150)) / 5, draw(st.integers(-100, 100)) / 5),
            *(draw(st.integers(30, 150)) / 10, draw(st.integers(30, 150)) / 10),
            draw(st.sampled_from([0, 0, 15, 40, 77])),
        )
        if draw(st.integers(0, 5)) == 0:
            shape = shapely.Polygon(shape.exterior, [shape.buffer(-1).exterior])
        confidence = draw(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9]))
        rows.append((shape, confidence, draw(st.sampled_from(zones)), number))
    return table_of(rows, origin)


def overlap_width_m(first, second):
    """Diameter of the largest disc in what two outlines share, in metres."""
    turned = [shapely.affinity.translate(second, turn) for turn in (-360, 0, 360)]
    second = min(turned, key=first.distance)
    shared = shapely.intersection(first, second, grid_size=COORDINATE_STEP_DEG)
    if shared.area == 0:
        return 0.0
    scale = METRES_PER_DEGREE * np.array([math.cos(math.radians(shared.bounds[1])), 1.0])
    parts = shapely.get_parts(shapely.transform(shared, lambda xy: xy * scale))
    return max(
        2 * shapely.maximum_inscribed_circle(part, 1e-4).length for part in parts if part.area
    )


def oracle(table, config):
    """All pairs, one by one, in plain floating point: areas (square degrees) of what remains."""
    outlines = polygons_of(table)
    info = {
        row["id"]: (row["confidence"], row["longitude"], int(row["id"][1:3]))
        for row in table.to_pylist()
    }

    def is_away(i):
        return math.floor((info[i][1] + 180) / 6) + 1 != info[i][2]

    def beside(i, j):
        turn = 360.0 * round((outlines[i].centroid.x - outlines[j].centroid.x) / 360.0)
        return shapely.affinity.translate(outlines[j], turn)

    kept = []
    for i in sorted(outlines, key=lambda i: (is_away(i), -info[i][0], i)):
        is_twin = any(
            info[i][2] != info[j][2]
            and outlines[i].intersection(beside(i, j)).area
            > config.twin_overlap * min(outlines[i].area, outlines[j].area)
            for j in kept
        )
        if not is_twin:
            kept.append(i)
    remains = {}
    for i in kept:
        left = outlines[i]
        for j in kept:
            if (-info[j][0], j) < (-info[i][0], i):
                left = left.difference(beside(i, j))
        remains[i] = max(shapely.get_parts(left), key=shapely.area, default=left).area
    return remains


@given(neighbourhoods())
@settings(deadline=None, max_examples=120)
def test_equals_the_slow_oracle(table):
    config = OverlapConfig(min_kept_share=0, min_area_m2=0)
    found = {
        i: shape.area
        for i, shape in polygons_of(resolve_overlaps(table, NOTHING, config).table).items()
    }
    step_m2 = 0.2 / METRES_PER_DEGREE**2  # 20 m of outline, 1 cm wide
    for i, area in oracle(table, config).items():
        assert found.get(i, 0.0) == pytest.approx(area, abs=2 * step_m2)
    assert set(found) <= set(oracle(table, config))


@given(neighbourhoods())
@settings(deadline=None, max_examples=100)
def test_nothing_overlaps_and_everything_is_valid(table):
    result = resolve_overlaps(table, NOTHING, CONFIG)
    outlines = list(polygons_of(result.table).values())
    assert shapely.is_valid(outlines).all()
    assert (shapely.get_type_id(outlines) == shapely.GeometryType.POLYGON).all()
    steps = shapely.get_coordinates(outlines) / COORDINATE_STEP_DEG
    assert (steps == np.round(steps)).all()
    for first in range(len(outlines)):
        for second in range(first):
            width_m = overlap_width_m(outlines[first], outlines[second])
            assert width_m <= 1.5 * OVERLAP_TOLERANCE_M
    gone = result.num_dropped_twins + result.num_dropped_small
    assert result.table.num_rows == table.num_rows - gone


@given(neighbourhoods())
@settings(deadline=None, max_examples=100)
def test_idempotent(table):
    once = resolve_overlaps(table, NOTHING, CONFIG).table
    twice = resolve_overlaps(once, NOTHING, CONFIG)
    assert counts(twice) == (0, 0, 0, 0)
    assert twice.table is once


@given(neighbourhoods(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_the_order_of_rows_does_not_matter(table, random):
    order = list(range(table.num_rows))
    random.shuffle(order)
    straight = resolve_overlaps(table, NOTHING, CONFIG)
    mixed = resolve_overlaps(table.take(order), NOTHING, CONFIG)
    assert counts(mixed) == counts(straight)
    assert mixed.table.sort_by("id").equals(straight.table.sort_by("id"))


@given(neighbourhoods(), st.data())
@settings(deadline=None, max_examples=100)
def test_the_split_into_tasks_does_not_matter(table, data):
    owner = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=table.num_rows, max_size=table.num_rows))
    )
    whole = resolve_overlaps(table, NOTHING, CONFIG)
    parts = [
        resolve_overlaps(
            table.filter(pa.array(owner == task)), table.filter(pa.array(owner != task)), CONFIG
        )
        for task in range(3)
    ]
    joined = pa.concat_tables([part.table for part in parts])
    assert joined.sort_by("id").equals(whole.table.sort_by("id"))
    assert np.array_equal(np.sum([counts(part) for part in parts], axis=0), counts(whole))
