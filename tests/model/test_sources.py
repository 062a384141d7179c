import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pytest
import shapely
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from place_drawings import colour_of

from model.burn_polygons import burn_polygons
from model.chip_pack import read_pack, write_pack
from model.coco_masks import decode_mask
from model.errors import SourceError
from model.fill_mask import find_missing
from model.find_images import spread_evenly
from model.places import check_split
from model.source_config import (
    CocoSource,
    CutConfig,
    DatasetConfig,
    DrawnSource,
    MaskSource,
    PolygonSource,
)
from model.sources import read_places

UTM = "EPSG:32636"


def _read(*sources: Any, **fields: Any):
    return read_places(DatasetConfig(sources=sources, **fields))


def _save_polygons(path: Path, polygons, crs=UTM, to="EPSG:4326"):
    geopandas.GeoDataFrame(geometry=list(polygons), crs=crs).to_crs(to).to_file(path)


@pytest.fixture
def town(tmp_path):
    """A drawn town with its outlines beside it, in degrees."""
    town = synthetic.draw_town(400, 500, seed=3)
    synthetic.write_town(tmp_path / "town.tif", town)
    _save_polygons(tmp_path / "town.geojson", town.polygons)
    return town


def _polygons(tmp_path, **fields: Any):
    values = {"name": "towns", "images": (str(tmp_path / "town.tif"),), "min_area_m2": 0.0}
    return PolygonSource(**(values | fields))


# --- images with polygons ------------------------------------------------------------------------


def test_polygons_become_the_ids_that_were_drawn(town, tmp_path):
    (place,), report = _read(_polygons(tmp_path, category="urban"))
    assert (place.name, place.region, place.split) == ("towns/town", "towns/town", "train")
    assert (place.category, place.has_instances) == ("urban", True)
    assert place.gsd_m == pytest.approx(0.3, rel=1e-3)
    np.testing.assert_array_equal(place.image, town.pixels.transpose(1, 2, 0))
    assert place.known.all()
    assert place.num_instances == len(town.buildings)
    # Degrees in the file are rounded: a pixel in ten thousand may change sides.
    assert ((place.ids > 0) != town.mask).mean() < 1e-4
    pairs = np.stack([place.ids, town.instances], axis=2)[(place.ids > 0) & town.mask]
    assert len(np.unique(pairs, axis=0)) == len(town.buildings)
    (source,) = report.sources
    assert source.num_instances == source.counts.num_labels == len(town.buildings)
    assert source.train_m2 == pytest.approx(place.known_area_m2)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32737"])
def test_images_in_any_crs(tmp_path, crs):
    town = synthetic.draw_town(300, 360, seed=1, crs=crs, lon_deg=40.7, lat_deg=-14.5)
    synthetic.write_town(tmp_path / "town.tif", town)
    _save_polygons(tmp_path / "town.geojson", town.polygons, crs=crs)
    (place,), _ = _read(_polygons(tmp_path))
    assert place.gsd_m == pytest.approx(0.3, rel=0.01)
    assert abs(place.shape[0] - 300) <= 3
    assert abs(place.shape[1] - 360) <= 3
    red = np.abs(place.image.astype(int) - synthetic.ROOF_RGB).max(axis=2) < 30
    assert (red != (place.ids > 0)).mean() < 0.01


def test_fine_images_are_stored_coarser(tmp_path):
    town = synthetic.draw_town(600, 600, seed=2, gsd_m=0.1)
    synthetic.write_town(tmp_path / "town.tif", town)
    _save_polygons(tmp_path / "town.geojson", town.polygons)
    (place,), _ = _read(_polygons(tmp_path), store_gsd_m=0.25)
    assert place.gsd_m == pytest.approx(0.25)
    assert place.shape == (240, 240)
    assert place.num_instances == len(town.buildings)
    areas = sorted(np.bincount(place.ids.ravel())[1:] * 0.25**2)
    expected = sorted(polygon.area * 0.1**2 for polygon in town.polygons_px)
    np.testing.assert_allclose(areas, expected, rtol=0.15)


def test_ground_outside_the_labelled_area_is_unknown(town, tmp_path):
    left, bottom, right, top = shapely.total_bounds(town.polygons)
    area = shapely.box(left + 30, bottom + 30, right - 30, top - 30)
    _save_polygons(tmp_path / "town.area.geojson", [area])
    (place,), report = _read(_polygons(tmp_path, area="{stem}.area.geojson", context_m=6.0))
    # What is kept: the area and 20 px around it.
    width_px, height_px = (right - left - 60) / 0.3, (top - bottom - 60) / 0.3
    assert place.shape == pytest.approx((height_px + 40, width_px + 40), abs=3)
    assert not place.known[:19].any()
    assert not place.known[:, -19:].any()
    cut = [p for p in town.polygons if not area.contains(p)]
    inside = [p for p in town.polygons if area.contains(p)]
    assert place.num_instances == len(inside)
    # Buildings beyond the kept part are not counted, those cut by the edge are.
    assert 0 < report.sources[0].counts.num_unknown <= len(cut)
    # A building that the edge cuts is unknown as a whole.
    known_ids = np.unique(place.ids[place.known])
    unknown_ids = np.unique(place.ids[~place.known])
    assert set(known_ids) & set(unknown_ids) <= {0}


def test_fill_and_holes_have_no_image_data(tmp_path):
    hole = shapely.box(100, 100, 300, 300)
    town = synthetic.draw_town(512, 512, seed=5)
    filled = town.with_fill((255, 255, 255), border_px=24, hole_px=hole)
    synthetic.write_town(tmp_path / "town.tif", filled)
    _save_polygons(tmp_path / "town.geojson", town.polygons)
    (place,), _ = _read(_polygons(tmp_path))
    assert not place.valid[~filled.valid].any()
    assert (place.valid != filled.valid).mean() < 0.04  # 3 px around it
    assert not place.image[~place.valid].any()
    assert not place.known[~place.valid].any()


def test_one_file_of_labels_for_many_images(tmp_path):
    whole = synthetic.draw_town(400, 800, seed=7)
    for name, col in (("west", 0), ("east", 400)):
        part = whole.crop(0, col, 400, 400)
        synthetic.write_town(tmp_path / f"{name}.tif", part)
    _save_polygons(tmp_path / "all.gpkg", whole.polygons, to="EPSG:3857")
    places, _ = _read(_polygons(tmp_path, images=(str(tmp_path / "*.tif"),), labels="all.gpkg"))
    assert [place.name for place in places] == ["towns/east", "towns/west"]
    for place, col in zip(places, (400, 0), strict=True):
        assert ((place.ids > 0) != whole.mask[:, col : col + 400]).mean() < 1e-3


def test_broken_polygons_are_repaired_and_empty_ones_counted(tmp_path):
    town = synthetic.draw_polygons([shapely.box(20, 20, 60, 60)], 200, 200)
    synthetic.write_town(tmp_path / "town.tif", town)

    def at(*points):
        return shapely.Polygon([town.transform @ point for point in points])

    bow_tie = at((80, 80), (120, 120), (120, 80), (80, 120))
    features = [*town.polygons, bow_tie, shapely.Polygon(), shapely.Point(bow_tie.centroid),
                at((150, 150), (170, 150), (150, 150))]  # fmt: skip
    _save_polygons(tmp_path / "town.gpkg", features, to=UTM)
    (place,), report = _read(_polygons(tmp_path, labels="{stem}.gpkg"))
    counts = report.sources[0].counts
    # A bow tie falls into two triangles.
    assert place.num_instances == 3
    assert counts.num_repaired >= 1
    assert counts.num_dropped == 3


def test_small_polygons_are_unknown_ground(tmp_path):
    town = synthetic.draw_polygons([shapely.box(20, 20, 60, 60), shapely.box(80, 80, 84, 84)])
    synthetic.write_town(tmp_path / "town.tif", town)
    _save_polygons(tmp_path / "town.geojson", town.polygons)
    (place,), report = _read(_polygons(tmp_path, min_area_m2=2.0))
    assert place.num_instances == 1
    assert report.sources[0].counts.num_unknown == 1
    assert not place.known[80:84, 80:84].any()
    assert place.known.sum() == 256 * 256 - 16


def test_where_polygons_overlap_the_smaller_wins():
    polygons = np.array([shapely.box(0, 0, 8, 8), shapely.box(2, 2, 4, 5)], object)
    for order in ([0, 1], [1, 0]):
        ids, num_overlap = burn_polygons(polygons[order], np.array([1, 2])[order], (10, 10))
        assert num_overlap == 6
        assert (ids == 2).sum() == 6
        assert (ids == 1).sum() == 64 - 6


# --- input that cannot be used -------------------------------------------------------------------


def _refused(*sources: Any, **fields: Any) -> str:
    with pytest.raises(SourceError) as caught:
        _read(*sources, **fields)
    return str(caught.value)


def test_labels_of_another_place(town, tmp_path):
    elsewhere = [shapely.transform(p, lambda xy: xy + 50_000) for p in town.polygons]
    _save_polygons(tmp_path / "town.geojson", elsewhere)
    text = _refused(_polygons(tmp_path))
    assert "source towns: 1 of 1 images cannot be used" in text
    assert "lies on" in text
    assert "longitude" in text
    assert "CRS" in text


def test_labels_with_a_wrong_crs(town, tmp_path):
    # Metres that are said to be degrees.
    _save_polygons(tmp_path / "town.gpkg", town.polygons, crs="EPSG:4326", to="EPSG:4326")
    assert "cannot be used" in _refused(_polygons(tmp_path, labels="town.gpkg"))
    frame = geopandas.GeoDataFrame(geometry=town.polygons)
    frame.to_parquet(tmp_path / "town.parquet")
    assert "which CRS" in _refused(_polygons(tmp_path, labels="town.parquet"))


def test_no_labels(town, tmp_path):
    (tmp_path / "town.geojson").unlink()
    assert "there is no file" in _refused(_polygons(tmp_path))
    (tmp_path / "town.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert "no polygon with an area" in _refused(_polygons(tmp_path))


def test_ground_without_buildings_when_allowed(town, tmp_path):
    empty = '{"type": "FeatureCollection", "features": []}'
    (tmp_path / "town.geojson").write_text(empty)
    (place,), report = _read(_polygons(tmp_path, allow_empty=True))
    assert place.num_instances == report.sources[0].counts.num_labels == 0
    assert place.known.all()
    # One file for all: this image lies between the buildings of others, or not there at all.
    west, south, east, north = shapely.total_bounds(town.polygons)
    around = [
        shapely.box(x - 9, y - 9, x, y)
        for x, y in ((west - 99, south - 99), (east + 99, north + 99))
    ]
    _save_polygons(tmp_path / "town.geojson", around)
    (place,), _ = _read(_polygons(tmp_path, allow_empty=True))
    assert not place.ids.any()
    _save_polygons(tmp_path / "town.geojson", around[:1])
    assert "lies on" in _refused(_polygons(tmp_path, allow_empty=True))
    (tmp_path / "town.geojson").unlink()
    assert "there is no file" in _refused(_polygons(tmp_path, allow_empty=True))


def test_an_area_elsewhere(town, tmp_path):
    _save_polygons(tmp_path / "area.gpkg", [shapely.box(0, 0, 10, 10)])
    assert "labelled area does not lie" in _refused(_polygons(tmp_path, area="area.gpkg"))


def test_unreadable_images_are_skipped_up_to_a_share(tmp_path):
    for name in ("a", "b", "c", "d"):
        town = synthetic.draw_town(200, 200, seed=ord(name))
        synthetic.write_town(tmp_path / f"{name}.tif", town)
        _save_polygons(tmp_path / f"{name}.geojson", town.polygons)
    # Ends half-way: the header is whole, the pixels are not.
    data = (tmp_path / "b.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(data[: len(data) // 2])
    source = _polygons(tmp_path, images=(str(tmp_path / "*.tif"),))
    text = _refused(source, max_skipped_share=0.1)
    assert "1 of 4 images" in text
    assert "max_skipped_share" in text
    places, report = _read(source, max_skipped_share=0.25)
    assert [place.name for place in places] == ["towns/a", "towns/c", "towns/d"]
    (skipped,) = report.sources[0].skipped
    assert skipped.stem == "b"
    assert "b.tif" in skipped.reason


def test_no_images_at_all(tmp_path):
    assert "there is no image" in _refused(_polygons(tmp_path))
    pattern = str(tmp_path / "*.tif")
    assert "*.tif" in _refused(_polygons(tmp_path, images=(pattern,)))


def test_equal_names_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.tif").write_bytes(b"")
    images = tuple(str(tmp_path / folder / "x.tif") for folder in "ab")
    assert "same name" in _refused(_polygons(tmp_path, images=images))


# --- the split -----------------------------------------------------------------------------------


def _tiles(tmp_path, names):
    for name in names:
        town = synthetic.draw_town(200, 200, seed=len(name))
        synthetic.write_town(tmp_path / f"{name}.tif", town)
        _save_polygons(tmp_path / f"{name}.geojson", town.polygons)
    return str(tmp_path / "*.tif")


def test_regions_are_held_out_whole(tmp_path):
    images = _tiles(tmp_path, ["kav1_1", "kav1_2", "kav2_1", "kav10_1"])
    source = _polygons(tmp_path, images=(images,), region=r"^(kav\d+)_", validation=("kav1",))
    places, report = _read(source)
    assert {p.name: p.split for p in places} == {
        "towns/kav10_1": "train",
        "towns/kav1_1": "validation",
        "towns/kav1_2": "validation",
        "towns/kav2_1": "train",
    }
    assert {p.region for p in places} == {"towns/kav1", "towns/kav2", "towns/kav10"}
    check_split(places)
    assert report.sources[0].validation_m2 == pytest.approx(report.sources[0].train_m2)


def test_names_that_fit_nothing_are_refused(tmp_path):
    images = _tiles(tmp_path, ["kav1_1", "kav2_1"])
    text = _refused(_polygons(tmp_path, images=(images,), validation=("kav3*",)))
    assert "'kav3*'" in text
    assert "kav1_1" in text
    cut = {"kav9": CutConfig(axis="x", at=0.5)}
    assert "'kav9'" in _refused(_polygons(tmp_path, images=(images,), cut=cut))
    text = _refused(_polygons(tmp_path, images=(images,), region=r"(java\d)"))
    assert "finds nothing in 'kav1_1'" in text
    text = _refused(_polygons(tmp_path, images=(images,), validation=("*",)))
    assert "nothing is left for training" in text


def test_sources_share_draws_by_weight_and_places_by_known_ground(tmp_path):
    images = _tiles(tmp_path, ["a_1", "a_22", "b_1", "b_22"])
    sources = [
        _polygons(tmp_path, name=name, images=(images.replace("*", f"{name}*"),), weight=weight)
        for name, weight in (("a", 3.0), ("b", 1.0))
    ]
    places, _ = _read(*sources)
    drawn = {name: sum(p.weight * p.known_area_m2 for p in places if p.source == name) for name in
             "ab"}  # fmt: skip
    assert drawn["a"] == pytest.approx(3.0)
    assert drawn["b"] == pytest.approx(1.0)


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("side", ["low", "high"])
def test_a_cut_shares_no_ground_and_no_building(town, tmp_path, axis, side):
    cut = CutConfig(axis=axis, at=0.6, validation=side, gap_m=12.0)  # 40 px
    (whole,), _ = _read(_polygons(tmp_path))
    places, _ = _read(_polygons(tmp_path, cut={"town": cut}))
    by_split = {place.split: place for place in places}
    assert set(by_split) == {"train", "validation"}
    low, high = (by_split["validation"], by_split["train"])[:: 1 if side == "low" else -1]
    if axis == "y":
        assert (low.shape, high.shape) == ((220, 500), (140, 500))
        np.testing.assert_array_equal(low.image, whole.image[:220])
        np.testing.assert_array_equal(high.image, whole.image[260:])
        np.testing.assert_array_equal(high.ids > 0, whole.ids[260:] > 0)
        cut_ids = np.intersect1d(whole.ids[:220], whole.ids[220:])[1:]
        expected = ~np.isin(whole.ids[:220], cut_ids)
        np.testing.assert_array_equal(low.known, expected)
    else:
        assert (low.shape, high.shape) == ((400, 280), (400, 180))
        np.testing.assert_array_equal(low.image, whole.image[:, :280])
    assert {place.name for place in places} == {"towns/town_train", "towns/town_validation"}
    assert len({place.region for place in places}) == 2


def test_a_cut_that_leaves_nothing_is_refused(town, tmp_path):
    cut = {"town": CutConfig(axis="x", at=0.9, gap_m=100.0)}
    text = _refused(_polygons(tmp_path, cut=cut))
    assert "no labelled ground for validation" in text
    cut = {"town": CutConfig(axis="x", at=0.5)}
    text = _refused(_polygons(tmp_path, cut=cut, validation=("town",)))
    assert "held out" in text


# --- images with masks ---------------------------------------------------------------------------


def _chip(tmp_path, name, mask, image=None, suffix=".png"):
    if image is None:
        image = np.full((*mask.shape[:2], 3), (90, 120, 60), np.uint8)
    cv2.imwrite(str(tmp_path / f"{name}.jpg"), image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
    (tmp_path / "masks").mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / "masks" / f"{name}{suffix}"), mask)


def _masks(tmp_path, kind="instance_masks", **fields: Any):
    values = {
        "name": "chips",
        "kind": kind,
        "images": (str(tmp_path / "*.jpg"),),
        "masks": "masks/{stem}.png",
        "gsd_m": 0.3,
    }
    return MaskSource(**(values | fields))


def _two_houses(first=7, second=1000, dtype=np.uint16):
    mask = np.zeros((64, 80), dtype)
    mask[10:20, 10:30] = first
    mask[10:20, 30:50] = second
    return mask


def test_instance_masks_keep_touching_buildings_apart(tmp_path):
    _chip(tmp_path, "a", _two_houses())
    (place,), report = _read(_masks(tmp_path))
    assert place.has_instances
    assert (place.ids[15, 20], place.ids[15, 40], place.ids.max()) == (1, 2, 2)
    assert place.gsd_m == 0.3
    assert report.sources[0].counts.num_labels == 2
    (place,), _ = _read(_masks(tmp_path, has_instances=False))
    assert not place.has_instances


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks_have_one_id_per_component(tmp_path, value):
    mask = _two_houses(value, value, np.uint8)
    mask[40:50, 40:50] = value
    _chip(tmp_path, "a", mask)
    (place,), _ = _read(_masks(tmp_path, "binary_masks"))
    assert not place.has_instances
    assert place.num_instances == 2
    assert place.ids[15, 20] == place.ids[15, 40] != place.ids[45, 45]


def test_a_class_value_too_many_is_refused(tmp_path):
    _chip(tmp_path, "a", _two_houses(1, 2, np.uint8))
    text = _refused(_masks(tmp_path, "binary_masks"))
    assert "a.png has the values 0, 1, 2; a binary mask" in text
    # Said to be unlabelled ground, it is none too many.
    (place,), _ = _read(_masks(tmp_path, "binary_masks", unknown_value=2))
    assert not place.known[15, 40]
    assert place.ids[15, 40] == 0
    assert place.num_instances == 1


def test_a_mask_that_went_through_jpeg_is_refused(tmp_path):
    mask = cv2.GaussianBlur(_two_houses(255, 255, np.uint8), (5, 5), 0)
    _chip(tmp_path, "a", mask)
    assert "JPEG" in _refused(_masks(tmp_path, "binary_masks"))


def test_masks_that_do_not_fit_are_refused(tmp_path):
    _chip(tmp_path, "a", _two_houses(), image=np.full((64, 64, 3), 90, np.uint8))
    assert "80 x 64 px, its image 64 x 64" in _refused(_masks(tmp_path))
    colours = colour_of(np.arange(64 * 80).reshape(64, 80) // 99)
    _chip(tmp_path, "a", colours)
    assert "bands that differ" in _refused(_masks(tmp_path))
    (tmp_path / "masks" / "a.png").unlink()
    assert "there is no mask" in _refused(_masks(tmp_path))


@pytest.mark.parametrize("name", ["a.jpg", "masks/a.png"])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_files_that_end_early_are_refused(tmp_path, name, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    mask = np.random.default_rng(0).integers(0, 9000, (64, 80), np.uint16)
    _chip(tmp_path, "a", mask, image=noise)
    _read(_masks(tmp_path))
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    text = _refused(_masks(tmp_path))
    assert Path(name).name in text
    assert "ends early" in text or "no image" in text


def test_empty_chips_are_thinned_out(tmp_path):
    for number in range(10):
        mask = _two_houses() if number == 4 else np.zeros((64, 80), np.uint16)
        _chip(tmp_path, f"chip{number}", mask)
    places, report = _read(_masks(tmp_path, max_empty=3))
    assert len(places) == 4
    assert "chips/chip4" in {place.name for place in places}
    assert report.sources[0].num_spared == 6
    places, _ = _read(_masks(tmp_path, max_images=5))
    assert [p.name for p in places] == [f"chips/chip{n}" for n in (1, 3, 5, 7, 9)]


@given(st.integers(0, 50), st.integers(0, 50))
def test_items_are_spread_evenly(num_items, max_items):
    kept = spread_evenly(range(num_items), max_items)
    assert len(kept) == min(num_items, max_items)
    assert kept == sorted(set(kept))
    gaps = np.diff([-1, *kept, num_items])
    if 0 < max_items <= num_items:
        assert gaps.max() <= num_items / max_items + 1


def test_fine_masks_are_stored_coarser(tmp_path):
    mask = np.zeros((120, 160), np.uint16)
    mask[30:60, 30:90] = 3
    _chip(tmp_path, "a", mask)
    (place,), _ = _read(_masks(tmp_path, gsd_m=0.1), store_gsd_m=0.3)
    assert place.shape == (40, 53)
    assert place.gsd_m == pytest.approx(0.3)
    assert place.ids[10:20, 10:30].all()
    assert (place.ids > 0).sum() == 10 * 20


# --- fill of images without masks ----------------------------------------------------------------

COLOURS = ((0, 0, 0), (255, 255, 255), (255, 0, 0))


def _textured(height=200, width=240):
    rng = np.random.default_rng(0)
    return rng.integers(60, 180, (height, width, 3)).astype(np.uint8)


def _through_jpeg(image):
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 90))
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1].copy()


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("width", [6, 20, 60])
def test_strips_of_fill_are_found(colour, width):
    image = _textured()
    image[:, :width] = colour
    missing = find_missing(_through_jpeg(image), COLOURS)
    assert missing[:, :width].all()
    assert not missing[:, width + 8 :].any()


def test_wedges_of_two_colours_are_found_as_one():
    image = _textured()
    wedge = np.array([[0, 0], [240, 0], [240, 14], [0, 4]], np.int32)
    cv2.fillPoly(image, [wedge + [0, 8]], (255, 255, 255))
    image[:8] = (255, 0, 0)
    missing = find_missing(_through_jpeg(image), COLOURS)
    assert missing[:10].all()
    assert missing[18, 200:].all()
    assert not missing[30:].any()


def test_roofs_and_shadows_are_no_fill():
    image = _textured()
    image[0:20, 100:120] = 255  # a white roof that the border cuts
    image[80:130, 80:130] = 255  # a large one inside
    image[180:, 20:50] = 0  # a shadow
    assert not find_missing(image, COLOURS).any()


def test_fill_is_unknown_in_places(tmp_path):
    image = _textured(64, 80)
    image[:20] = 0
    _chip(tmp_path, "a", np.full((64, 80), 3, np.uint16), image=image)
    (place,), _ = _read(_masks(tmp_path))
    assert not place.valid[:20].any()
    assert not place.image[:20].any()
    assert place.known[30:].all()


# --- COCO ----------------------------------------------------------------------------------------


def _coco(tmp_path, annotations, size=(64, 80), **fields: Any):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 80, 3), 90, np.uint8))
    data = {
        "images": [{"id": 5, "file_name": "images/a.png", "height": size[0], "width": size[1]}],
        "categories": [{"id": 1, "name": "building"}, {"id": 2, "name": "pool"}],
        "annotations": [{"id": n, "image_id": 5, "category_id": 1} | one
                        for n, one in enumerate(annotations)],
    }  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(data))
    values = {
        "name": "coco",
        "images": (str(tmp_path / "a.png"),),
        "annotations": str(tmp_path / "coco.json"),
        "gsd_m": 0.3,
    }
    return CocoSource(**(values | fields))


SQUARE = [10, 10, 30, 10, 30, 20, 10, 20]
NEXT = [30, 10, 50, 10, 50, 20, 30, 20]


def test_coco_polygons(tmp_path):
    source = _coco(
        tmp_path, [{"segmentation": [SQUARE]}, {"segmentation": [NEXT, [60, 40, 70, 40, 70, 50]]}]
    )
    (place,), report = _read(source)
    assert place.name == "coco/a"
    assert place.has_instances
    assert (place.ids == 1).sum() == 200
    # Two polygons of one annotation are one building.
    assert place.ids[15, 40] == place.ids[42, 68] == 2
    assert report.sources[0].counts.num_labels == 2


def test_coco_crowds_categories_and_broken_polygons(tmp_path):
    bow_tie = [10, 30, 30, 50, 30, 30, 10, 50]
    source = _coco(
        tmp_path,
        [
            {"segmentation": [bow_tie]},
            {"segmentation": [[1, 1, 2, 2]]},
            {"segmentation": [SQUARE], "category_id": 2},
            {"segmentation": [NEXT], "iscrowd": 1},
        ],
        categories=("building",),
    )
    (place,), report = _read(source)
    counts = report.sources[0].counts
    assert (counts.num_labels, counts.num_repaired, counts.num_dropped) == (2, 1, 1)
    assert place.num_instances == 1
    assert place.ids[15, 20] == 0
    assert not place.known[15, 40]
    assert place.known[15, 20]


def _compress(runs):
    """pycocotools' rleToString, from its C source, as an oracle for the way back."""
    text = ""
    for index, run in enumerate(runs):
        x = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            code = x & 0x1F
            x >>= 5
            more = x != -1 if code & 0x10 else x != 0
            text += chr((code | 0x20 if more else code) + 48)
    return text


@settings(max_examples=100)
@given(st.data())
def test_run_length_masks(data):
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    seed = data.draw(st.integers(0, 1000))
    share = data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    mask = np.random.default_rng(seed).random((height, width)) < share
    columns = mask.T.ravel()
    changes = np.flatnonzero(np.diff(columns)) + 1
    runs = np.diff([0, *changes, columns.size]).tolist()
    if columns[0]:
        runs = [0, *runs]
    for counts in (runs, _compress(runs)):
        found = decode_mask({"counts": counts, "size": [height, width]}, mask.shape, Path("x"))
        np.testing.assert_array_equal(found, mask)


def test_coco_that_does_not_fit_is_refused(tmp_path):
    good = [{"segmentation": [SQUARE]}]
    assert "annotations are for 99 x 64" in _refused(_coco(tmp_path, good, size=(64, 99)))
    text = _refused(_coco(tmp_path, good, categories=("house",)))
    assert "no category 'house'; it has ['building', 'pool']" in text
    short = [{"segmentation": {"counts": [5, 5], "size": [64, 80]}}]
    assert "holds 10 px" in _refused(_coco(tmp_path, short))
    assert "no run-length mask" in _refused(_coco(tmp_path, [{"segmentation": {"a": 1}}]))
    assert "expected lists" in _refused(_coco(tmp_path, [{"segmentation": 3}]))
    source = _coco(tmp_path, good)
    (tmp_path / "coco.json").write_text('{"images": []')
    assert "no COCO file" in _refused(source)
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    assert "does not list a.png" in _refused(source)
    (tmp_path / "coco.json").unlink()
    assert "cannot be read" in _refused(source)


# --- drawn towns ---------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["recipe", "pixels"])
def test_drawn_places_come_back_from_a_pack(tmp_path, store):
    source = DrawnSource(
        name="drawn", count=3, seed=5, size_px=128, validation=("scene_0001",), store=store
    )
    places, report = _read(source)
    assert [p.name for p in places] == [f"drawn/scene_000{n}" for n in range(3)]
    assert [p.split for p in places] == ["train", "validation", "train"]
    assert report.sources[0].num_instances == sum(int(p.ids.max()) for p in places)
    write_pack(tmp_path / "p.zip", places)
    for place, back in zip(places, read_pack(tmp_path / "p.zip"), strict=True):
        np.testing.assert_array_equal(back.ids, place.ids)
        assert back.recipe == place.recipe
        if store == "recipe":
            np.testing.assert_array_equal(back.image, place.image)
    assert ((tmp_path / "p.zip").stat().st_size < 5000) == (store == "recipe")


def test_a_style_that_does_not_exist():
    text = _refused(DrawnSource(name="drawn", count=1, size_px=128, style="martian"))
    assert "cannot be drawn" in text
    assert "martian" in text


def test_places_that_are_drawn_otherwise_are_noticed(tmp_path, caplog):
    places, _ = _read(DrawnSource(name="drawn", count=1, size_px=128))
    other = dataclasses.replace(places[0], ids=places[0].ids * 0)
    write_pack(tmp_path / "p.zip", [other])
    read_pack(tmp_path / "p.zip")
    assert "drawn/scene_0000 is drawn otherwise" in caplog.text


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "a/b"}, "name = 'a/b'"),
        ({"weight": -1.0}, "weight = -1"),
        ({"region": "(a"}, "no regular expression"),
        ({"region": "a"}, "0 groups"),
        ({"images": ()}, "images is empty"),
        ({"max_images": 0}, "max_images = 0"),
        ({"max_empty": -1}, "max_empty = -1"),
        ({"jpeg_quality": 200}, "jpeg_quality = 200"),
        ({"fill_colours": ((0, 0, 256),)}, "fill_colours"),
        ({"context_m": -1.0}, "context_m = -1"),
    ],
)
def test_settings_of_a_source_out_of_range(tmp_path, fields, words):
    with pytest.raises(ValueError, match=words):
        _polygons(tmp_path, **fields)


def test_settings_of_a_data_set_out_of_range(tmp_path):
    source = _polygons(tmp_path)
    for fields, words in (
        ({"sources": ()}, "sources is empty"),
        ({"sources": (source, source)}, "two sources are called 'towns'"),
        ({"store_gsd_m": 0.0}, "pixel size of 0.0"),
        ({"max_skipped_share": 2.0}, "max_skipped_share = 2"),
        ({"jpeg_quality": 5}, "jpeg_quality = 5"),
    ):
        with pytest.raises(ValueError, match=words):
            DatasetConfig(**({"sources": (source,)} | fields))
    with pytest.raises(ValueError, match="at = 1"):
        CutConfig(axis="x", at=1.0)
    with pytest.raises(ValueError, match="pixel size of 0"):
        _masks(tmp_path, gsd_m=0.0)
    with pytest.raises(ValueError, match="count = 0"):
        DrawnSource(name="drawn", count=0)


# --- the project's own data ----------------------------------------------------------------------


def test_real_scene_and_its_labels(shared_data):
    source = PolygonSource(
        name="catanduanes",
        images=(str(shared_data / "train/scenes/catanduanes_b.tif"),),
        area="{stem}.aoi.geojson",
        cut={"catanduanes_b": CutConfig(axis="x", at=0.7, gap_m=10.0)},
    )
    places, report = _read(source)
    assert {place.split for place in places} == {"train", "validation"}
    assert report.sources[0].counts.num_labels == 85
    assert sum(place.num_instances for place in places) > 40
    for place in places:
        assert place.gsd_m == pytest.approx(0.15, rel=0.01)
        # Roofs are brighter than what is between them, if labels lie where roofs are.
        grey = place.image.mean(axis=2)
        is_roof, is_ground = place.known & (place.ids > 0), place.known & (place.ids == 0)
        assert grey[is_roof].mean() > grey[is_ground].mean() + 10


def test_real_chips_have_their_fill_masked(shared_data):
    chips = shared_data / "train/chips/geocarta"
    source = MaskSource(
        name="geocarta",
        kind="instance_masks",
        images=(str(chips / "images/Kav_*.jpg"),),
        masks="../instances/{stem}.png",
        gsd_m=0.3,
        region=r"(Kav_\d)",
        validation=("Kav_6",),
        fill_colours=COLOURS,
        max_images=6,
    )
    places, _ = _read(source)
    assert {place.region for place in places} == {"geocarta/Kav_2", "geocarta/Kav_6"}
    for place in places:
        assert 0.8 < place.valid.mean() <= 1.0
        # What is left of a border has the image's texture.
        for side in (place.image[:6], place.image[-6:], place.image[:, :6], place.image[:, -6:]):
            seen = side[side.any(axis=2)]
            assert len(seen) == 0 or seen.astype(float).std() > 10
