"""Tiles and windows of an area: counted at once, as a run would plan them one by one."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_runs import make_simulated_spec

from geo.errors import GridError
from geo.grid import Tile, WorldGrid, cores_in_zone, squares_in_zone
from pipeline.cover import Cover
from pipeline.ground import area_km2, count_ground, ground_squares, square_area

AFRICA = Path(__file__).parents[2] / "configs" / "areas" / "africa.geojson"


def _counted_one_by_one(spec):
    """Tiles and windows per zone as PlanTiles makes them."""
    cover, found = Cover(spec), {}
    for cell in cover.plan_cells():
        for tile in cover.tiles_in(cell):
            tiles, windows = found.get(tile.zone, (0, 0))
            num = int(np.count_nonzero(cover.core_mask(tile)))
            found[tile.zone] = tiles + 1, windows + num
    return found


@pytest.mark.parametrize("tile_px", [1024, 3072, 4096])
@pytest.mark.parametrize(
    "area",
    [
        shapely.box(32.51, 0.21, 32.66, 0.34),
        shapely.Polygon([(29.9, -0.2), (30.15, -0.05), (30.02, 0.22), (29.93, 0.04)]),
        shapely.Point(180.0, -16.9).buffer(0.17),
        shapely.box(-24.1, 20.0, -23.99, 20.01),
        shapely.Point(12.0, 10.0).buffer(0.2) - shapely.Point(12.0, 10.0).buffer(0.13),
    ],
    ids=["inside", "corner of zones", "antimeridian", "sliver at an edge", "ring"],
)
def test_counts_are_those_of_a_run(tmp_path, area, tile_px):
    spec = make_simulated_spec(tmp_path, area, grid={"tile_px": tile_px, "max_building_m": 700.0})
    counted = count_ground(
        shapely.from_wkb(spec.aoi_wkb),
        gsd_mm=500,
        tile_px=tile_px,
        core_px=1024,
        overlap_m=700.0,
        margin_m=100.0,
    )
    assert {g.zone: (g.num_tiles, g.num_windows) for g in counted} == _counted_one_by_one(spec)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(-900, 900), st.integers(-5, 110))
def test_squares_and_cores_agree_on_zones(zone, row, col):
    grid = WorldGrid(zone, 2500)
    window = Tile(zone, 2500, 4096, row, col).window
    cores = cores_in_zone(grid, window, 512, 1000.0)
    rows, cols = np.indices(cores.shape) * 512
    squares = squares_in_zone(
        grid, window.col_off + cols, window.row_off + rows, 512, overlap_m=1000.0
    )
    np.testing.assert_array_equal(cores, squares)


def test_the_outline_of_africa_is_as_large_as_the_first_open_buildings():
    features = json.loads(AFRICA.read_text())["features"]
    area = shapely.from_geojson(json.dumps(features[0]["geometry"]))
    assert area.is_valid
    assert area_km2(area) == pytest.approx(19.4e6, rel=0.003)
    counted = count_ground(area, gsd_mm=10_000, tile_px=1024, core_px=1024, overlap_m=1000.0)
    assert [ground.zone for ground in counted] == list(range(28, 40))
    ground_km2 = sum(ground.num_windows for ground in counted) * 10.24**2
    assert 1.0 < ground_km2 / area_km2(area) < 1.08


def test_squares_of_a_picture_hold_the_area():
    area = shapely.box(29.5, -0.5, 30.5, 0.5)
    squares = ground_squares(area, gsd_mm=500, size_px=65536, overlap_m=1000.0)
    assert {grid.zone for grid, _ in squares} == {35, 36}
    ground_m2 = sum((window.width * grid.gsd_m) ** 2 for grid, window in squares)
    assert ground_m2 / 1e6 >= area_km2(area)


@pytest.mark.parametrize("km2", [1.0, 19.4e6, 100e6])
def test_a_square_has_the_size_that_was_asked_for(km2):
    assert area_km2(square_area(km2)) == pytest.approx(km2, rel=1e-6)


def test_areas_that_cannot_be_planned():
    options = {"gsd_mm": 500, "tile_px": 4096, "core_px": 1024, "overlap_m": 1000.0}
    with pytest.raises(GridError, match="holds nothing"):
        count_ground(shapely.Polygon(), **options)
    with pytest.raises(GridError, match="latitude"):
        count_ground(shapely.box(0, 80, 1, 86), **options)
    with pytest.raises(GridError, match="km2"):
        square_area(0.0)
