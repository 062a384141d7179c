"""Tiles of a dataset on a disk, decoded by an independent library."""

from pathlib import Path

import mapbox_vector_tile
import numpy as np
import pyarrow as pa
import pytest
import shapely
from drawn_footprints import draw_footprints
from small_datasets import write_dataset

from geo.dataset import open_dataset
from geo.errors import DatasetError
from geo.footprint_index import CONFIDENCE_STEPS
from geo.footprints import footprint_table, snap_polygons
from geo.polygons import PolygonArray
from geo.web_mercator import tile_bounds, to_world
from pipeline.viewer.index_builder import IndexBuilder
from pipeline.viewer.records import find_row, footprint_record, place_of_id
from pipeline.viewer.row_groups import RowGroups, open_footprints
from pipeline.viewer.scene import narrowest_bounds
from pipeline.viewer.vector_tiles import EXTENT, OutlineTiles, density_tile, footprint_properties


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> RowGroups:
    out = write_dataset(tmp_path_factory.mktemp("data") / "out", draw_footprints(3000))
    return open_footprints(open_dataset(out))


def outline_tiles(groups: RowGroups) -> OutlineTiles:
    columns = ["confidence", "area_in_meters"]
    return OutlineTiles(groups, "footprints", columns, footprint_properties)


def features(tile: bytes) -> list[dict[str, object]]:
    if not tile:
        return []
    options = {"y_coord_down": True}
    return mapbox_vector_tile.decode(tile, default_options=options)["footprints"]["features"]


def rows_of(groups: RowGroups) -> pa.Table:
    names = ["longitude", "latitude", "geometry", "confidence", "area_in_meters", "id"]
    return pa.concat_tables(groups.read(group, names) for group in range(len(groups)))


def tiles_with(groups: RowGroups, z: int) -> set[tuple[int, int]]:
    table = rows_of(groups)
    x, y = to_world(table["longitude"].to_numpy(), table["latitude"].to_numpy())
    return set(zip((x >> (32 - z)).tolist(), (y >> (32 - z)).tolist(), strict=True))


def in_degrees(geometry: dict[str, object], z: int, x: int, y: int) -> shapely.Geometry:
    west, _, east, _ = tile_bounds(z, x, y)
    metres = (east - west) / EXTENT

    def place(points: np.ndarray) -> np.ndarray:
        lon = west + points[:, 0] * metres
        unit_y = (y + points[:, 1] / EXTENT) / 2**z
        return np.stack([lon, np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * unit_y))))], axis=1)

    return shapely.transform(shapely.geometry.shape(geometry), place)


@pytest.mark.parametrize("z", [14, 16])
def test_every_footprint_is_in_the_tiles_it_meets_and_looks_the_same(groups, z):
    tiles, table = outline_tiles(groups), rows_of(groups)
    truth = shapely.from_wkb(table["geometry"].to_numpy())
    seen: set[int] = set()
    for x, y in tiles_with(groups, z):
        found = {f["id"]: f for f in features(tiles.tile(z, x, y))}
        box = shapely.box(*tile_bounds(z, x, y))
        must = set(np.flatnonzero(shapely.intersects(truth, box)).tolist())
        near = set(np.flatnonzero(shapely.distance(truth, box) < 0.001).tolist())
        assert must <= set(found) <= near
        seen |= set(found)
        for row in sorted(must)[:20]:
            properties = found[row]["properties"]
            assert properties["c"] == table["confidence"][row].as_py() * CONFIDENCE_STEPS
            assert properties["a"] == int(table["area_in_meters"][row].as_py())
            back = in_degrees(found[row]["geometry"], z, x, y)
            step_deg = 360 / 2**z / EXTENT
            assert shapely.hausdorff_distance(back, truth[row]) < 1.5 * step_deg
    assert seen == set(range(len(table)))


def test_a_tile_elsewhere_is_empty(groups):
    assert outline_tiles(groups).tile(14, 0, 0) == b""


def square(lon: float, lat: float, side: float) -> shapely.Polygon:
    return shapely.box(lon - side / 2, lat - side / 2, lon + side / 2, lat + side / 2)


def dataset_of(folder: Path, shapes: list[shapely.Polygon]) -> RowGroups:
    polygons, is_usable = snap_polygons(PolygonArray.from_shapely(np.array(shapes, object)))
    assert is_usable.all()
    num = len(shapes)
    table = footprint_table(
        polygons,
        ids=pa.array([f"b{k}" for k in range(num)]),
        confidence=np.full(num, 0.5),
        image_ids=["image"] * num,
        image_dates=[None] * num,
        model_id="drawn",
    )
    return open_footprints(open_dataset(write_dataset(folder, table)))


def test_a_building_across_the_antimeridian_is_on_both_sides(tmp_path):
    tiles = outline_tiles(dataset_of(tmp_path / "out", [square(179.99999, 1.0, 0.0004)]))
    y = int(to_world([0], [1.0])[1][0]) >> 16
    (east,), (west,) = features(tiles.tile(16, 0, y)), features(tiles.tile(16, 2**16 - 1, y))
    assert in_degrees(east["geometry"], 16, 0, y).bounds[2] == pytest.approx(-179.99981, abs=1e-6)
    assert in_degrees(west["geometry"], 16, 2**16 - 1, y).bounds[0] == pytest.approx(
        179.99979, abs=1e-6
    )


def test_a_building_of_many_tiles_is_cut_to_what_the_map_can_hold(tmp_path):
    side = 0.05  # nine tiles of zoom 16
    tiles = outline_tiles(dataset_of(tmp_path / "out", [square(10.0, 1.0, side)]))
    x, y = (int(value[0]) >> 16 for value in to_world([10.0], [1.0]))
    (inside,) = features(tiles.tile(16, x, y))
    shape = shapely.geometry.shape(inside["geometry"])
    assert shape.covers(shapely.box(0, 0, EXTENT, EXTENT))
    assert max(map(abs, shape.bounds)) < 2 * EXTENT
    corner_x, corner_y = (int(v[0]) >> 16 for v in to_world([10 - side / 2], [1 + side / 2]))
    (corner,) = features(tiles.tile(16, corner_x, corner_y))
    west, north = shapely.geometry.shape(corner["geometry"]).bounds[:2]
    bounds = in_degrees(corner["geometry"], 16, corner_x, corner_y).bounds
    assert 0 < west < EXTENT
    assert 0 < north < EXTENT
    assert bounds[0] == pytest.approx(10 - side / 2, abs=1e-6)
    assert bounds[3] == pytest.approx(1 + side / 2, abs=1e-6)


def test_density_tiles_count_every_footprint_once(groups):
    with IndexBuilder(groups) as builder:
        assert builder.wait(60)
    assert builder.problem == ""
    total = 0
    for x, y in tiles_with(groups, 12):
        tile = mapbox_vector_tile.decode(density_tile(builder.index, 12, x, y, 0.0, 0.0))
        total += sum(feature["properties"]["n"] for feature in tile["density"]["features"])
    assert total == groups.num_rows == len(builder.index) == builder.index.num_ready


def test_ids_name_their_place_and_are_found_there(groups):
    with IndexBuilder(groups) as builder:
        assert builder.wait(60)
    table = rows_of(groups)
    for row in (0, 1234, 2999):
        footprint_id = table["id"][row].as_py()
        lon, lat = place_of_id(footprint_id)
        assert lon == pytest.approx(table["longitude"][row].as_py(), abs=0.001)
        assert lat == pytest.approx(table["latitude"][row].as_py(), abs=0.001)
        assert find_row(groups, builder.index, footprint_id) == row
        record = footprint_record(groups, row)
        assert record["id"] == footprint_id
        outline = shapely.geometry.shape(record["outline"])
        assert outline.equals(shapely.from_wkb(table["geometry"][row].as_py()))
    for wrong in ("", "z36", "z99_g300mm_r1_c1", "z36_g300mm_r1_c99999999999", "z36_g300mm_r1_c1"):
        assert find_row(groups, builder.index, wrong) is None
    with pytest.raises(IndexError, match="row 3000: expected 0 to 2999"):
        footprint_record(groups, 3000)


def test_a_missing_or_damaged_shard_is_named(tmp_path):
    out = write_dataset(tmp_path / "out", draw_footprints(2500))
    shards = sorted((out / "footprints").glob("*.parquet"))
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[:-100])
    with pytest.raises(DatasetError, match=f"{shards[0].name}.*no whole Parquet file"):
        open_footprints(open_dataset(out))
    shards[0].unlink()
    with pytest.raises(DatasetError, match=f"{shards[0].name} is missing"):
        open_footprints(open_dataset(out))
    shards[0].write_bytes(shards[1].read_bytes())
    with pytest.raises(DatasetError, match="the manifest says"):
        open_footprints(open_dataset(out))


def test_damage_found_later_is_told_and_the_rest_still_counts(tmp_path):
    out = write_dataset(tmp_path / "out", draw_footprints(2500))
    dataset = open_dataset(out)
    groups = open_footprints(dataset)
    damaged = out / dataset.shards[-1].path
    data = bytearray(damaged.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    damaged.write_bytes(data)
    with IndexBuilder(groups) as builder:
        assert builder.wait(60)
    assert damaged.name in builder.problem
    assert 0 < builder.index.num_ready < groups.num_rows


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([], None),
        ([(10, 0, 11, 1), (12, -1, 13, 0.5)], (10, -1, 13, 1)),
        ([(179, 0, 180, 1), (-180, 0, -179, 1)], (179, 0, 181, 1)),
        ([(179.5, 0, 180.1, 1)], (179.5, 0, 180.1, 1)),
        ([(-170, 0, -160, 1), (160, 0, 165, 1), (150, 0, 152, 1)], (150, 0, 200, 1)),
        ([(-180, -80, 180, 80)], (-180, -80, 180, 80)),
    ],
)
def test_narrowest_bounds_go_round_the_globe_the_short_way(boxes, expected):
    assert narrowest_bounds(boxes) == (None if expected is None else pytest.approx(expected))
