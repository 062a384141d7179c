"""Every bad input: the error names the thing, the value and what to do; the rest is delivered."""

import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.enums import ColorInterp
from running import footprints, ledger, make_bundle, make_config, manifest, run_command, run_here
from synthetic import (
    draw_town,
    to_float,
    to_uint16,
    with_infrared,
    write_cog,
    write_geotiff,
    write_town,
)

from geo.errors import DatasetError, EveryroofError
from pipeline.config import ConfigError, parse_config
from pipeline.spec import resolve_config


@pytest.fixture(scope="module")
def town():
    return draw_town(500, 500, seed=6, share_built=0.7)


def _refused(tmp_path, images, *words, **options):
    with pytest.raises(EveryroofError) as caught:
        run_here(make_config(tmp_path, images, **options))
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_missing_file(tmp_path):
    _refused(tmp_path, [tmp_path / "nowhere.tif"], "nowhere.tif", "exist")


def test_zero_bytes(tmp_path):
    (tmp_path / "zero.tif").touch()
    _refused(tmp_path, [tmp_path / "zero.tif"], "zero.tif", "empty")


def test_png_without_georeference(tmp_path, town):
    import cv2

    cv2.imwrite(str(tmp_path / "plain.png"), np.moveaxis(town.pixels, 0, 2))
    _refused(tmp_path, [tmp_path / "plain.png"], "plain.png", "gdal_translate")


def test_one_band(tmp_path, town):
    image = write_geotiff(
        tmp_path / "grey.tif", town.pixels[:1], transform=town.transform, crs=town.crs
    )
    _refused(tmp_path, [image], "grey.tif", "band")


def test_truncated_cog_fails_its_tiles_and_says_why(tmp_path, town):
    image = write_cog(tmp_path / "cut.tif", town, compress="deflate")
    data = image.read_bytes()
    image.write_bytes(data[: len(data) * 6 // 10])
    spec = run_here(make_config(tmp_path, [image]))
    failed = [row for row in ledger(spec.out_path) if row["status"] == "failed"]
    assert failed
    assert all("cut.tif" in row["reason"] for row in failed)
    assert manifest(spec.out_path)["tiles"]["failed_share"] > 0


def test_all_nodata_is_told_not_segmented(tmp_path):
    image = write_geotiff(
        tmp_path / "void.tif",
        np.zeros((3, 400, 400), np.uint8),
        transform=draw_town(64, 64).transform,
        crs="EPSG:32636",
        nodata=0,
    )
    spec = run_here(make_config(tmp_path, [image]))
    assert {row["status"] for row in ledger(spec.out_path)} == {"nodata"}
    assert manifest(spec.out_path)["counts"]["footprints"] == 0


def test_no_overlap_with_the_area_of_interest(tmp_path, town):
    image = write_town(tmp_path / "town.tif", town)
    (tmp_path / "aoi.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[10, 50], [10.1, 50], [10.1, 50.1], [10, 50]]]}'
    )
    _refused(
        tmp_path, [image], "aoi.geojson", "overlap", area_of_interest=str(tmp_path / "aoi.geojson")
    )


def _count(tmp_path, name, pixels, town, **options):
    image = write_geotiff(
        tmp_path / f"{name}.tif", pixels, transform=town.transform, crs=town.crs, **options
    )
    if len(pixels) == 4:
        # GDAL tags a fourth band as alpha unless told otherwise.
        with rasterio.open(image, "r+") as dataset:
            dataset.colorinterp = (*dataset.colorinterp[:3], ColorInterp.undefined)
    raster = {"value_range": [0, 4095]} if pixels.dtype == np.uint16 else {}
    if pixels.dtype == np.float32:
        raster = {"value_range": [0, 1]}
    config = make_config(tmp_path, [image], output=str(tmp_path / name), raster=raster)
    return len(footprints(run_here(config).out_path))


def test_band_counts_and_types_give_the_same_buildings(tmp_path, town):
    plain = _count(tmp_path, "plain", town.pixels, town)
    assert plain > 5
    assert _count(tmp_path, "infrared", with_infrared(town.pixels), town) == plain
    assert _count(tmp_path, "uint16", to_uint16(town.pixels), town) == plain
    assert _count(tmp_path, "float", to_float(town.pixels), town) == plain
    valid = np.ones(town.shape, bool)
    valid[:, :250] = False
    assert 0 < _count(tmp_path, "nan", to_float(town.pixels, valid), town) < plain


def test_rotated_and_south_up_images_give_all_buildings(tmp_path, town):
    plain = run_here(
        make_config(tmp_path, [write_town(tmp_path / "a.tif", town)], output=str(tmp_path / "a"))
    )
    truth = footprints(plain.out_path)
    for name, other in (("b", town.rotated(17.0)), ("c", town.south_up())):
        image = write_town(tmp_path / f"{name}.tif", other)
        spec = run_here(make_config(tmp_path, [image], output=str(tmp_path / name)))
        rows = footprints(spec.out_path)
        assert len(rows) == pytest.approx(len(truth), abs=2)
        assert rows.area_in_meters.sum() == pytest.approx(truth.area_in_meters.sum(), rel=0.03)


@pytest.mark.parametrize(
    ("crs", "lon_deg", "lat_deg"),
    [
        ("EPSG:4326", 32.6, 0.4),
        ("EPSG:4326", 29.9993, 47.0),
        ("EPSG:3857", 35.9993, -20.0),
        ("EPSG:4326", 179.9993, -16.5),
        ("EPSG:32660", 179.9993, -16.5),
    ],
    ids=["4326", "zone-edge", "zone-edge-3857", "antimeridian-4326", "antimeridian-utm"],
)
def test_places_and_crs_where_grids_meet(tmp_path, crs, lon_deg, lat_deg):
    town = draw_town(600, 600, seed=7, crs=crs, lon_deg=lon_deg, lat_deg=lat_deg)
    image = write_town(tmp_path / "town.tif", town)
    rows = footprints(run_here(make_config(tmp_path, [image])).out_path)
    big = [polygon for polygon in town.buildings if polygon.polygon_px.area * 0.09 >= 25]
    assert len(big) <= len(rows) <= len(town.buildings)
    area = sum(building.polygon_px.area * 0.09 for building in town.buildings)
    # Drawn pixels are 0.3 m only nearly (a sphere's degrees), and areas are those of S2's sphere.
    assert rows.area_in_meters.sum() == pytest.approx(area, rel=0.06)
    assert rows.longitude.between(-180, 180).all()


def test_one_bad_image_among_three_good_ones(tmp_path):
    images = [
        write_town(tmp_path / f"{name}.tif", draw_town(300, 300, seed=seed, lon_deg=32.6 + d))
        for name, seed, d in (("a", 1, 0.0), ("b", 2, 0.01), ("c", 3, 0.02))
    ]
    (tmp_path / "bad.tif").write_bytes(b"II*\0 not a real image")
    config = make_config(tmp_path, [*images, tmp_path / "bad.tif"])
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(config.to_json())))
    result = run_command("run", str(path))
    assert result.returncode == 1, result.stderr
    assert "bad.tif" in result.stderr
    out = tmp_path / "out"
    assert set(footprints(out).image_id) == {"a", "b", "c"}
    failed = [row for row in ledger(out) if row["status"] == "failed"]
    assert [row["image"] for row in failed] == [str(tmp_path / "bad.tif")]


@pytest.mark.parametrize("kind", ["text", "pickle", "truncated", "plain", "missing"])
def test_wrong_bundles_are_refused(tmp_path, town, kind):
    image = write_town(tmp_path / "town.tif", town)
    model = tmp_path / "model.safetensors"
    if kind == "text":
        model.write_text("hello")
    elif kind == "pickle":
        model.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    elif kind == "truncated":
        make_bundle(model)
        model.write_bytes(model.read_bytes()[:-10])
    elif kind == "plain":
        from safetensors.numpy import save_file

        save_file({"a": np.zeros(3, np.float32)}, str(model))
    config = make_config(tmp_path, [image], model=str(model))
    with pytest.raises(EveryroofError, match=r"model\.safetensors"):
        resolve_config(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"imagez": []}, ("imagez", "images")),
        ({"grid": {"tile_pixels": 3}}, ("grid.tile_pixels", "tile_px")),
        ({"grid": {"tile_px": "wide"}}, ("grid.tile_px", "wide")),
        ({"grid": {"tile_px": 1000}}, ("tile_px", "1000", "256")),
        ({"images": []}, ("images",)),
        ({"images": 7}, ("images", "7")),
        ({"filter": {"min_confidence": 3}}, ("min_confidence", "3")),
        ({"raster": {"mosaic": "best"}}, ("raster.mosaic", "best")),
        ({"grid": {"gsd_m": 0.30001}}, ("0.30001", "millimetres")),
        ({"outputs": ["pictures"]}, ("outputs", "pictures")),
    ],
)
def test_wrong_configs_name_key_and_value(tmp_path, town, change, words):
    image = write_town(tmp_path / "town.tif", town)
    model = make_bundle(tmp_path / "m.safetensors")
    data = {"images": [str(image)], "model": str(model), "output": str(tmp_path / "o"), **change}
    with pytest.raises(ConfigError) as caught:
        resolve_config(parse_config(data, source="test.yaml"))
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_output_folder_with_foreign_content_is_refused(tmp_path, town):
    image = write_town(tmp_path / "town.tif", town)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("precious")
    _refused(tmp_path, [image], "thesis.docx", "empty folder")
    assert (tmp_path / "out" / "thesis.docx").read_text() == "precious"


def _mount(path, *options):
    path.mkdir()
    result = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        pytest.skip(f"mounting is not possible here: {result.stderr.strip()}")


def test_output_on_a_read_only_mount(tmp_path, town):
    image = write_town(tmp_path / "town.tif", town)
    _mount(tmp_path / "mnt", "ro", "size=1m")
    try:
        with pytest.raises(DatasetError, match="cannot be written"):
            run_here(make_config(tmp_path, [image], output=str(tmp_path / "mnt" / "out")))
    finally:
        subprocess.run(["umount", str(tmp_path / "mnt")], check=True)


@pytest.mark.parametrize("full", ["output", "tile_store"])
def test_full_disk_is_named_and_the_same_command_resumes(tmp_path, full):
    image = write_town(tmp_path / "town.tif", draw_town(1400, 1400, seed=2))
    _mount(tmp_path / "mnt", "size=200k")
    places = {"output": str(tmp_path / "out"), full: str(tmp_path / "mnt" / "out")}
    config = make_config(tmp_path, [image], **places)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(config.to_json())))
    try:
        result = run_command("run", str(path))
        assert result.returncode != 0
        assert "No space left" in result.stderr
        subprocess.run(["mount", "-o", "remount,size=100m", str(tmp_path / "mnt")], check=True)
        result = run_command("run", str(path))
        assert result.returncode == 0, result.stderr
        assert len(footprints(Path(places["output"])))
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "mnt")], check=True)


def test_the_command_explains_itself_without_a_config():
    result = run_command("run")
    assert result.returncode == 2
    assert "--image" in result.stderr
    assert os.linesep * 10 not in result.stderr


def test_a_first_look_that_cannot_be(tmp_path, town):
    """Refused before anything is read, by `plan` as well."""
    image = write_town(tmp_path / "town.tif", town)
    words = ("first_look", "first_look = 0.2", "'mean_probability'", "take mosaic latest")
    _refused(
        tmp_path,
        [image],
        *words,
        segment={"first_look": 0.2},
        raster={"mosaic": "mean_probability"},
    )
    # The colour network takes any side, but half of an odd one is no whole number.
    settings = {"first_look": 0.2, "window_px": 255, "margin_px": 15}
    words = ("first_look", "285 px", "multiple of 2")
    _refused(tmp_path, [image], *words, segment=settings, grid={"tile_px": 510})
    _refused(tmp_path, [image], "first_look = 20", segment={"first_look": 20})
