"""Whole jobs over catalogues of images: the same footprints, opened lazily, no silent holes."""

import json
import shutil

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from affine import Affine
from catalogue_server import fail_below, requests, serve
from image_catalogues import (
    outline_of,
    stac_item,
    write_csv,
    write_index,
    write_items,
    write_stac_parquet,
)
from rasterio.enums import ColorInterp
from running import (
    footprints,
    journal_events,
    ledger,
    make_config,
    manifest,
    run_here,
    shard_hashes,
)
from synthetic import draw_town, write_geotiff, write_town

from pipeline.tile_service import HALF_WIDTH_M

NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A town cut into four images that overlap a little."""
    folder = tmp_path_factory.mktemp("town")
    town = draw_town(900, 1000, seed=4)
    for i, name in enumerate(NAMES):
        part = town.crop(420 * (i // 2), 470 * (i % 2), 480, 530)
        write_town(folder / f"{name}.tif", part, overviews=(2, 4))
    return folder


@pytest.fixture(scope="module")
def listed(folder, tmp_path_factory):
    """Footprints of the four images named one by one."""
    tmp_path = tmp_path_factory.mktemp("listed")
    paths = [{"path": str(folder / f"{name}.tif"), "date": "2024-03-17"} for name in NAMES]
    spec = run_here(make_config(tmp_path, paths))
    assert len(footprints(spec.out_path)) > 20
    return shard_hashes(spec.out_path)


def _source(kind, folder, tmp_path):
    paths = [folder / f"{name}.tif" for name in NAMES]
    items = [stac_item(path) for path in paths]
    match kind:
        case "items":
            return {"stac": str(write_items(tmp_path / "items.json", items))}
        case "parquet":
            return {"stac": str(write_stac_parquet(tmp_path / "items.parquet", items))}
        case "index":
            dates = ["2024-03-17"] * 4
            return {"index": str(write_index(tmp_path / "index.gpkg", paths, date=dates))}
        case "csv":
            rows = [{"path": str(path), "date": "2024-03-17"} for path in paths]
            return {"list": str(write_csv(tmp_path / "list.csv", rows))}
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["items", "parquet", "index", "csv"])
def test_the_same_images_give_the_same_bytes_from_any_source(folder, listed, tmp_path, kind):
    config = make_config(tmp_path, [_source(kind, folder, tmp_path)])
    spec = run_here(config)
    assert shard_hashes(spec.out_path) == listed
    images = pq.read_table(spec.out_path / "images.parquet").to_pylist()
    assert [(row["image_id"], row["status"]) for row in images] == [(n, "opened") for n in NAMES]
    facts = manifest(spec.out_path)
    assert facts["images_file"]["num_by_status"] == {"opened": 4}
    assert {image["version"] for image in facts["images"]} == {row["version"] for row in images}
    again = run_here(config)
    assert shard_hashes(again.out_path) == listed
    assert all(e["stored"] for e in journal_events(again) if e["event"] == "tile")


def test_a_pattern_gives_the_same_bytes_but_for_dates(folder, tmp_path):
    by_name = run_here(
        make_config(tmp_path, [folder / f"{n}.tif" for n in NAMES], output=str(tmp_path / "names"))
    )
    by_pattern = run_here(
        make_config(tmp_path, [f"{folder}/*.tif"], output=str(tmp_path / "pattern"))
    )
    assert shard_hashes(by_pattern.out_path) == shard_hashes(by_name.out_path)


def test_images_of_an_api_are_read_where_they_lie(folder, listed, tmp_path):
    items = [stac_item(folder / f"{name}.tif", href=f"{{root}}/{name}.tif") for name in NAMES]
    (folder / "items.json").write_text(json.dumps(items))
    with serve(folder) as root:
        spec = run_here(make_config(tmp_path, [{"stac": f"{root}/stac"}]))
        assert shard_hashes(spec.out_path) == listed
    # Another server, of another address: GDAL remembers what it read from the first.
    fail_below(folder, "/b.tif", 403)
    with serve(folder) as root:
        later = make_config(tmp_path, [{"stac": f"{root}/stac"}], output=str(tmp_path / "later"))
        failed = [row for row in ledger(run_here(later).out_path) if row["status"] == "failed"]
        assert failed
        assert all("b.tif" in row["reason"] for row in failed)
    fail_below(folder, "", 0)


def test_a_changed_image_recomputes_exactly_its_tiles(folder, tmp_path):
    for name in NAMES:
        shutil.copy(folder / f"{name}.tif", tmp_path / f"{name}.tif")
    paths = [tmp_path / f"{name}.tif" for name in NAMES]
    index = write_index(tmp_path / "index.gpkg", paths)
    grid = {"tile_px": 256, "max_building_m": 100.0}
    config = make_config(tmp_path, [{"index": str(index)}], grid=grid)
    first = run_here(config)
    with rasterio.open(tmp_path / "d.tif", "r+") as dataset:
        dataset.write(np.full((3, 40, 40), 90, np.uint8), window=((200, 240), (200, 240)))
    second = run_here(config)
    stored = {e["tile"]: e["stored"] for e in journal_events(second) if e["event"] == "tile"}
    from geo.grid import Tile
    from pipeline.cover import Cover

    cover = Cover(first)
    for name, is_stored in stored.items():
        tile = Tile.parse(name)
        near = cover.images_of(tile.zone, tile.window.expand(first.margin_px))
        assert is_stored or 3 in near
    assert set(stored.values()) == {True, False}


def test_an_image_that_is_gone_fails_its_tiles_and_no_other(folder, tmp_path):
    paths = [folder / f"{name}.tif" for name in NAMES]
    items = [stac_item(path) for path in paths]
    items[3]["assets"]["visual"]["href"] = str(tmp_path / "gone.tif")
    source = {"stac": str(write_items(tmp_path / "items.json", items))}
    grid = {"tile_px": 256, "max_building_m": 100.0}
    spec = run_here(make_config(tmp_path, [source], grid=grid))
    status = {row["status"] for row in ledger(spec.out_path)}
    assert {"ok", "failed"} <= status
    for row in ledger(spec.out_path):
        assert (row["status"] == "failed") == ("gone.tif does not exist" in row["reason"])
    images = pq.read_table(spec.out_path / "images.parquet").to_pylist()
    assert [row["status"] for row in images] == ["opened", "opened", "opened", "failed"]
    assert "gone.tif" in images[3]["reason"]


def test_an_image_that_no_tile_needs_is_never_opened(folder, tmp_path):
    items = [stac_item(folder / "a.tif"), stac_item(folder / "d.tif")]
    items[1]["assets"]["visual"]["href"] = str(tmp_path / "gone.tif")
    area = shapely.box(*outline_of(folder / "a.tif").bounds)
    area = shapely.affinity.scale(area, 0.3, 0.3)
    (tmp_path / "aoi.geojson").write_text(json.dumps(shapely.geometry.mapping(area)))
    config = make_config(
        tmp_path,
        [{"stac": str(write_items(tmp_path / "items.json", items))}],
        area_of_interest=str(tmp_path / "aoi.geojson"),
        grid={"tile_px": 256, "max_building_m": 100.0, "aoi_margin_m": 5.0},
    )
    spec = run_here(config)
    assert "failed" not in {row["status"] for row in ledger(spec.out_path)}


def test_what_an_outline_leaves_out_is_not_used_whatever_the_tile(folder, tmp_path):
    """A catalogue that outlines a part of an image: the part is used, on any tiles."""
    path = folder / "a.tif"
    whole = outline_of(path)
    west, south, east, north = whole.bounds
    part = shapely.box(west, south, west + 0.6 * (east - west), north)
    item = {**stac_item(path), "geometry": shapely.geometry.mapping(part)}
    source = {"stac": str(write_items(tmp_path / "items.json", [item]))}
    hashes, found = {}, None
    for tile_px in (256, 1024):
        config = make_config(
            tmp_path,
            [source],
            output=str(tmp_path / f"out{tile_px}"),
            grid={"tile_px": tile_px, "max_building_m": 300.0},
        )
        spec = run_here(config)
        hashes[tile_px] = shard_hashes(spec.out_path)
        found = footprints(spec.out_path)
    assert hashes[256] == hashes[1024]
    limit = west + 0.6 * (east - west) + 0.02 * (east - west)
    assert found.total_bounds[2] < limit < east
    assert len(found) > 3


# --- clouds and dates ----------------------------------------------------------------------------


def _write_mask(path, image, values, *, factor):
    """A mask of coarser pixels, larger than the image and off its grid by a few metres."""
    with rasterio.open(image) as dataset:
        transform = dataset.transform @ Affine.translation(-7, -5) @ Affine.scale(factor)
        crs = dataset.crs
    return write_geotiff(path, values[None], transform=transform, crs=str(crs))


@pytest.mark.parametrize("mosaic", ["first", "mean_probability"])
def test_clouds_are_not_used_whatever_the_tile(folder, tmp_path, mosaic):
    image = folder / "a.tif"
    values = np.full((60, 70), 4, np.uint8)
    values[1:23, 36:49] = 9
    mask = _write_mask(tmp_path / "scl.tif", image, values, factor=8)
    items = [stac_item(image)]
    items[0]["assets"]["scl"] = {"href": str(mask), "roles": ["data"]}
    source = {
        "stac": str(write_items(tmp_path / "items.json", items)),
        "asset": "visual",
        "cloud_mask": {"asset": "scl", "values": [3, 8, 9]},
    }
    hashes = {}
    for tile_px in (256, 1024):
        config = make_config(
            tmp_path,
            [source],
            output=str(tmp_path / f"out{tile_px}"),
            grid={"tile_px": tile_px, "max_building_m": 300.0},
            raster={"mosaic": mosaic},
        )
        spec = run_here(config)
        hashes[tile_px] = shard_hashes(spec.out_path)
    assert hashes[256] == hashes[1024]
    with rasterio.open(mask) as dataset:
        cloud = shapely.box(*dataset.transform @ (36, 1), *dataset.transform @ (49, 23))
    found = footprints(spec.out_path).to_crs("EPSG:32636")
    clear = run_here(make_config(tmp_path, [image], output=str(tmp_path / "clear")))
    before = footprints(clear.out_path).to_crs("EPSG:32636")
    under = before[before.within(cloud.buffer(-3))]
    apart = before[before.disjoint(cloud.buffer(3))]
    assert len(under) > 2
    assert not found.intersects(cloud.buffer(-1)).any()
    assert set(apart.index) <= set(found.index)


def test_a_changed_cloud_mask_recomputes_its_tiles(folder, tmp_path):
    image = folder / "a.tif"
    values = np.zeros((62, 70), np.uint8)
    mask = _write_mask(tmp_path / "mask.tif", image, values, factor=8)
    record = {"path": str(image), "cloud_mask": {"path": str(mask), "values": [1]}}
    config = make_config(tmp_path, [record])
    first = run_here(config)
    values[:] = 1
    _write_mask(tmp_path / "mask.tif", image, values, factor=8)
    second = run_here(config)
    assert len(manifest(first.out_path)["shards"]) == 0
    tiles = [e for e in journal_events(second) if e["event"] == "tile"]
    assert {e["status"] for e in tiles} == {"nodata"}


def test_a_band_of_the_image_masks_clouds(tmp_path):
    town = draw_town(400, 400, seed=9)
    cloudy = np.zeros((1, 400, 400), np.uint8)
    cloudy[:, :, 200:] = 7
    image = write_geotiff(
        tmp_path / "five.tif",
        np.concatenate([town.pixels, cloudy]),
        transform=town.transform,
        crs=town.crs,
    )
    with rasterio.open(image, "r+") as dataset:
        # Four bands would pass for red, green, blue and alpha.
        dataset.colorinterp = [*dataset.colorinterp[:3], ColorInterp.undefined]
    record = {"path": str(image), "cloud_mask": {"band": 4, "values": [7]}}
    config = make_config(tmp_path, [record], raster={"bands": [1, 2, 3]})
    found = footprints(run_here(config).out_path).to_crs(town.crs)
    assert len(found) > 3
    assert found.total_bounds[2] <= (town.transform @ (200, 0))[0] + 0.6


def test_the_newest_of_mixed_images_dates_a_footprint(tmp_path):
    town = draw_town(400, 400, seed=9)
    images = [
        {"path": str(write_town(tmp_path / "new.tif", town)), "date": "2024-05-01"},
        {
            "path": str(write_town(tmp_path / "old.tif", town.crop(0, 0, 400, 200))),
            "date": "2020-05-01",
        },
    ]
    config = make_config(tmp_path, images, raster={"mosaic": "mean_probability"})
    rows = footprints(run_here(config).out_path)
    assert {str(date) for date in rows.image_date} == {"2024-05-01"}
    assert set(rows.image_id) == {"new"}


# --- tile services -------------------------------------------------------------------------------

ZOOM = 19


def _write_tiles(folder, tmp_path):
    """A town on the pixels of a zoom, as tiles and as one image of the very same pixels."""
    size_m = 2 * HALF_WIDTH_M / (1 << ZOOM)
    col, row, num = 309_690, 261_558, 3
    corner = (col * size_m - HALF_WIDTH_M, HALF_WIDTH_M - row * size_m)
    gsd = size_m / 256
    transform = Affine(gsd, 0, corner[0], 0, -gsd, corner[1])
    town = draw_town(256 * num, 256 * num, seed=12, transform=transform, crs="EPSG:3857")
    pixels = town.pixels.copy()
    missing = (2, 1)
    valid = np.ones(town.shape, bool)
    for y in range(num):
        for x in range(num):
            part = pixels[:, 256 * y : 256 * y + 256, 256 * x : 256 * x + 256]
            if (y, x) == missing:
                valid[256 * y : 256 * y + 256, 256 * x : 256 * x + 256] = False
                continue
            path = folder / "tiles" / str(ZOOM) / str(col + x) / f"{row + y}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.moveaxis(part[::-1], 0, -1))
    image = write_geotiff(
        tmp_path / "mosaic.tif", pixels, transform=transform, crs="EPSG:3857", mask=valid
    )
    area = shapely.affinity.scale(outline_of(image), 0.98, 0.98)
    (tmp_path / "aoi.geojson").write_text(json.dumps(shapely.geometry.mapping(area)))
    return image, {
        "area_of_interest": str(tmp_path / "aoi.geojson"),
        "grid": {"tile_px": 512, "max_building_m": 300.0, "gsd_m": 0.3},
    }


def test_tiles_give_the_bytes_of_the_same_ground_in_one_image(tmp_path):
    served = tmp_path / "served"
    image, options = _write_tiles(served, tmp_path)
    by_image = run_here(
        make_config(
            tmp_path, [{"path": str(image), "id": "t"}], output=str(tmp_path / "one"), **options
        )
    )
    with serve(served) as root:
        record = {"tiles": f"{root}/tiles/{{z}}/{{x}}/{{y}}.png", "zoom": ZOOM, "id": "t"}
        by_tiles = run_here(
            make_config(tmp_path, [record], output=str(tmp_path / "many"), **options)
        )
        assert len(footprints(by_image.out_path)) > 10
        assert shard_hashes(by_tiles.out_path) == shard_hashes(by_image.out_path)
        assert "failed" not in {row["status"] for row in ledger(by_tiles.out_path)}
        fail_below(served, f"/tiles/{ZOOM}/309691", 503)
        broken = run_here(
            make_config(
                tmp_path,
                [record],
                output=str(tmp_path / "broken"),
                **{**options, "grid": {**options["grid"], "tile_px": 256}},
            )
        )
        reasons = [r["reason"] for r in ledger(broken.out_path) if r["status"] == "failed"]
        assert reasons
        assert all("503" in reason and f"{root}/tiles/" in reason for reason in reasons)
    assert any(line.endswith(".png") for line in requests(served))
