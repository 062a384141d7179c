"""Footprints beside a map that others made: against a slow oracle, and maps of every kind."""

import geopandas
import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from written_datasets import footprints_of, write_dataset

from geo.conflate import MAPPED_SCHEMA, ConflateConfig, conflate
from geo.covered_ground import read_covered_ground
from geo.errors import DatasetError
from geo.feature_batches import feature_batches
from geo.footprints import PUBLIC_SCHEMA
from geo.map_rows import MAP_SCHEMA, sort_map
from geo.sorted_rows import SortedRows

KAMPALA = (32.58, 0.31)


def _box(x_m, y_m, width_m, height_m, centre=KAMPALA):
    west, south = centre[0] + x_m / 111_320, centre[1] + y_m / 111_320
    return shapely.box(west, south, west + width_m / 111_320, south + height_m / 111_320)


def _dataset(tmp_path, outlines, **options):
    ids = [f"z36_g300mm_r1_c{index}" for index in range(len(outlines))]
    return write_dataset(tmp_path / "out", footprints_of(outlines, ids), **options)


def _write_map(path, shapes, crs="EPSG:4326", **columns):
    frame = geopandas.GeoDataFrame(columns, geometry=list(shapes), crs="EPSG:4326").to_crs(crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


def _conflate(tmp_path, out, path, *, config=None, max_block_rows=100_000, **options):
    folder = tmp_path / f"sorted_{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    mapped = sort_map(feature_batches(path, **{"near": None, **options}), folder)
    rows = SortedRows(sorted((out / "footprints").glob("*")), PUBLIC_SCHEMA)
    ground = read_covered_ground(out / "tiles.parquet")
    blocks = list(conflate(rows, mapped.rows, ground, config=config, max_block_rows=max_block_rows))
    marked = pa.concat_tables([MAPPED_SCHEMA.empty_table(), *(b.footprints for b in blocks)])
    missing = pa.concat_tables([MAP_SCHEMA.empty_table(), *(b.missing for b in blocks)])
    return marked.sort_by("id"), missing, blocks, mapped.counts


def test_each_rule_once(tmp_path):
    prints = [
        _box(0, 0, 20, 20),  # the map has it, a little larger
        _box(100, 0, 60, 20),  # a row of three mapped houses
        _box(200, 0, 10, 20),  # half of a mapped block
        _box(300, 0, 50, 50),  # only a shed of it is mapped
        _box(400, 0, 20, 20),  # a point
        _box(500, 0, 20, 20),  # nothing
    ]
    shapes = [
        _box(0, 0, 22, 22),
        _box(100, 0, 18, 20),
        *(_box(100 + x, 0, 15, 20) for x in (20, 40)),
        _box(200, 0, 80, 20),
        _box(310, 10, 4, 4),
        shapely.centroid(prints[4]),
        _box(600, 0, 20, 20),
        shapely.Point(KAMPALA[0], KAMPALA[1] + 0.01),
    ]
    path = _write_map(tmp_path / "map.gpkg", shapes, osm_id=[f"w{i}" for i in range(9)])
    marked, missing, blocks, counts = _conflate(tmp_path, _dataset(tmp_path, prints), path)
    assert marked["is_mapped"].to_pylist() == [True, True, True, False, True, False]
    assert marked["map_id"].to_pylist() == ["w0", "w1", "w4", "w5", "w6", None]
    shares = marked["map_covered_share"].to_pylist()
    assert shares == pytest.approx([1, 0.8, 1, 16 / 2500, 0, 0], abs=1e-3)
    assert marked["map_iou"].to_pylist()[0] == pytest.approx(400 / 484, abs=1e-3)
    assert marked["map_iou"].to_pylist()[5] is None
    assert marked.select(PUBLIC_SCHEMA.names).num_rows == 6
    # The shed lies in a footprint, so it is shown by one; of the block an eighth is shown.
    assert sorted(missing["map_id"].to_pylist()) == ["w4", "w7", "w8"]
    assert (counts.num_polygons, counts.num_points) == (7, 2)
    assert sum(block.num_by_point for block in blocks) == 1
    assert sum(block.num_found for block in blocks) == 6


def test_overlapping_polygons_of_a_map_cover_ground_once(tmp_path):
    prints = [_box(0, 0, 30, 10)]
    # A building and its part, as OpenStreetMap has them: 40 % of the footprint, not 80 %.
    path = _write_map(tmp_path / "map.gpkg", [_box(-80, 0, 92, 10), _box(-70, 0, 82, 10)])
    marked, *_ = _conflate(tmp_path, _dataset(tmp_path, prints), path)
    assert marked["map_covered_share"][0].as_py() == pytest.approx(0.4, abs=1e-3)
    assert not marked["is_mapped"][0].as_py()


@pytest.mark.parametrize("name", ["m.parquet", "m.fgb", "m.geojson", "m.shp", "m.gpkg"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:21096"])
def test_any_format_and_crs(tmp_path, name, crs):
    if name == "m.geojson" and crs != "EPSG:4326":
        pytest.skip("GeoJSON has one CRS")
    prints = [_box(30.0 * index, 0, 20, 20) for index in range(6)]
    path = _write_map(tmp_path / name, prints[:4], crs=crs, id=list("abcd"))
    marked, missing, _, _ = _conflate(tmp_path, _dataset(tmp_path, prints), path)
    assert marked["map_id"].to_pylist() == ["a", "b", "c", "d", None, None]
    assert np.array(marked["map_iou"].to_pylist()[:4]) == pytest.approx(1, abs=1e-3)
    assert len(missing) == 0


def test_ground_that_was_not_seen_lacks_nothing(tmp_path):
    out = _dataset(tmp_path, [_box(0, 0, 20, 20)], bounds=(32.57, 0.30, 32.59, 0.32))
    shapes = [_box(100, 0, 20, 20), _box(20_000, 20_000, 20, 20)]
    path = _write_map(tmp_path / "map.fgb", shapes)
    _, missing, blocks, _ = _conflate(tmp_path, out, path)
    assert len(missing) == 1
    assert sum(block.num_not_covered for block in blocks) == 1
    # Near a place the far one is not even read.
    near = (32.57, 0.30, 32.59, 0.32)
    *_, counts = _conflate(tmp_path, out, path, near=near)
    assert counts.num_features == 1


def test_broken_features_are_repaired_left_out_and_counted(tmp_path):
    bow = shapely.Polygon([(32.58, 0.31), (32.581, 0.311), (32.581, 0.31), (32.58, 0.311)])
    shapes = [
        bow,
        shapely.MultiPolygon([_box(300, 0, 20, 20), _box(330, 0, 20, 20)]),
        shapely.LineString([(32.58, 0.31), (32.59, 0.31)]),
        None,
        _box(-30_000, -9_000, 60_000, 18_000),
        shapely.GeometryCollection([_box(400, 0, 20, 20), shapely.Point(32.585, 0.31)]),
    ]
    path = tmp_path / "map.parquet"
    geopandas.GeoDataFrame({"name": list("vwxyDz")}, geometry=shapes, crs=4326).to_parquet(path)
    out = _dataset(tmp_path, [_box(300, 0, 20, 20)])
    marked, missing, _, counts = _conflate(tmp_path, out, path, id_column="name")
    assert marked["map_id"].to_pylist() == ["w"]
    assert (counts.num_features, counts.num_repaired, counts.num_left_out) == (6, 1, 2)
    # A district is no building: it would cover every footprint.
    assert counts.num_too_large == 1
    assert (counts.num_polygons, counts.num_points) == (5, 1)
    assert sorted(missing["map_id"].to_pylist()) == ["v", "v", "w", "z", "z"]


def test_openstreetmap_gives_its_buildings(tmp_path):
    corners = [(32.58, 0.31), (32.5802, 0.31), (32.5802, 0.3102), (32.58, 0.3102)]
    nodes = "".join(
        f'<node id="{i + 1}" lon="{x}" lat="{y}" version="1"/>' for i, (x, y) in enumerate(corners)
    )
    refs = "".join(f'<nd ref="{i}"/>' for i in (1, 2, 3, 4, 1))
    ways = "".join(
        f'<way id="{number}" version="1">{refs}<tag k="{key}" v="yes"/></way>'
        for number, key in ((77, "building"), (78, "landuse"))
    )
    path = tmp_path / "place.osm"
    path.write_text(f'<osm version="0.6">{nodes}{ways}</osm>')
    out = _dataset(tmp_path, [shapely.Polygon(corners)])
    marked, _, _, counts = _conflate(tmp_path, out, path)
    assert marked["map_id"].to_pylist() == ["77"]
    assert counts.num_features == 1


def test_both_sides_of_the_antimeridian(tmp_path):
    centre = (180.0, -17.0)
    prints = [_box(-10, 0, 20, 20, centre), _box(100, 0, 20, 20, centre)]
    out = _dataset(tmp_path, prints, bounds=(179.98, -17.02, -179.98, -16.98))
    turned = [shapely.transform(p, lambda c: c - np.array([360.0, 0.0])) for p in prints]
    path = _write_map(tmp_path / "map.parquet", turned)
    marked, missing, _, _ = _conflate(tmp_path, out, path)
    assert marked["is_mapped"].to_pylist() == [True, True]
    assert len(missing) == 0


def test_maps_that_cannot_be_used_say_why(tmp_path):
    def read(path, **options):
        return list(feature_batches(path, **{"near": None, **options}))

    with pytest.raises(DatasetError, match="there is no file"):
        read(tmp_path / "none.gpkg")
    frame = geopandas.GeoDataFrame({"a": [1]}, geometry=[_box(0, 0, 9, 9)])
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        frame.to_file(tmp_path / "nowhere.gpkg")
    frame.to_parquet(tmp_path / "nowhere.parquet")
    for name in ("nowhere.gpkg", "nowhere.parquet"):
        with pytest.raises(DatasetError, match="which CRS"):
            read(tmp_path / name)
    path = _write_map(tmp_path / "map.gpkg", [_box(0, 0, 9, 9)])
    with pytest.raises(DatasetError, match="no layer roads; it has map"):
        read(path, layer="roads")
    with pytest.raises(DatasetError, match="no column 'name'"):
        read(path, id_column="name")
    (tmp_path / "text.geojson").write_text("no map")
    with pytest.raises(DatasetError, match="cannot be read"):
        read(tmp_path / "text.geojson")
    pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "plain.parquet")
    with pytest.raises(DatasetError, match="not GeoParquet"):
        read(tmp_path / "plain.parquet")


_steps = st.integers(0, 40)
_rectangles = st.lists(
    st.tuples(_steps, _steps, st.integers(1, 12), st.integers(1, 12)), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(_rectangles, _rectangles, st.lists(st.tuples(_steps, _steps), max_size=4))
def test_finds_what_the_slow_oracle_finds(tmp_path_factory, first, second, points):
    folder = tmp_path_factory.mktemp("conflate")
    prints = [_box(*(150.0 * value for value in r)) for r in dict.fromkeys(first)]
    shapes = [_box(*(150.0 * value for value in r)) for r in second]
    shapes += [shapely.centroid(_box(150.0 * x, 150.0 * y, 75, 75)) for x, y in points]
    shapes += [_box(20_000, 0, 9, 9)]
    out = _dataset(folder, prints, max_rows=5, row_group_rows=2)
    path = _write_map(folder / "map.parquet", shapes, id=[f"m{i}" for i in range(len(shapes))])
    config = ConflateConfig(min_iou=0.3, min_covered_share=0.5)
    marked, missing, _, _ = _conflate(folder, out, path, config=config, max_block_rows=4)
    found = {row["id"]: row for row in marked.to_pylist()}
    assert len(found) == len(marked) == len(prints)
    stored = {name: shapely.from_wkb(row["geometry"]) for name, row in found.items()}
    for name, outline in stored.items():
        expected = _rule(outline, shapes, config)
        assert (name, found[name]["is_mapped"]) == (name, expected)
    lost = {f"m{i}" for i, s in enumerate(shapes) if not _rule(s, list(stored.values()), config)}
    assert set(missing["map_id"].to_pylist()) == lost
    assert len(missing) == len(lost)


def _rule(shape, others, config) -> bool:
    if shape.geom_type == "Point":
        return any(shape.intersects(other) for other in others if other.geom_type == "Polygon")
    polygons = [other for other in others if other.geom_type == "Polygon"]
    ious = [shape.intersection(o).area / shape.union(o).area for o in polygons]
    covered = shapely.intersection(shape, shapely.union_all(polygons)).area / shape.area
    has_point = any(o.geom_type == "Point" and shape.intersects(o) for o in others)
    return (
        has_point
        or round(max(ious, default=0.0), 9) >= config.min_iou
        or round(covered, 9) >= config.min_covered_share
    )


def test_limits_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="min_covered_share = 0"):
        ConflateConfig(min_covered_share=0.0)
