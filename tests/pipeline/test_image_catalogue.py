"""What the sources of a config give, what they refuse, and that nothing is opened in vain."""

import datetime
import json
import pickle

import numpy as np
import pytest
import shapely
from catalogue_server import fail_below, requests, serve
from hypothesis import given
from hypothesis import strategies as st
from image_catalogues import (
    outline_of,
    stac_item,
    write_catalogue,
    write_csv,
    write_index,
    write_items,
    write_stac_parquet,
)
from running import make_config
from synthetic import draw_town, write_town

from geo.errors import EveryroofError
from geo.grid import WorldGrid
from pipeline.config import ConfigError, load_config, parse_config
from pipeline.cover import Cover
from pipeline.image_files import fixed_folder
from pipeline.image_index import ImageIndex, IndexedImage, load_index
from pipeline.image_sources import CatalogueError
from pipeline.listed_images import resolve_path
from pipeline.spec import resolve_config
from pipeline.zone_images import FOOTPRINT_SLACK_PX, zone_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images side by side, one of them in a folder of its own."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for i, name in enumerate(("a", "b", "more/c")):
        town = draw_town(120, 150, seed=i, lon_deg=32.6 + 0.001 * i)
        write_town(folder / f"{name}.tif", town)
    return folder


def _paths(folder):
    return [folder / "a.tif", folder / "b.tif", folder / "more" / "c.tif"]


def _resolve(tmp_path, source, **options):
    return resolve_config(make_config(tmp_path, [source], **options)).images


def _ids(images):
    return [image.image_id for image in images]


def _refused(tmp_path, source, *words, **options):
    with pytest.raises(EveryroofError) as caught:
        _resolve(tmp_path, source, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def _aoi(tmp_path, west, south, east, north):
    path = tmp_path / "aoi.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(shapely.box(west, south, east, north))))
    return str(path)


# --- patterns and lists --------------------------------------------------------------------------


def test_a_pattern_names_images_by_their_path_below_its_folder(tmp_path, folder):
    images = _resolve(tmp_path, f"{folder}/**/*.tif")
    assert _ids(images) == ["a", "b", "more/c"]
    assert images.is_opened.all()
    assert _ids(_resolve(tmp_path, {"glob": f"{folder}/*.tif"})) == ["a", "b"]


@pytest.mark.parametrize(
    ("pattern", "root"),
    [("x/*.tif", "x"), ("/d/e/**/a?.tif", "/d/e"), ("*.tif", ""), ("/*.tif", "/"), ("a/[0]", "a")],
)
def test_the_fixed_folder_of_a_pattern(pattern, root):
    assert fixed_folder(pattern) == root


def test_files_of_one_name_in_different_folders_are_told_apart(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        write_town(tmp_path / name / "tile.tif", draw_town(64, 64))
    assert _ids(_resolve(tmp_path, f"{tmp_path}/*/tile.tif")) == ["x/tile", "y/tile"]
    paths = [tmp_path / "x" / "tile.tif", tmp_path / "y" / "tile.tif"]
    with pytest.raises(ConfigError, match="two images are called 'tile'"):
        resolve_config(make_config(tmp_path, paths))


def test_a_bracket_in_a_name_is_no_pattern_where_the_file_exists(tmp_path):
    image = write_town(tmp_path / "town[1].tif", draw_town(64, 64))
    assert _ids(_resolve(tmp_path, str(image))) == ["town[1]"]


def test_a_pattern_without_a_match_is_refused(tmp_path, folder):
    _refused(tmp_path, f"{folder}/*.jp2", "no file matches", f"{folder}/*.jp2")


def test_text_and_csv_lists(tmp_path, folder):
    text = tmp_path / "list.txt"
    text.write_text(f"# images\n{folder}/a.tif\n\n{folder}/more/c.tif\n")
    assert _ids(_resolve(tmp_path, {"list": str(text)})) == ["a", "c"]
    rows = [
        {"path": str(folder / "a.tif"), "id": "first", "date": "2024-01-05"},
        {"path": str(folder / "b.tif"), "id": "", "date": "2022-01-05"},
        {"path": str(folder / "more/c.tif"), "id": "", "date": ""},
    ]
    source = {"list": str(write_csv(tmp_path / "list.csv", rows)), "dates": ["2023-01-01", None]}
    images = _resolve(tmp_path, source)
    assert _ids(images) == ["first", "c"]
    assert images[0].date == datetime.date(2024, 1, 5)


def test_relative_paths_of_a_list_start_at_its_folder(tmp_path, folder):
    text = folder / "list.txt"
    text.write_text("more/c.tif\n")
    images = _resolve(tmp_path, {"list": str(text)})
    assert images[0].path == str(folder / "more" / "c.tif")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,date\na.tif,2024-01-01,x\n", ["line 2", "as many values"]),
        ("path,date\na.tif\n", ["line 2", "as many values"]),
        ("path,date\na.tif,2024-13-01\n", ["line 2", "2024-13-01", "YYYY-MM-DD"]),
        ("path,date\n,2024-01-01\n", ["line 2", "path is empty"]),
        ('path\n"a.tif\n', ["line", "unexpected end"]),
        ("file\na.tif\n", ["header", "path", "file"]),
        ("path\n", ["names no image"]),
    ],
)
def test_broken_lists_name_the_line(tmp_path, content, words):
    path = tmp_path / "list.csv"
    path.write_text(content)
    _refused(tmp_path, {"list": str(path)}, "list.csv", *words)


# --- vector indexes ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.gpkg", "index.shp"])
def test_a_vector_index_is_believed_and_its_images_not_opened(tmp_path, folder, name):
    index = write_index(tmp_path / name, _paths(folder), date=["2024-01-05", None, "2021-01-05"])
    images = _resolve(tmp_path, {"index": str(index), "dates": ["2022-01-01", "2024-12-31"]})
    assert _ids(images) == ["a", "b"]
    assert not images.is_opened.any()
    assert [image.date for image in images] == [datetime.date(2024, 1, 5), None]
    for image, path in zip(images, _paths(folder), strict=False):
        assert image.outline.contains(outline_of(path))


def test_an_index_without_paths_is_refused(tmp_path, folder):
    index = write_index(tmp_path / "index.gpkg", _paths(folder), column="file")
    _refused(tmp_path, {"index": str(index)}, "no column 'location'", "file")
    assert len(_resolve(tmp_path, {"index": str(index), "location": "file"})) == 3


def test_an_outline_outside_the_earth_fails_its_image_only(tmp_path, folder):
    import geopandas

    index = write_index(tmp_path / "index.gpkg", _paths(folder))
    frame = geopandas.read_file(index)
    frame.loc[1, "geometry"] = shapely.box(454788, 38858, 455788, 39858)
    frame.loc[2, "geometry"] = shapely.box(10, 84.5, 11, 85.0)
    frame.to_file(index, engine="pyogrio")
    images = _resolve(tmp_path, {"index": str(index)})
    assert _ids(images) == ["a"]
    reasons = [failed.reason for failed in images.failed]
    assert "does not lie on the earth" in reasons[0]
    assert "84.5" in reasons[1]


# --- STAC ----------------------------------------------------------------------------------------


def _stac(tmp_path, kind, items):
    if kind == "item":
        (tmp_path / "item.json").write_text(json.dumps(items[0]))
        return tmp_path / "item.json"
    writers = {
        "items": lambda: write_items(tmp_path / "items.json", items),
        "catalogue": lambda: write_catalogue(tmp_path / "catalogue", items),
        "parquet": lambda: write_stac_parquet(tmp_path / "items.parquet", items),
    }
    return writers[kind]()


@pytest.mark.parametrize("kind", ["item", "items", "catalogue", "parquet"])
def test_items_become_images_by_their_id_and_date(tmp_path, folder, kind):
    items = [stac_item(path, item_id=f"i-{path.stem}") for path in _paths(folder)]
    images = _resolve(tmp_path, {"stac": str(_stac(tmp_path, kind, items))})
    assert _ids(images) == ["i-a", "i-b", "i-c"][: 1 if kind == "item" else 3]
    assert not images.is_opened.any()
    assert images[0].path == str(folder / "a.tif")
    assert {image.date for image in images} == {datetime.date(2024, 3, 17)}


def test_one_id_in_two_collections_and_one_item_twice(tmp_path, folder):
    a, b, c = _paths(folder)
    items = [
        stac_item(a, item_id="x", collection="l1"),
        stac_item(b, item_id="x", collection="l2"),
        stac_item(c),
        stac_item(c),
    ]
    images = _resolve(tmp_path, {"stac": str(write_items(tmp_path / "i.json", items))})
    assert _ids(images) == ["l1/x", "l2/x", "c"]


@pytest.mark.parametrize("kind", ["items", "parquet"])
def test_limits_of_dates_clouds_and_nodata(tmp_path, folder, kind):
    a, b, c = _paths(folder)
    items = [
        stac_item(a, properties={"eo:cloud_cover": 10.0, "s2:nodata_pixel_percentage": 60.0}),
        stac_item(b, properties={"eo:cloud_cover": 50.0}, day="2023-05-01"),
        stac_item(c, day="2022-05-01"),
    ]
    source = {"stac": str(_stac(tmp_path, kind, items))}
    assert _ids(_resolve(tmp_path, {**source, "max_cloud_percent": 20})) == ["a", "c"]
    assert _ids(_resolve(tmp_path, {**source, "max_nodata_percent": 50})) == ["b", "c"]
    assert _ids(_resolve(tmp_path, {**source, "dates": ["2023-05-01", None]})) == ["a", "b"]
    _refused(
        tmp_path,
        {**source, "dates": ["2019-01-01", "2019-12-31"]},
        "none of 3 items",
        "2019-01-01",
    )
    _refused(
        tmp_path, {**source, "dates": ["2024-01-01", "2019-12-31"]}, "images.0", "dates = [2024"
    )


def test_items_outside_the_area_are_left_out(tmp_path, folder):
    items = write_items(tmp_path / "items.json", [stac_item(path) for path in _paths(folder)])
    west, south, east, north = outline_of(folder / "b.tif").bounds
    shift = 1e-4
    near = _aoi(tmp_path, west + shift, south + shift, east - shift, north - shift)
    grid = {"tile_px": 512, "aoi_margin_m": 5.0}
    images = _resolve(tmp_path, {"stac": str(items)}, area_of_interest=near, grid=grid)
    assert _ids(images) == ["b"]
    far = _aoi(tmp_path, 10, 50, 10.1, 50.1)
    _refused(tmp_path, {"stac": str(items)}, "items.json", "area", area_of_interest=far)


def test_assets_by_key_and_by_role(tmp_path, folder):
    a = str(folder / "a.tif")
    assets = {
        "thumb": {"href": "t.png", "roles": ["thumbnail"]},
        "B04": {"href": a, "roles": ["data"]},
        "rgb": {"href": a, "roles": ["visual", "overview"]},
        "B03": {"href": a, "roles": ["data"]},
    }
    items = write_items(tmp_path / "items.json", [stac_item(folder / "a.tif", assets=assets)])
    for asset in ("rgb", "visual", "B04", "overview", None):
        source = {"stac": str(items), **({"asset": asset} if asset else {})}
        assert _resolve(tmp_path, source)[0].path == a
    _refused(tmp_path, {"stac": str(items), "asset": "pan"}, "'pan'", "thumb (thumbnail)", "B04")
    _refused(tmp_path, {"stac": str(items), "asset": "data"}, "'data'", "B03 (data)")


def test_one_item_without_the_asset_is_told_and_the_others_used(tmp_path, folder):
    a, b, _ = _paths(folder)
    other = {"pan": {"href": str(b), "roles": ["data"]}}
    items = [stac_item(a), stac_item(b, assets=other)]
    images = _resolve(
        tmp_path, {"stac": str(write_items(tmp_path / "i.json", items)), "asset": "visual"}
    )
    assert _ids(images) == ["a"]
    assert "pan (data)" in images.failed[0].reason


def test_a_relative_href_starts_at_its_item(tmp_path, folder):
    items = [stac_item(folder / "more" / "c.tif", href="./more/c.tif")]
    path = write_items(folder / "items.json", items)
    assert _resolve(tmp_path, {"stac": str(path)})[0].path == str(folder / "more" / "c.tif")
    catalogue = write_catalogue(
        folder / "catalogue", [stac_item(folder / "a.tif", href="../../a.tif")]
    )
    assert _resolve(tmp_path, {"stac": str(catalogue)})[0].path == str(folder / "a.tif")


@pytest.mark.parametrize(
    ("href", "base", "resolved"),
    [
        ("b.tif", "/d/item.json", "/d/b.tif"),
        ("../b.tif", "https://h/x/y/item.json", "https://h/x/b.tif"),
        ("/b.tif", "https://h/x/y/item.json", "https://h/b.tif"),
        ("./b.tif", "s3://bucket/x/item.json", "s3://bucket/x/b.tif"),
        ("https://o/b.tif", "/d/item.json", "https://o/b.tif"),
        ("/vsicurl/https://o/b.tif", "https://h/i.json", "/vsicurl/https://o/b.tif"),
        ("file:///d/b.tif", "/e/item.json", "/d/b.tif"),
    ],
)
def test_hrefs_are_resolved(href, base, resolved):
    assert resolve_path(href, base) == resolved


@pytest.mark.parametrize("href", ["file:///etc/passwd", "/vsizip//d/a.zip/b.tif"])
def test_a_catalogue_of_the_network_names_no_local_file(href):
    with pytest.raises(CatalogueError, match="a file of this machine"):
        resolve_path(href, "https://h/items.json")


def test_an_api_is_searched_page_by_page(tmp_path, folder):
    items = [
        stac_item(path, href=f"{{root}}/{path.relative_to(folder)}", day=day)
        for path, day in zip(
            _paths(folder), ("2024-01-01", "2024-06-01", "2020-01-01"), strict=True
        )
    ]
    items.append(stac_item(folder / "a.tif", item_id="other", collection="other"))
    (folder / "items.json").write_text(json.dumps(items))
    with serve(folder) as root:
        source = {"stac": f"{root}/stac", "collections": ["drawn"]}
        images = _resolve(tmp_path, source)
        assert _ids(images) == ["a", "b", "c"]
        assert images[0].path == f"{root}/a.tif"
        assert sum(line == "POST /stac/search" for line in requests(folder)) == 2
        assert not any("tif" in line for line in requests(folder))
        named = {"stac": f"{root}/stac/search", "dates": ["2021-01-01", "2024-03-01"]}
        assert _ids(_resolve(tmp_path, named | {"collections": ["drawn"]})) == ["a"]
        far = _aoi(tmp_path, 10, 50, 10.1, 50.1)
        _refused(tmp_path, source, "none of 0 items", "drawn", area_of_interest=far)
        fail_below(folder, "/stac/search", 500)
        _refused(tmp_path, source, f"{root}/stac", "API failed", "500")
        fail_below(folder, "/stac", 404)
        _refused(tmp_path, source, f"{root}/stac", "cannot read", "404")
        fail_below(folder, "", 0)


@pytest.mark.parametrize("content", ["{", "[]", '{"type": "Point", "coordinates": [0, 0]}'])
def test_what_is_no_catalogue_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    _refused(tmp_path, {"stac": str(tmp_path / "x.json")}, "x.json")


def test_missing_catalogues_are_refused(tmp_path):
    _refused(tmp_path, {"stac": str(tmp_path / "no.json")}, "no.json")
    _refused(tmp_path, {"stac": str(tmp_path / "no.parquet")}, "no.parquet")
    _refused(tmp_path, {"index": str(tmp_path / "no.gpkg")}, "no.gpkg")
    _refused(tmp_path, {"list": str(tmp_path / "no.txt")}, "no.txt")


# --- configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"stac": "x.json", "assett": "v"}, ["images.0.assett", "did you mean 'asset'"]),
        ({"stac": "x", "max_cloud_percent": 120}, ["max_cloud_percent = 120"]),
        ({"where": "x"}, ["images.0", "path, glob, list, stac, index, tiles"]),
        ({"tiles": "https://h/{x}/{y}.png", "zoom": 3}, ["{z}", "https://h/{x}/{y}.png"]),
        ({"tiles": "file:///d/{z}/{x}/{y}.png", "zoom": 3}, ["file:///d", "https://"]),
        ({"tiles": "https://h/{z}/{x}/{y}.png"}, ["zoom is missing"]),
        ({"tiles": "https://h/{z}/{x}/{y}.png", "zoom": 30}, ["zoom = 30"]),
        ({"path": "a.tif", "cloud_mask": {"values": [1]}}, ["cloud_mask", "path"]),
        ({"path": "a.tif", "cloud_mask": {"valuess": [1]}}, ["valuess", "did you mean 'values'"]),
        (7, ["images.0"]),
    ],
)
def test_wrong_entries_name_key_value_and_expectation(source, words):
    with pytest.raises(ConfigError) as caught:
        parse_config({"images": [source], "output": "out"}, source="test")
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_single_entry_needs_no_list_and_relative_paths_are_anchored(tmp_path):
    (tmp_path / "run.yaml").write_text("images: {stac: sub/items.json, asset: v}\noutput: out\n")
    config = load_config(tmp_path / "run.yaml")
    assert config.images[0].stac == str(tmp_path / "sub" / "items.json")
    again = parse_config(json.loads(config.to_json()), source="manifest")
    assert again == config


def test_tiles_need_an_area(tmp_path):
    source = {"tiles": "https://h/{z}/{x}/{y}.png", "zoom": 18}
    _refused(tmp_path, source, "area_of_interest", "https://h/{z}/{x}/{y}.png")


# --- the index -----------------------------------------------------------------------------------


def _drawn_index(boxes):
    return ImageIndex.of(
        IndexedImage(image_id=f"i{i}", path=f"/none/{i}.tif", date=None, outline=shapely.box(*box))
        for i, box in enumerate(boxes)
    )


def test_a_saved_index_travels_as_a_name_and_comes_back_equal(tmp_path):
    rng = np.random.default_rng(1)
    corner = rng.uniform([-170, -60], [170, 60], (5000, 2))
    index = _drawn_index(np.concatenate([corner, corner + 0.01], axis=1))
    saved = index.saved(tmp_path)
    assert saved.digest == index.digest
    assert len(pickle.dumps(saved)) < 500 < len(pickle.dumps(index))
    assert pickle.loads(pickle.dumps(saved)) is load_index(str(next(tmp_path.iterdir())))
    for other in (saved, pickle.loads(pickle.dumps(index))):
        assert len(other) == 5000
        assert other[4321] == index[4321]
        np.testing.assert_array_equal(other.bounds, index.bounds)


def test_a_damaged_index_is_named(tmp_path):
    (tmp_path / "x.arrow").write_bytes(b"ARROW1")
    with pytest.raises(EveryroofError, match=r"x\.arrow"):
        load_index(str(tmp_path / "x.arrow"))


BOXES = st.lists(
    st.tuples(
        st.floats(176.0, 184.0), st.floats(-2.0, 2.0), st.floats(1e-4, 0.5), st.floats(1e-4, 0.5)
    ),
    min_size=1,
    max_size=12,
)


@given(boxes=BOXES, zone=st.sampled_from([60, 1]), place=st.tuples(*[st.floats(-3.5, 3.5)] * 2))
def test_the_spatial_index_finds_what_brute_force_finds(boxes, zone, place):
    """Images on both sides of the antimeridian, some with longitudes beyond 180."""
    index = _drawn_index([(w, s, w + dw, s + dh) for w, s, dw, dh in boxes])
    grid = WorldGrid(zone, 10_000)
    found = zone_images(index, grid, 5000.0)
    lon, lat = grid.central_meridian_deg + place[0] * 3.0 / 3.5, place[1]
    col, row = (float(v) for v in grid.from_lonlat(lon, lat))
    box = shapely.box(col - 500, row - 500, col + 500, row + 500)
    hits = set(found.positions[found.meeting(np.array([box]))[1]].tolist())
    for position, (west, south, dw, dh) in enumerate(boxes):
        turn = 360.0 * round((grid.central_meridian_deg - west) / 360.0)
        edge = shapely.segmentize(shapely.box(west, south, west + dw, south + dh), 0.05)
        pixels = shapely.transform(
            edge, lambda c, by=turn: np.stack(grid.from_lonlat(c[:, 0] + by, c[:, 1]), axis=1)
        )
        distance = shapely.distance(pixels, box)
        if abs(distance - FOOTPRINT_SLACK_PX) > 1e-3:
            assert (position in hits) == (distance < FOOTPRINT_SLACK_PX)


def test_the_cover_of_an_index_is_that_of_the_images(tmp_path, folder):
    index = write_index(tmp_path / "index.gpkg", _paths(folder))
    listed = Cover(resolve_config(make_config(tmp_path, _paths(folder))))
    stated = Cover(resolve_config(make_config(tmp_path, [{"index": str(index)}])))
    assert stated.zones() == listed.zones() == [36]
    tiles = {tile for cell in listed.plan_cells() for tile in listed.tiles_in(cell)}
    more = {tile for cell in stated.plan_cells() for tile in stated.tiles_in(cell)}
    assert tiles <= more
    for tile in tiles:
        assert set(listed.images_of(36, tile.window)) <= set(stated.images_of(36, tile.window))
        assert (stated.core_mask(tile) >= listed.core_mask(tile)).all()
