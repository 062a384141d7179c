import dataclasses
import datetime
import json
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest
import rasterio
from affine import Affine
from raster_files import PLACES, textured, write_raster
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from geo.errors import RasterError
from geo.image_levels import choose_level, coarse_level
from geo.images import ImageInfo, open_image

UTM, NORTH_UP = PLACES["utm"]


@pytest.fixture
def image(tmp_path: pathlib.Path) -> str:
    return write_raster(
        tmp_path / "scene.one.tif", textured(3, 100, 160), UTM, NORTH_UP, overviews=(2, 4)
    )


def test_facts_of_an_image(image: str) -> None:
    info = open_image(image)
    assert (info.image_id, info.date, info.width, info.height) == ("scene.one", None, 160, 100)
    assert (info.bands, info.dtype, info.mask, info.nodata) == (
        (1, 2, 3),
        "uint8",
        "all_valid",
        None,
    )
    assert info.overview_sizes == ((80, 50), (40, 25))
    assert info.gsd_m == pytest.approx(0.3, abs=1e-6)
    assert info.affine == NORTH_UP
    assert info.x_period == 0
    outline = np.array(info.footprint)
    assert np.array_equal(outline[0], outline[-1])
    # Counter-clockwise, and the size of the image: 48 m x 30 m at 0.35 degrees north.
    x = outline[:, 0] * 111_320
    y = outline[:, 1] * 110_574
    assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2 == pytest.approx(48 * 30, rel=2e-3)


def test_info_survives_json_and_pickle(tmp_path: pathlib.Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", textured(3, 64, 64).astype(np.float32), UTM, NORTH_UP, nodata=np.nan
    )
    info = open_image(path, date=datetime.date(2024, 2, 29), image_id="x")
    back = ImageInfo.from_dict(json.loads(json.dumps(info.to_dict(), allow_nan=False)))
    assert back.nodata is not None
    assert np.isnan(back.nodata)
    assert dataclasses.replace(back, nodata=None) == dataclasses.replace(info, nodata=None)
    assert pickle.loads(pickle.dumps(info)).to_dict() == info.to_dict()


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"TIFFTAG_DATETIME": "2021:03:04 10:11:12"}, datetime.date(2021, 3, 4)),
        ({"ACQUISITION_DATE": "2020-12-31T23:59:59Z"}, datetime.date(2020, 12, 31)),
        ({"ACQUISITIONDATETIME": "20190607083000"}, datetime.date(2019, 6, 7)),
        ({"TIFFTAG_DATETIME": "0000:00:00 00:00:00"}, None),
        ({"TIFFTAG_DATETIME": "yesterday"}, None),
        (
            {"TIFFTAG_DATETIME": "2021:03:04 10:11:12", "ACQUISITIONDATE": "2018-01-02"},
            datetime.date(2018, 1, 2),
        ),
    ],
)
def test_date_comes_from_tags(
    tmp_path: pathlib.Path, tags: dict[str, str], expected: datetime.date | None
) -> None:
    path = write_raster(tmp_path / "a.tif", textured(3, 64, 64), UTM, NORTH_UP, tags=tags)
    assert open_image(path).date == expected
    assert open_image(path, date=datetime.date(2001, 1, 1)).date == datetime.date(2001, 1, 1)


def test_version_follows_the_content(image: str, tmp_path: pathlib.Path) -> None:
    version = open_image(image).version
    assert open_image(image).version == version
    moved = shutil.copy2(image, tmp_path / "moved.tif")
    assert open_image(str(moved)).version == version
    os.utime(moved, ns=(1, 1))
    assert open_image(str(moved)).version != version
    write_raster(tmp_path / "moved.tif", textured(3, 100, 160, seed=1), UTM, NORTH_UP)
    os.utime(moved, ns=(1, 1))
    assert open_image(str(moved)).version != version


def test_version_of_a_vrt_follows_its_source(image: str, tmp_path: pathlib.Path) -> None:
    vrt = tmp_path / "a.vrt"
    band = (
        '<VRTRasterBand dataType="Byte" band="{0}"><SimpleSource><SourceFilename '
        'relativeToVRT="0">{1}</SourceFilename><SourceBand>{0}</SourceBand></SimpleSource>'
        "</VRTRasterBand>"
    )
    vrt.write_text(
        f'<VRTDataset rasterXSize="160" rasterYSize="100"><SRS>{UTM}</SRS><GeoTransform>'
        f"{', '.join(str(v) for v in NORTH_UP.to_gdal())}</GeoTransform>"
        + "".join(band.format(i, image) for i in (1, 2, 3))
        + "</VRTDataset>"
    )
    version = open_image(str(vrt)).version
    os.utime(image, ns=(5, 5))
    assert open_image(str(vrt)).version != version


def _error(path: str, **options: object) -> str:
    with pytest.raises(RasterError) as caught:
        open_image(path, **options)  # type: ignore[arg-type]
    assert path in str(caught.value) or "bands" in str(caught.value)
    return str(caught.value)


def test_missing_empty_and_foreign_files(tmp_path: pathlib.Path) -> None:
    assert "does not exist" in _error(str(tmp_path / "none.tif"))
    (tmp_path / "zero.tif").touch()
    assert "zero bytes" in _error(str(tmp_path / "zero.tif"))
    (tmp_path / "text.tif").write_text("hello")
    assert "not recognized" in _error(str(tmp_path / "text.tif"))
    assert "cannot read" in _error(str(tmp_path))
    assert "cannot read" in _error("/vsizip/" + str(tmp_path / "none.zip/a.tif"))


def test_truncated_header(image: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "cut.tif"
    path.write_bytes(pathlib.Path(image).read_bytes()[:100])
    assert "cannot read" in _error(str(path))


@pytest.mark.parametrize("driver", ["PNG", "GTiff"])
def test_no_georeference(tmp_path: pathlib.Path, driver: str) -> None:
    path = write_raster(tmp_path / "a.img", textured(3, 64, 64), None, None, driver=driver)
    assert "-a_ullr" in _error(path)


def test_world_file_without_crs(tmp_path: pathlib.Path) -> None:
    path = write_raster(tmp_path / "a.png", textured(3, 64, 64), None, None, driver="PNG")
    (tmp_path / "a.pgw").write_text("0.3\n0\n0\n-0.3\n454788\n38858\n")
    message = _error(path)
    assert "no CRS" in message
    assert "-a_srs" in message
    assert open_image(_with_crs(tmp_path)).gsd_m == pytest.approx(0.3, abs=1e-5)


def _with_crs(folder: pathlib.Path) -> str:
    (folder / "a.png.aux.xml").write_text(f"<PAMDataset><SRS>{UTM}</SRS></PAMDataset>")
    return str(folder / "a.png")


def test_crs_without_geotransform(tmp_path: pathlib.Path) -> None:
    assert "no geotransform" in _error(
        write_raster(tmp_path / "a.tif", textured(3, 64, 64), UTM, None)
    )


def test_ground_control_points_only(tmp_path: pathlib.Path) -> None:
    points = [
        GroundControlPoint(row=row, col=col, x=32 + col * 1e-6, y=1 - row * 1e-6)
        for row in (0, 64)
        for col in (0, 64)
    ]
    path = write_raster(tmp_path / "a.tif", textured(3, 64, 64), "EPSG:4326", None, gcps=points)
    assert "gdalwarp" in _error(path)


def test_degenerate_geotransform(tmp_path: pathlib.Path) -> None:
    flat = Affine(0.3, 0.6, 454788, 0.15, 0.3, 38858)
    path = write_raster(tmp_path / "a.tif", textured(3, 64, 64), UTM, flat)
    assert "degenerate" in _error(path)


@pytest.mark.parametrize("latitude", [84.0, -79.9999])
def test_beyond_the_utm_zones(tmp_path: pathlib.Path, latitude: float) -> None:
    transform = Affine(3e-6, 0, 20, 0, -3e-6, latitude + 1e-4)
    path = write_raster(tmp_path / "a.tif", textured(3, 256, 64), "EPSG:4326", transform)
    assert "Crop it first" in _error(path)


def test_off_the_earth(tmp_path: pathlib.Path) -> None:
    transform = Affine(0.3, 0, 1e12, 0, -0.3, 1e12)
    path = write_raster(tmp_path / "a.tif", textured(3, 64, 64), UTM, transform)
    assert "does not lie on the earth" in _error(path)


@pytest.mark.parametrize("num_bands", [1, 2])
def test_too_few_bands(tmp_path: pathlib.Path, num_bands: int) -> None:
    path = write_raster(tmp_path / "a.tif", textured(num_bands, 64, 64), UTM, NORTH_UP)
    message = _error(path)
    assert f"{num_bands} band" in message
    assert "3" in message
    assert open_image(path, bands=(1, 1, 1)).bands == (1, 1, 1)
    assert "bands 1 to" in _error(path, bands=(1, 2, 3))
    assert "model wants 3" in _error(path, bands=(1,))


def test_four_bands_are_alpha_or_infrared(tmp_path: pathlib.Path) -> None:
    bands = textured(4, 64, 64)
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    alpha = write_raster(
        tmp_path / "a.tif", bands, UTM, NORTH_UP, colorinterp=(*rgb, ColorInterp.alpha)
    )
    options = {"photometric": "minisblack", "alpha": "no"}
    undefined = ColorInterp.undefined
    infrared = write_raster(
        tmp_path / "b.tif", bands, UTM, NORTH_UP, colorinterp=(*rgb, undefined), **options
    )
    swapped = write_raster(
        tmp_path / "c.tif", bands, UTM, NORTH_UP, colorinterp=(*rgb[::-1], undefined), **options
    )
    assert (open_image(alpha).bands, open_image(alpha).mask) == ((1, 2, 3), "alpha")
    assert (open_image(infrared).bands, open_image(infrared).mask) == ((1, 2, 3), "all_valid")
    assert open_image(swapped).bands == (3, 2, 1)
    assert open_image(infrared, bands=(4, 1, 2)).bands == (4, 1, 2)
    assert open_image(alpha, bands=(4, 1, 2)).mask == "all_valid"
    assert "3 bands besides alpha" in _error(alpha, num_bands=4)


def test_palette_and_complex_values(tmp_path: pathlib.Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", textured(1, 64, 64), UTM, NORTH_UP, colorinterp=(ColorInterp.palette,)
    )
    assert "-expand rgb" in _error(path)
    bands = textured(3, 64, 64).astype(np.complex64)
    assert "complex" in _error(write_raster(tmp_path / "b.tif", bands, UTM, NORTH_UP))


def test_overviews_without_the_mask_are_not_used(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.full((100, 160), 255, np.uint8)
    mask[:40] = 0
    bands = textured(3, 100, 160)
    kept = write_raster(tmp_path / "a.tif", bands, UTM, NORTH_UP, mask=mask, overviews=(2,))
    assert open_image(kept).overview_sizes == ((80, 50),)
    lost = write_raster(tmp_path / "b.tif", bands, UTM, NORTH_UP, overviews=(2,))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(lost, "r+") as dataset:
        dataset.write_mask(mask)
    assert open_image(lost).overview_sizes == ()
    assert "lack the mask" in caplog.text


def test_footprint_across_the_antimeridian(tmp_path: pathlib.Path) -> None:
    for name in ("antimeridian_lonlat", "antimeridian_mercator"):
        crs, transform = PLACES[name]
        path = write_raster(tmp_path / f"{name}.tif", textured(3, 64, 256), crs, transform)
        info = open_image(path)
        lon = np.abs(np.array(info.footprint)[:, 0])
        assert np.ptp(np.array(info.footprint)[:, 0]) < 0.01
        assert lon.min() < 180 < lon.max()
        assert info.gsd_m == pytest.approx(0.31, abs=0.02)


@pytest.mark.parametrize(
    ("gsd_m", "overview", "boxes"),
    [
        (0.3, None, 1),
        (0.25, None, 1),
        (0.58, None, 1),
        (0.6, 0, 1),
        (0.595, 0, 1),
        (0.9, 0, 1),
        (1.2, 1, 1),
        (2.4, 1, 2),
        (3.7, 1, 3),
    ],
)
def test_choice_of_level(image: str, gsd_m: float, overview: int | None, boxes: int) -> None:
    level = choose_level(open_image(image), gsd_m)
    assert (level.overview, level.box_cols, level.box_rows) == (overview, boxes, boxes)
    ratio = gsd_m / 0.3 / level.scale_col
    assert ratio < 2
    assert ratio > 1 / 1.021 or level.scale_col == 1


def test_level_of_odd_overviews_uses_the_true_ratio(tmp_path: pathlib.Path) -> None:
    path = write_raster(tmp_path / "a.tif", textured(3, 101, 163), UTM, NORTH_UP, overviews=(2,))
    info = open_image(path)
    level = choose_level(info, 0.6)
    width, height = info.overview_sizes[0]
    assert (level.scale_col, level.scale_row) == (163 / width, 101 / height)
    assert level.scale_row != 2


def test_coarse_level_is_small_enough(image: str) -> None:
    info = open_image(image)
    for limit in (16000, 15999, 4000, 3999, 1000, 999, 60):
        level = coarse_level(info, limit)
        assert level.width * level.height <= limit
        assert level.width * level.height > limit / 5
