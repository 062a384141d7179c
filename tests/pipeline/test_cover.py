"""Which tiles and cores a job covers."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_bounds
from running import make_config
from synthetic import draw_town, write_town

from geo.grid import Tile
from geo.pixel_window import PixelWindow
from pipeline.cover import Cover
from pipeline.spec import resolve_config


def _cover(tmp_path, *places, **options):
    images = [
        write_town(tmp_path / f"{i}.tif", draw_town(300, 400, seed=i, lon_deg=lon, lat_deg=lat))
        for i, (lon, lat) in enumerate(places)
    ]
    spec = resolve_config(make_config(tmp_path, images, **options))
    return spec, Cover(spec)


def _tiles(cover):
    return [tile for cell in cover.plan_cells() for tile in cover.tiles_in(cell)]


def test_tiles_hold_every_pixel_of_the_image_and_no_tile_comes_twice(tmp_path):
    spec, cover = _cover(tmp_path, (32.6, 0.4))
    tiles = _tiles(cover)
    assert len(set(tiles)) == len(tiles)
    lon, lat = np.asarray(spec.images[0].footprint).T
    cols, rows = spec.grid(36).from_lonlat(lon, lat)
    names = {tile.name for tile in tiles}
    for col, row in zip(cols, rows, strict=True):
        tile = Tile(36, 300, 512, int(row // 512), int(col // 512))
        assert tile.name in names


def test_cores_do_not_depend_on_the_tile(tmp_path):
    """The active cores are the same set whatever the tile size."""
    active = {}
    for tile_px in (256, 512, 1024):
        _, cover = _cover(tmp_path, (32.6, 0.4), grid={"tile_px": tile_px})
        found = set()
        for tile in _tiles(cover):
            for row, col in zip(*np.nonzero(cover.core_mask(tile)), strict=True):
                window = tile.window
                found.add((window.row_off + 256 * int(row), window.col_off + 256 * int(col)))
        active[tile_px] = found
    assert active[256] == active[512] == active[1024]
    assert active[256]


@pytest.mark.parametrize("lon_deg", [32.6, 35.999])
def test_the_short_cut_for_inner_tiles_says_what_looking_at_every_core_says(tmp_path, lon_deg):
    town = draw_town(1500, 1500, seed=1, lon_deg=lon_deg)
    spec = resolve_config(
        make_config(
            tmp_path,
            [write_town(tmp_path / "large.tif", town)],
            grid={"tile_px": 256, "max_building_m": 50.0},
        )
    )
    quick, slow = Cover(spec), Cover(spec)
    slow._is_all_ground = lambda tile: False
    tiles = _tiles(slow)
    assert tiles == _tiles(quick)
    assert any(quick._is_all_ground(tile) for tile in tiles) == (lon_deg == 32.6)
    for tile in tiles:
        np.testing.assert_array_equal(quick.core_mask(tile), slow.core_mask(tile))


def test_images_of_a_window_are_those_that_meet_it(tmp_path):
    spec, cover = _cover(tmp_path, (32.6, 0.4), (32.61, 0.4))
    for index, image in enumerate(spec.images):
        lon, lat = np.asarray(image.footprint).mean(axis=0)
        col, row = spec.grid(36).from_lonlat(lon, lat)
        assert cover.images_of(36, PixelWindow(int(col), int(row), 5, 5)) == [index]
    assert cover.images_of(36, PixelWindow(0, 0, 5, 5)) == []


@pytest.mark.parametrize(
    ("lon_deg", "zones"), [(32.6, [36]), (35.9996, [36, 37]), (30.0005, [35, 36])]
)
def test_both_zones_see_the_ground_at_their_edge(tmp_path, lon_deg, zones):
    _, cover = _cover(tmp_path, (lon_deg, 0.4))
    assert sorted({tile.zone for tile in _tiles(cover)}) == zones


def test_threads_that_ask_at_once_get_the_same_cores(tmp_path):
    image = write_town(tmp_path / "town.tif", draw_town(1500, 1500, seed=1))
    angle = np.linspace(0.0, 2.0 * np.pi, 2000)
    with rasterio.open(image) as town:
        west, south, east, north = transform_bounds(town.crs, 4326, *town.bounds)
    radius = (east - west) * (0.3 + 0.1 * np.sin(40.0 * angle))
    lon, lat = (west + east) / 2, (south + north) / 2
    ring = np.stack([lon + radius * np.cos(angle), lat + radius * np.sin(angle)], axis=1).tolist()
    aoi = tmp_path / "aoi.geojson"
    aoi.write_text(json.dumps({"type": "Polygon", "coordinates": [[*ring[:-1], ring[0]]]}))
    config = make_config(
        tmp_path,
        [image],
        area_of_interest=str(aoi),
        grid={"tile_px": 64, "max_building_m": 15.0, "aoi_margin_m": 1.0},
        segment={"window_px": 64},
    )
    spec = resolve_config(config)
    cover = Cover(spec)
    tiles = _tiles(cover)
    assert len(tiles) > 50
    expected = [cover.core_mask(tile) for tile in tiles]
    for _ in range(4):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(Cover(spec).core_mask, tiles))
        np.testing.assert_array_equal(found, expected)
