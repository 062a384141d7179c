"""The whole job on drawn scenes: what comes out is what was drawn."""

import dataclasses
import json

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from pandas.testing import assert_frame_equal
from running import (
    footprints,
    journal_events,
    ledger,
    make_bundle,
    make_config,
    manifest,
    run_here,
    shard_hashes,
    with_options,
)
from synthetic import box_px, draw_polygons, draw_town, write_cog, write_town

from model.bundle import load_bundle, save_bundle
from pipeline.tile_store import TileStore


@pytest.fixture(scope="module")
def town_run(tmp_path_factory):
    """A drawn town on the grid's own pixels, and its result."""
    tmp_path = tmp_path_factory.mktemp("town")
    town = draw_town(1500, 1300, seed=3)
    image = write_town(tmp_path / "town.tif", town)
    config = make_config(tmp_path, [image])
    spec = run_here(config)
    return tmp_path, town, config, spec


def _ious(found, truth):
    tree = shapely.STRtree(truth)
    pairs = tree.query(found, predicate="intersects")
    a, b = np.asarray(found)[pairs[0]], np.asarray(truth)[pairs[1]]
    iou = shapely.area(shapely.intersection(a, b)) / shapely.area(shapely.union(a, b))
    best = np.zeros(len(truth))
    np.maximum.at(best, pairs[1], iou)
    return best


def test_finds_every_drawn_building(town_run):
    _, town, _, spec = town_run
    found = footprints(spec.out_path).to_crs(town.crs)
    best = _ious(found.geometry.values, np.array(town.polygons))
    big = np.array([polygon.area >= 20 for polygon in town.polygons])
    assert len(found) >= big.sum()
    assert best[big].min() > 0.6
    assert best[big].mean() > 0.93


def test_writes_the_columns_of_open_buildings_and_provenance(town_run):
    _, _, _, spec = town_run
    rows = footprints(spec.out_path)
    shard = next((spec.out_path / "footprints").glob("*"))
    assert pq.read_schema(shard).names == [
        "latitude", "longitude", "area_in_meters", "confidence", "geometry", "full_plus_code",
        "id", "bbox", "image_id", "image_date", "model_id",
    ]  # fmt: skip
    assert rows.crs == "OGC:CRS84"
    assert rows.geometry.is_valid.all()
    assert set(rows.image_id) == {"town"}
    assert set(rows.model_id) == {spec.model_id}
    assert rows.confidence.between(0.9, 1.0).all()
    assert rows.full_plus_code.str.fullmatch(r"[2-9A-Z]{8}\+[2-9A-Z]{4}").all()


def test_ledger_names_every_planned_tile(town_run):
    _, _, _, spec = town_run
    rows = ledger(spec.out_path)
    planned = sum(e["tiles"] for e in journal_events(spec) if e["event"] == "planned")
    assert len(rows) == planned > 4
    assert {row["status"] for row in rows} <= {"ok", "empty", "nodata"}
    assert len({row["tile"] for row in rows}) == planned


def test_manifest_counts_what_was_written(town_run):
    _, _, config, spec = town_run
    facts = manifest(spec.out_path)
    assert facts["counts"]["footprints"] == len(footprints(spec.out_path))
    assert facts["config"] == json.loads(config.to_json())
    assert {shard["path"].split("/")[1]: shard["sha256"] for shard in facts["shards"]} == (
        shard_hashes(spec.out_path)
    )


def test_running_again_changes_nothing_and_segments_nothing(town_run):
    _, _, config, spec = town_run
    before = shard_hashes(spec.out_path)
    again = run_here(config)
    assert shard_hashes(again.out_path) == before
    tiles = [e for e in journal_events(again) if e["event"] == "tile"]
    assert tiles
    assert all(e["stored"] for e in tiles)


def test_a_later_parameter_reruns_later_stages_only(town_run):
    _, _, config, spec = town_run
    changed = with_options(config, filter=dataclasses.replace(config.filter, min_area_m2=150.0))
    few = run_here(changed)
    assert all(e["stored"] for e in journal_events(few) if e["event"] == "tile")
    areas = footprints(few.out_path).area_in_meters
    assert areas.min() >= 150.0
    run_here(config)
    assert len(footprints(spec.out_path)) > len(areas)


def test_other_weights_segment_every_tile_again(town_run, tmp_path):
    _, _, config, _ = town_run
    other = make_bundle(tmp_path / "other.safetensors", threshold=0.6)
    spec = run_here(with_options(config, model=str(other), output=str(tmp_path / "out")))
    assert not any(e["stored"] for e in journal_events(spec) if e["event"] == "tile")


@pytest.mark.parametrize("crs", ["EPSG:32636", "EPSG:3857"])
def test_same_bytes_for_any_tile_size(tmp_path, crs):
    town = draw_town(1200, 1100, seed=5, crs=crs)
    image = write_cog(tmp_path / "town.tif", town, compress="jpeg")
    if crs == "EPSG:3857":
        # What lies beyond a core, and beyond a tile, decides as well.
        plain = load_bundle(make_bundle(tmp_path / "plain.safetensors", kernel_px=3))
        meta = dataclasses.replace(plain.meta, confidence="contrast", valley_depth=0.2)
        save_bundle(tmp_path / "colour.safetensors", meta, plain.state_dict)
    hashes = {}
    for tile_px in (256, 512, 2048):
        config = make_config(
            tmp_path,
            [image],
            output=str(tmp_path / f"out{tile_px}"),
            grid={"tile_px": tile_px, "max_building_m": 300.0},
        )
        hashes[tile_px] = shard_hashes(run_here(config).out_path)
    assert hashes[256] == hashes[512] == hashes[2048]
    assert hashes[256]


def test_a_hall_over_many_tiles_is_one_building(tmp_path):
    hall = box_px(20, 300, 1400, 60)
    town = draw_polygons([hall], 700, 1500)
    image = write_town(tmp_path / "hall.tif", town)
    config = make_config(tmp_path, [image], grid={"tile_px": 256, "max_building_m": 1000.0})
    rows = footprints(run_here(config).out_path)
    assert len(rows) == 1
    assert len(rows.geometry.iloc[0].exterior.coords) == 5
    assert rows.area_in_meters.iloc[0] == pytest.approx(hall.area * 0.09, rel=0.005)


def test_a_component_above_the_largest_building_is_told_not_traced(tmp_path):
    town = draw_polygons([box_px(20, 300, 1400, 60), box_px(100, 100, 40, 40)], 700, 1500)
    image = write_town(tmp_path / "hall.tif", town)
    config = make_config(tmp_path, [image], grid={"tile_px": 256, "max_building_m": 100.0})
    spec = run_here(config)
    assert len(footprints(spec.out_path)) == 1
    notes = [row["reason"] for row in ledger(spec.out_path) if row["reason"]]
    assert notes == ["1 component larger than 100 m left out (grid.max_building_m)"]


def test_a_first_look_leaves_out_empty_windows_and_says_so(tmp_path):
    # Houses in two corners of a large meadow.
    houses = [box_px(60, 80, 40, 30), box_px(150, 90, 30, 30), box_px(1400, 1200, 50, 40)]
    image = write_town(tmp_path / "meadow.tif", draw_polygons(houses, 1500, 1500))
    in_full = run_here(make_config(tmp_path, [image], output=str(tmp_path / "full")))
    config = make_config(tmp_path, [image], segment={"first_look": 0.2})
    spec = run_here(config)
    rows, full_rows = footprints(spec.out_path), footprints(in_full.out_path)
    assert len(rows) == 3
    assert_frame_equal(rows.drop(columns="model_id"), full_rows.drop(columns="model_id"))
    facts = json.loads((spec.out_path / "run.json").read_text())
    full_facts = json.loads((in_full.out_path / "run.json").read_text())
    assert facts["windows"] + facts["windows_left_out"] == full_facts["windows"]
    assert facts["windows"] <= 4
    assert full_facts["windows_left_out"] == 0
    assert {row["status"] for row in ledger(spec.out_path)} == {"ok", "empty"}
    left_out = [row["num_windows_left_out"] for row in ledger(spec.out_path)]
    assert sum(left_out) == facts["windows_left_out"]
    # Stored tiles remember it.
    store = TileStore(spec.store_path)
    events = [event for event in journal_events(run_here(config)) if event["event"] == "tile"]
    assert all(event["stored"] for event in events)
    stored = [
        store.load_tile(path.stem)
        for path in spec.store_path.glob("tiles/*/*.arrow")
        if "open" not in path.name
    ]
    assert sum(tile.num_left_out for tile in stored) == facts["windows_left_out"] > 10


def test_threads_change_nothing(tmp_path, monkeypatch):
    image = write_town(tmp_path / "town.tif", draw_town(1500, 1300, seed=4))
    hashes, finished = [], []
    for threads in ("1", "3"):
        monkeypatch.setenv("EVERYROOF_THREADS", threads)
        spec = run_here(make_config(tmp_path, [image], output=str(tmp_path / threads)))
        hashes.append(shard_hashes(spec.out_path))
        events = [e for e in journal_events(spec) if e.get("name") == "FinishFootprints"]
        finished.append([(event["footprints"], event["dropped"]) for event in events])
    assert hashes[0] == hashes[1]
    assert finished[0] == finished[1]
    assert sum(number for number, _ in finished[0]) > 100


def test_area_of_interest_keeps_centroids_inside(tmp_path):
    town = draw_town(1000, 1000, seed=8)
    image = write_town(tmp_path / "town.tif", town)
    whole = run_here(make_config(tmp_path, [image], output=str(tmp_path / "whole")))
    rows = footprints(whole.out_path)
    west, south, east, north = rows.total_bounds
    half = shapely.box(west, south, (west + east) / 2, north)
    (tmp_path / "aoi.geojson").write_text(
        json.dumps({"type": "Feature", "properties": {}, "geometry": half.__geo_interface__})
    )
    config = make_config(tmp_path, [image], area_of_interest=str(tmp_path / "aoi.geojson"))
    inside = footprints(run_here(config).out_path)
    expected = rows[shapely.intersects_xy(half, rows.longitude, rows.latitude)]
    assert 0 < len(inside) < len(rows)
    assert list(inside.index) == list(expected.index)
    assert (inside.geometry == expected.geometry).all()


def test_outputs_probability_writes_a_cog_per_tile(tmp_path):
    import rasterio

    town = draw_town(600, 600, seed=2)
    image = write_town(tmp_path / "town.tif", town)
    config = make_config(tmp_path, [image], outputs=["footprints", "probability"])
    spec = run_here(config)
    files = sorted((spec.out_path / "probability").glob("*.tif"))
    assert {path.stem for path in files} == {
        row["tile"] for row in ledger(spec.out_path) if row["status"] in ("ok", "empty")
    }
    with rasterio.open(files[0]) as dataset:
        assert dataset.dtypes == ("uint8",)
        assert dataset.crs.to_epsg() == 32636


def test_an_area_drawn_on_across_the_antimeridian_keeps_both_sides(tmp_path):
    town = draw_town(700, 900, seed=8, crs="EPSG:4326", lon_deg=179.999, lat_deg=-17.0)
    image = write_town(tmp_path / "town.tif", town)
    rows = footprints(
        run_here(make_config(tmp_path, [image], output=str(tmp_path / "all"))).out_path
    )
    assert (rows.longitude < 0).any()
    assert (rows.longitude > 0).any()
    for number, shift in enumerate((0.0, 360.0)):
        box = shapely.box(179.9 - shift, -80, 180.1 - shift, 80)
        path = tmp_path / f"aoi{number}.geojson"
        path.write_text(
            json.dumps({"type": "Feature", "properties": {}, "geometry": box.__geo_interface__})
        )
        config = make_config(
            tmp_path, [image], output=str(tmp_path / f"out{number}"), area_of_interest=str(path)
        )
        assert list(footprints(run_here(config).out_path).index) == list(rows.index)


def test_a_ledger_with_an_unreadable_image_still_says_where_it_lies(tmp_path):
    image = write_town(tmp_path / "town.tif", draw_town(500, 500, seed=1))
    (tmp_path / "broken.tif").write_bytes(b"")
    spec = run_here(make_config(tmp_path, [image, tmp_path / "broken.tif"]))
    geo = json.loads(pq.read_metadata(spec.out_path / "tiles.parquet").metadata[b"geo"])
    tiles = geopandas.read_parquet(spec.out_path / "tiles.parquet")
    assert geo["columns"]["geometry"]["bbox"] == pytest.approx(tiles.total_bounds, abs=1e-4)
