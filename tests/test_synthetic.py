"""The drawings are what they claim to be; every other test leans on them."""

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.windows import Window

WHOLE: dict[int, np.ndarray] = {}


def test_a_block_covers_exactly_its_area():
    block = synthetic.box_px(30, 40, 20, 20)
    town = synthetic.draw_polygons([block], gsd_m=0.5)
    assert town.mask.sum() == 400
    assert town.mask[40:60, 30:50].all()
    assert town.polygons[0].area == pytest.approx(400 * 0.25)


def test_a_hole_stays_open():
    ring = synthetic.box_px(10, 10, 30, 30).difference(synthetic.box_px(20, 20, 10, 10))
    assert synthetic.draw_polygons([ring]).mask.sum() == 800


@settings(max_examples=60)
@given(
    x=st.floats(-10, 70),
    y=st.floats(-10, 70),
    length=st.floats(2, 60),
    breadth=st.floats(2, 60),
    angle=st.floats(0, 180),
)
def test_filling_follows_the_pixel_centres(x, y, length, breadth, angle):
    box = synthetic.rotated_box_px(x, y, length, breadth, angle)
    mask = synthetic.fill_mask(np.zeros((64, 64), bool), box)
    centres = np.arange(64) + 0.5
    inside = shapely.contains_xy(box, *np.meshgrid(centres, centres))
    on_edge = shapely.intersects_xy(box.exterior, *np.meshgrid(centres, centres))
    assert not (mask != inside)[~on_edge].any()


@pytest.mark.parametrize("seed", range(3))
def test_roofs_are_where_the_truth_says_and_nowhere_else(seed):
    town = synthetic.draw_town(500, 700, seed=seed)
    roof = np.array(synthetic.ROOF_RGB)[:, None, None]
    assert np.array_equal((town.pixels == roof).all(axis=0), town.mask)
    near = (np.abs(town.pixels.astype(int) - roof) <= 40).all(axis=0)
    assert np.array_equal(near, town.mask), "something else looks like a roof"


def test_the_mask_agrees_with_gdal():
    town = synthetic.draw_town(400, 400, seed=5)
    assert np.array_equal(rasterize(town.polygons_px, town.shape).astype(bool), town.mask)


def test_all_kinds_occur_and_buildings_never_overlap():
    town = synthetic.draw_town(1200, 1800, seed=1)
    assert {building.kind for building in town.buildings} == set(synthetic.KINDS)
    assert len(np.unique(town.instances)) == len(town.buildings) + 1
    total = sum(polygon.area for polygon in town.polygons_px)
    assert shapely.union_all(town.polygons_px).area == pytest.approx(total)
    assert all(polygon.is_valid for polygon in town.polygons_px)


def test_row_houses_stand_as_far_apart_as_told():
    for gap_px in (1, 2):
        town = synthetic.draw_town(192, 192, kinds=("row",), gap_px=gap_px)
        tree = shapely.STRtree(town.polygons_px)
        others = [
            town.polygons_px[index].distance(polygon)
            for polygon in town.polygons_px
            for index in tree.query(polygon, "dwithin", gap_px + 0.5)
            if town.polygons_px[index] is not polygon
        ]
        assert others
        assert set(others) == {float(gap_px)}


def test_other_roof_colours_are_far_from_the_main_one():
    town = synthetic.draw_town(seed=2, roofs_rgb=synthetic.OTHER_ROOFS_RGB)
    roof = np.array(synthetic.ROOF_RGB)[:, None, None]
    assert not (np.abs(town.pixels.astype(int) - roof) <= 40).all(axis=0).any()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 3),
    row=st.integers(0, 700),
    col=st.integers(0, 1600),
    height=st.integers(1, 200),
    width=st.integers(1, 200),
)
def test_a_window_equals_the_same_part_of_the_whole(seed, row, col, height, width):
    plan = synthetic.TownPlan(height=900, width=1800, seed=seed)
    whole = WHOLE.setdefault(seed, synthetic.paint(plan))
    part = synthetic.paint(plan, Window(col, row, width, height))
    expected = whole[:, row : row + height, col : col + width]
    assert np.array_equal(part, expected)


def test_a_large_town_is_the_small_one_without_seams(tmp_path):
    plan = synthetic.write_large_town(tmp_path / "town.tif", 1100, seed=4, block_px=256)
    town = synthetic.draw_town(1100, 1100, seed=4)
    with rasterio.open(tmp_path / "town.tif") as file:
        assert file.block_shapes[0] == (256, 256)
        assert np.array_equal(file.read(), town.pixels)
        assert file.transform == town.transform
    assert [b.polygon_px for b in plan.buildings()] == town.polygons_px


def test_a_large_jpeg_town_has_overviews(tmp_path):
    path = tmp_path / "town.tif"
    synthetic.write_large_town(path, 1024, compress="jpeg", block_px=256, overviews=True)
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2, 4]
        assert file.profile["compress"] == "jpeg"


@pytest.mark.parametrize("crs", ["EPSG:32636", "EPSG:3857", "EPSG:4326"])
def test_a_place_has_its_pixel_size_on_the_ground(crs):
    town = synthetic.draw_polygons(
        [synthetic.box_px(10, 10, 100, 100)], crs=crs, lat_deg=45.0, lon_deg=33.0
    )
    (polygon,) = town.polygons_in("EPSG:4326")
    area_m2, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(polygon)
    assert abs(area_m2) == pytest.approx(900, rel=0.01)


def test_south_up_and_rotation_keep_the_picture_and_move_the_truth():
    town = synthetic.draw_town(200, 300, seed=6)
    turned = town.south_up()
    assert turned.transform.e > 0
    assert np.array_equal(turned.mask, town.mask[::-1])
    for before, after in zip(town.polygons, turned.polygons, strict=True):
        assert before.symmetric_difference(after).area < 1e-6
    rotated = town.rotated(30.0)
    assert rotated.transform.b != 0
    assert np.array_equal(rotated.pixels, town.pixels)
    areas = [polygon.area for polygon in rotated.polygons]
    assert areas == pytest.approx([polygon.area for polygon in town.polygons])
    centre = town.transform @ (150, 100)
    assert rotated.transform @ (150, 100) == pytest.approx(centre)


def test_crops_fit_together():
    town = synthetic.draw_town(300, 400, seed=7)
    part = town.crop(100, 150, 120, 130)
    assert np.array_equal(part.pixels, town.pixels[:, 100:220, 150:280])
    assert np.array_equal(part.mask, town.mask[100:220, 150:280])
    assert part.transform @ (0, 0) == pytest.approx(town.transform @ (150, 100))


def test_fill_hides_pixels_and_truth():
    town = synthetic.draw_town(300, 300, seed=8)
    hole = shapely.Point(150, 150).buffer(40)
    filled = town.with_fill((255, 255, 255), border_px=20, hole_px=hole)
    assert (filled.pixels[:, ~filled.valid] == 255).all()
    assert np.array_equal(filled.pixels[:, filled.valid], town.pixels[:, filled.valid])
    assert not filled.valid[:20].any()
    assert not filled.valid[150, 150]
    assert not (filled.mask & ~filled.valid).any()
    assert len(filled.buildings) > 0


def test_files_carry_what_was_asked_for(tmp_path):
    town = synthetic.draw_town(200, 300, seed=9).with_fill((0, 0, 0), border_px=10)
    path = synthetic.write_town(
        tmp_path / "mask.tif", town, mask=town.valid, acquired="2026:05:01 09:30:00", overviews=(2,)
    )
    with rasterio.open(path) as file:
        assert np.array_equal(file.dataset_mask() > 0, town.valid)
        assert file.tags()["TIFFTAG_DATETIME"] == "2026:05:01 09:30:00"
        assert file.overviews(1) == [2]
    path = synthetic.write_town(tmp_path / "alpha.tif", town, alpha=town.valid)
    with rasterio.open(path) as file:
        assert file.count == 4
        assert np.array_equal(file.dataset_mask() > 0, town.valid)
    wide = synthetic.to_uint16(town.pixels)
    path = synthetic.write_geotiff(
        tmp_path / "wide.tif", wide, transform=town.transform, crs=town.crs, nodata=0
    )
    with rasterio.open(path) as file:
        assert file.dtypes[0] == "uint16"
        assert file.nodata == 0
        assert np.array_equal(file.read(), wide)
    real = synthetic.to_float(town.pixels, town.valid)
    path = synthetic.write_geotiff(tmp_path / "f.tif", real, transform=town.transform, crs=town.crs)
    with rasterio.open(path) as file:
        assert np.array_equal(np.isnan(file.read(1)), ~town.valid)
    assert synthetic.with_infrared(town.pixels).shape == (4, 200, 300)


@pytest.mark.parametrize("compress", ["jpeg", "deflate"])
def test_cogs_have_overviews_and_the_same_place(tmp_path, compress):
    town = synthetic.draw_town(600, 700, seed=10, crs="EPSG:3857")
    path = synthetic.write_cog(tmp_path / "town.tif", town, compress=compress)
    with rasterio.open(path) as file:
        assert file.overviews(1)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.transform == town.transform
        difference = np.abs(file.read().astype(int) - town.pixels)
    assert difference.mean() < (8 if compress == "jpeg" else 1e-9)


def test_a_town_may_cross_the_antimeridian():
    town = synthetic.draw_town(200, 4000, crs="EPSG:4326", lon_deg=179.995, lat_deg=-17.0)
    assert max(polygon.bounds[2] for polygon in town.polygons) > 180.0
    assert min(polygon.bounds[0] for polygon in town.polygons) < 180.0
