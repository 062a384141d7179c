"""Jobs across zone edges, the equator and the antimeridian: every building once, in one piece.

The buildings of a drawn land are known wherever they stand, so that what comes out is compared with
what there is, and with what one window over everything gives, without tiles, levels or shuffles.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import shapely
from drawn_land import SITES_PER_BLOCK, SITES_PER_DEGREE, Land, land_instances
from running import footprints, ledger, manifest, shard_hashes
from simulated_runs import IMAGE_STEP_DEG, make_simulated_spec, run_simulated

from geo.grid import METRES_PER_DEGREE, unwrap_longitude, zone_of_longitude
from geo.pixel_window import PixelWindow
from pipeline.cover import Cover
from pipeline.finish import finish_instances
from pipeline.image_shelf import ImageShelf
from pipeline.merge import level_sizes
from pipeline.tile_store import TileStore

LAND = Land(seed=3, decay_km=40.0, hall_share=0.1, hall_m=100.0)
"""Dense wherever the tests look, with a hall in every tenth block."""
CORE_PX = 256
_BLOCK_DEG = SITES_PER_BLOCK / SITES_PER_DEGREE


def _area(lon_deg, lat_deg, half_width, half_height):
    """A box around a place, its sides between two sites; sizes in blocks of 257 m."""
    step = _BLOCK_DEG
    lon, lat = round(lon_deg / step) * step, round(lat_deg / step) * step
    return shapely.box(
        lon - half_width * step,
        lat - half_height * step,
        lon + half_width * step,
        lat + half_height * step,
    )


PLACES = {
    "zone edge and equator": _area(30.0, 0.0, 4, 2),
    "antimeridian and equator": _area(180.0, 0.0, 4, 2),
    "antimeridian in the south": _area(180.0, -16.5, 3, 2),
    "zone edge in the north": _area(-12.0, 24.0, 2, 3),
}
WORST_PLACE = PLACES["antimeridian and equator"]


def _spec(folder, area, tile_px):
    grid = {"tile_px": tile_px, "max_building_m": 128.0}
    return make_simulated_spec(
        folder, area, core_px=CORE_PX, grid=grid, shards={"max_rows_per_shard": 800}
    )


def _standing(area):
    """The buildings that stand in an area, and the longitudes of their middles as it has them."""
    found = LAND.buildings_within(*area.bounds)
    lon = unwrap_longitude(found.lon, area.centroid.x)
    west, south, east, north = area.bounds
    inside = (lon > west) & (lon < east) & (found.lat > south) & (found.lat < north)
    return np.stack([lon[inside], found.lat[inside]], axis=1)


@pytest.fixture(scope="module", params=PLACES)
def job(request, tmp_path_factory):
    """A job at one of the places: its area, spec and footprints."""
    area = PLACES[request.param]
    spec = _spec(tmp_path_factory.mktemp("job"), area, 512)
    run_simulated(spec, land=LAND)
    return area, spec, footprints(spec.out_path)


def test_the_place_takes_every_level_and_several_shards(job):
    _, spec, _ = job
    extents = Cover(spec).tile_extent()
    assert len(extents) == 2
    assert len(level_sizes(extents.values())) >= 4
    assert manifest(spec.out_path)["counts"]["shards"] >= 2
    assert {row["status"] for row in ledger(spec.out_path)} <= {"ok", "empty"}


def test_every_building_comes_out_once(job):
    area, _, rows = job
    middles = _standing(area)
    assert len(rows) == len(middles) > 500
    assert rows.longitude.between(-180, 180, inclusive="left").all()
    lon = unwrap_longitude(rows.longitude.to_numpy(), area.centroid.x)
    found = np.stack([lon, rows.latitude.to_numpy()], axis=1)
    nearest = shapely.STRtree(shapely.points(middles)).nearest(shapely.points(found))
    # As many, each nearest to another one, and near: one to one.
    assert len(np.unique(nearest)) == len(middles)
    off_m = METRES_PER_DEGREE * np.hypot(*(found - middles[nearest]).T)
    assert off_m.max() < 0.75


def test_zones_share_the_buildings_along_their_edge(job):
    _, _, rows = job
    zone = rows.index.str.slice(1, 3).astype(int).to_numpy()
    own = np.array([zone_of_longitude(lon) for lon in rows.longitude])
    assert len(np.unique(zone)) == 2
    assert (zone == own).mean() > 0.999


def test_outlines_are_those_of_one_piece(job):
    """Finished from one window over everything, in each building's own zone."""
    area, spec, rows = job
    compared = 0
    shelf = ImageShelf(spec, TileStore(spec.store_path))
    for zone in (int(z) for z in np.unique(rows.index.str.slice(1, 3))):
        table, _ = finish_instances(spec, shelf, zone, _one_piece(spec, area, zone))
        alone = {
            one["id"]: (one["geometry"], one["area_in_meters"], one["confidence"])
            for one in table.select(["id", "geometry", "area_in_meters", "confidence"]).to_pylist()
        }
        here = rows[rows.index.str.startswith(f"z{zone:02d}")]
        for name, row in here.iterrows():
            wkb, area_m2, confidence = alone[name]
            assert shapely.from_wkb(wkb).equals_exact(row.geometry, 0)
            assert (row.area_in_meters, row.confidence) == (area_m2, confidence)
            compared += 1
    assert compared == len(rows)


def _one_piece(spec, area, zone):
    grid = spec.grid(zone)
    outline = shapely.get_coordinates(shapely.segmentize(area.buffer(0.004).exterior, 0.001))
    cols, rows = grid.from_lonlat(
        unwrap_longitude(outline[:, 0], grid.central_meridian_deg), outline[:, 1]
    )
    first = np.floor([cols.min() / CORE_PX, rows.min() / CORE_PX]).astype(int)
    size = np.ceil([cols.max() / CORE_PX, rows.max() / CORE_PX]).astype(int) - first
    window = PixelWindow(*(first * CORE_PX).tolist(), *(size * CORE_PX).tolist())
    return land_instances(
        LAND,
        grid,
        window,
        cores=np.ones(size[::-1], bool),
        core_px=CORE_PX,
        image_step_deg=IMAGE_STEP_DEG,
        image_numbers={},
    )


@pytest.mark.parametrize("tile_px", [CORE_PX, 2048])
def test_same_shards_for_any_tile_size(job, tmp_path, tile_px):
    area, spec, _ = job
    if tile_px == CORE_PX and area is not WORST_PLACE:
        pytest.skip("the smallest tiles take long: one place is enough, where most edges meet")
    other = run_simulated(_spec(tmp_path, area, tile_px), land=LAND)
    assert shard_hashes(other.out_path) == shard_hashes(spec.out_path)


def test_same_shards_for_two_workers(job, tmp_path, monkeypatch):
    area, spec, _ = job
    if area is not WORST_PLACE:
        pytest.skip("one place is enough, where most edges meet")
    # Workers are processes of their own, which import the land from here.
    folders = [Path(__file__).parents[2], Path(__file__).parents[1]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    other = run_simulated(_spec(tmp_path, area, 512), land=LAND, workers=2)
    assert shard_hashes(other.out_path) == shard_hashes(spec.out_path)
