import datetime
import pathlib
import pickle
import threading

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raster_files import PLACES, textured, write_raster
from rasterio.enums import ColorInterp

from geo.cog import write_cog
from geo.errors import RasterError
from geo.grid import WorldGrid, zone_of_longitude
from geo.image_profile import profile_image
from geo.images import ImageInfo, open_image
from geo.pixel_window import PixelWindow
from geo.rasters import RasterConfig, ReadStats, TileRaster, TileReader, covers, mosaic_order
from geo.warp import image_positions

UTM, NORTH_UP = PLACES["utm"]
GRID = WorldGrid(36, 300)


def make_reader(
    paths: list[str] | list[ImageInfo],
    config: RasterConfig | None = None,
    grid: WorldGrid = GRID,
    **options: int,
) -> TileReader:
    config = config or RasterConfig()
    infos = [open_image(p, bands=config.bands) if isinstance(p, str) else p for p in paths]
    return TileReader(infos, [profile_image(i, config) for i in infos], grid, config, **options)


def image_window(info: ImageInfo, grid: WorldGrid = GRID, margin_px: int = 5) -> PixelWindow:
    lon, lat = np.array(info.footprint).T
    cols, rows = grid.from_lonlat(lon, lat)
    col, row = int(np.floor(cols.min())), int(np.floor(rows.min()))
    size = int(np.ceil(cols.max())) - col, int(np.ceil(rows.max())) - row
    return PixelWindow(col, row, *size).expand(margin_px)


def read_all(path: str, config: RasterConfig | None = None, grid: WorldGrid = GRID) -> TileRaster:
    with make_reader([path], config, grid) as reader:
        return reader.read(image_window(reader.images[0], grid))


def aligned(col: int, row: int, gsd_m: float = 0.3) -> Affine:
    """Transform of an image whose pixels are those of the grid."""
    return Affine(gsd_m, 0, 0.3 * (1516000 + col), 0, -gsd_m, 0.3 * (129500 - row))


def aligned_window(col: int, row: int, width: int, height: int) -> PixelWindow:
    return PixelWindow(1516000 + col, -129500 + row, width, height)


# --- single images


def test_pixels_arrive_where_they_belong(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 200, 300)
    path = write_raster(tmp_path / "a.tif", bands, UTM, aligned(0, 0))
    with make_reader([path]) as reader:
        raster = reader.read(aligned_window(-7, -9, 320, 230))
    inner = np.s_[9:209, 7:307]
    assert raster.valid.dtype == bool
    assert raster.valid.sum() == raster.valid[inner].sum() == 200 * 300
    assert np.array_equal(raster.pixels[(slice(None), *inner)], bands)
    assert raster.pixels[:, ~raster.valid].max() == 0
    assert raster.image_index.dtype == np.uint16
    assert raster.stats == ReadStats(num_reads=1, source_px=60000, source_bytes=180000)


@pytest.mark.parametrize("gsd_m", [0.1, 0.15, 0.075])
@pytest.mark.parametrize("has_overviews", [False, True])
def test_finer_images_are_averaged(
    tmp_path: pathlib.Path, gsd_m: float, has_overviews: bool
) -> None:
    """Whole multiples: the result is the mean of the pixels below, overviews or not."""
    step = round(0.3 / gsd_m)
    coarse = textured(3, 60, 80)
    fine = np.repeat(np.repeat(coarse, step, axis=1), step, axis=2)
    fine[:, ::step] -= 5
    fine[:, 1::step] += 5
    overviews = (2, 4) if has_overviews else ()
    path = write_raster(tmp_path / "a.tif", fine, UTM, aligned(0, 0, gsd_m), overviews=overviews)
    with make_reader([path]) as reader:
        raster = reader.read(aligned_window(0, 0, 80, 60))
    if step == 3 and has_overviews:
        # From the overview by 2, 1.5 pixels per pixel: not exact, but no shift.
        inner = np.s_[:, 1:-1, 1:-1]
        assert np.abs(raster.pixels[inner].astype(int) - coarse[inner]).mean() < 12
    else:
        assert raster.valid.all()
        assert np.abs(raster.pixels.astype(int) - coarse).max() <= 1


def test_odd_overviews_do_not_shift(tmp_path: pathlib.Path) -> None:
    """An overview of 401 rows has 201: the far edge would be off by a pixel at factor 2."""
    rows, cols = np.mgrid[0:401, 0:603]
    bands = np.stack([rows, cols - 202, rows * 0]).astype(np.float32)
    # 12 levels per pixel for the last 20 pixels.
    config = RasterConfig(value_range=(380.0, 401.25), nodata_colours=())
    transform = aligned(0, 0, 0.15)
    path = write_raster(tmp_path / "a.tif", bands, UTM, transform, overviews=(2,), blockxsize=256)
    with make_reader([path], config) as reader:
        assert reader.images[0].overview_sizes == ((302, 201),)
        raster = reader.read(aligned_window(0, 0, 302, 201))
    out_rows, out_cols = np.mgrid[0:201, 0:302]
    for band, truth in ((0, 2 * out_rows + 0.5), (1, 2 * out_cols + 0.5 - 202)):
        seen = raster.valid & (raster.pixels[band] > 20) & (raster.pixels[band] < 250)
        assert seen.sum() > 1000
        error = 380 + raster.pixels[band][seen] / 12.0 - truth[seen]
        assert np.abs(error).max() < 0.1


def test_band_order(tmp_path: pathlib.Path) -> None:
    bands = textured(5, 100, 100)
    path = write_raster(tmp_path / "a.tif", bands, UTM, aligned(0, 0), photometric="minisblack")
    with make_reader([path], RasterConfig(bands=(4, 2, 2))) as reader:
        raster = reader.read(aligned_window(0, 0, 100, 100))
    assert np.array_equal(raster.pixels, bands[[3, 1, 1]])


def test_alpha_internal_mask_and_nodata(tmp_path: pathlib.Path) -> None:
    hidden = np.zeros((100, 120), bool)
    hidden[30:60, 40:90] = True
    opaque = np.where(hidden, 0, 255).astype(np.uint8)
    bands = textured(3, 100, 120)
    rgba = np.concatenate([bands, opaque[None]])
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    nodata = bands.copy()
    nodata[:, hidden] = 17
    nodata[0, :20] = 17  # in one band only: a colour
    places = {"crs": UTM, "transform": aligned(0, 0)}
    paths = [
        write_raster(tmp_path / "a.tif", rgba, colorinterp=(*rgb, ColorInterp.alpha), **places),
        write_raster(tmp_path / "b.tif", bands, mask=opaque, **places),
        write_raster(tmp_path / "c.tif", nodata, nodata=17, **places),
        write_raster(tmp_path / "d.tif", nodata, nodata=17, overviews=(2,), **places),
    ]
    for path in paths:
        with make_reader([path]) as reader:
            raster = reader.read(aligned_window(0, 0, 120, 100))
        assert np.array_equal(~raster.valid, hidden), path


def test_nan_and_float_bands(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 100, 120).astype(np.float32) / 255
    bands[1, 30:60, 40:90] = np.nan
    bands[2, 70, 70] = np.inf
    path = write_raster(tmp_path / "a.tif", bands, UTM, aligned(0, 0))
    for config in (RasterConfig(), RasterConfig(value_range=(0.0, 1.0))):
        with make_reader([path], config) as reader:
            raster = reader.read(aligned_window(0, 0, 120, 100))
        assert np.array_equal(~raster.valid, ~np.isfinite(bands).all(axis=0))
    assert np.array_equal(raster.pixels[0][raster.valid], textured(3, 100, 120)[0][raster.valid])


def test_sixteen_bit(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 100, 120).astype(np.uint16) * 12
    path = write_raster(tmp_path / "a.tif", bands, UTM, aligned(0, 0))
    with make_reader([path]) as reader:
        raster = reader.read(aligned_window(0, 0, 120, 100))
    assert raster.valid.all()
    low, high = np.percentile(bands[0], [2, 98], method="inverted_cdf")
    expected = np.clip(np.floor((bands[0] - float(low)) / (high - low) * 255 + 0.5), 0, 255)
    assert np.array_equal(raster.pixels[0], expected)


def test_nothing_but_nodata(tmp_path: pathlib.Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", np.full((3, 64, 64), 9, np.uint8), UTM, NORTH_UP, nodata=9
    )
    raster = read_all(path)
    assert not raster.valid.any()
    assert not raster.pixels.any()
    with make_reader([path]) as reader:
        assert list(reader.read_layers(image_window(reader.images[0]))) == []


def test_truncated_file_names_image_window_and_reason(tmp_path: pathlib.Path) -> None:
    # By pixel: what is cut off are rows, and not the last band.
    options = {"interleave": "pixel", "blockxsize": 128, "blockysize": 128}
    whole = write_raster(tmp_path / "a.tif", textured(3, 512, 512), UTM, NORTH_UP, **options)
    cut = tmp_path / "cut.tif"
    content = pathlib.Path(whole).read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    info = open_image(str(cut))
    profile = profile_image(open_image(whole), RasterConfig())
    reader = TileReader(
        [info], [type(profile)(version=info.version, fill=None, scaling=None)], GRID, RasterConfig()
    )
    with pytest.raises(RasterError, match=r"cut\.tif, columns .* of the image: .*[Rr]ead error"):
        reader.read(image_window(info))
    with pytest.raises(RasterError, match=r"cut\.tif"):
        profile_image(info, RasterConfig())
    # What was not cut off can still be read.
    top = PixelWindow(image_window(info).col_off, image_window(info).row_off, 100, 60)
    assert reader.read(top).valid.any()
    reader.close()


def test_image_that_shrank_since_it_was_looked_at(tmp_path: pathlib.Path) -> None:
    path = write_raster(tmp_path / "a.tif", textured(3, 128, 128), UTM, NORTH_UP)
    with make_reader([path]) as reader:
        write_raster(tmp_path / "a.tif", textured(3, 64, 64), UTM, NORTH_UP)
        with pytest.raises(RasterError, match="changed"):
            reader.read(image_window(reader.images[0]))
        (tmp_path / "a.tif").unlink()
        with pytest.raises(RasterError, match="No such file"):
            reader.read(image_window(reader.images[0]))


# --- the same pixels whoever asks


def _scene(folder: pathlib.Path, name: str) -> str:
    """A hole, a black border, an internal mask and JPEG's ringing in one image."""
    path = folder / f"{name}.tif"
    if path.exists():
        return str(path)
    bands = textured(3, 500, 640)
    bands[:, 150:300, 250:430] = 255
    bands[:, :, :40] = 0
    mask = np.full((500, 640), 255, np.uint8)
    mask[400:450, 500:600] = 0
    crs, transform = PLACES[name]
    fine = transform @ Affine.scale(0.75)
    options = {"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 85}
    return write_raster(path, bands, crs, fine, mask=mask, overviews=(2,), **options)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_groups_and_tile_sizes_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "scenes"
    folder.mkdir(exist_ok=True)
    name = data.draw(st.sampled_from(sorted(PLACES)))
    info = open_image(_scene(folder, name))
    grid = WorldGrid(
        zone_of_longitude(info.footprint[0][0]), data.draw(st.sampled_from([300, 470]))
    )
    window = image_window(info, grid, 20)
    with make_reader([info], grid=grid) as reader:
        whole = reader.read(window)
    assert 0.3 < whole.valid.mean() < 0.98
    limit = data.draw(st.sampled_from([1, 50_000, 400_000]))
    tile = data.draw(st.integers(37, 400))
    with make_reader([info], grid=grid, max_read_bytes=limit) as reader:
        for row in range(window.row_off, window.row_end, tile):
            for col in range(window.col_off, window.col_end, tile):
                width, height = min(tile, window.col_end - col), min(tile, window.row_end - row)
                part = reader.read(PixelWindow(col, row, width, height))
                inside = part.window.within(window)
                assert np.array_equal(part.valid, whole.valid[inside])
                assert np.array_equal(part.pixels, whole.pixels[(slice(None), *inside)])


def test_two_threads_read_the_same(tmp_path: pathlib.Path) -> None:
    path = _scene(tmp_path, "web_mercator")
    grid = WorldGrid(45, 300)
    with make_reader([path], grid=grid) as reader:
        window = image_window(reader.images[0], grid)
        expected = reader.read(window)
        results: list[TileRaster] = []
        threads = [
            threading.Thread(target=lambda: results.extend(reader.read(window) for _ in range(3)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 6
    for result in results:
        assert np.array_equal(result.pixels, expected.pixels)
        assert np.array_equal(result.valid, expected.valid)


def test_image_across_a_zone_edge_is_read_in_both_zones(tmp_path: pathlib.Path) -> None:
    crs, transform = PLACES["zone_edge"]
    path = write_raster(tmp_path / "a.tif", textured(3, 200, 400), crs, transform)
    info = open_image(path)
    lon = np.array(info.footprint)[:, 0]
    assert lon.min() < 30 < lon.max()
    means = []
    for zone in (35, 36):
        grid = WorldGrid(zone, 300)
        raster = read_all(path, grid=grid)
        assert raster.valid.sum() * 0.09 == pytest.approx(200 * 400 * 0.09, rel=0.02)
        means.append(raster.pixels[:, raster.valid].mean())
    assert means[0] == pytest.approx(means[1], abs=0.5)


@pytest.mark.parametrize("name", ["antimeridian_lonlat", "antimeridian_mercator"])
def test_image_across_the_antimeridian_is_read_from_both_sides(
    tmp_path: pathlib.Path, name: str
) -> None:
    crs, transform = PLACES[name]
    bands = textured(3, 200, 400)
    path = write_raster(tmp_path / "a.tif", bands, crs, transform)
    info = open_image(path)
    pixel_m2 = info.gsd_m**2
    for zone in (60, 1):
        raster = read_all(path, grid=WorldGrid(zone, 300))
        assert raster.valid.sum() * 0.09 == pytest.approx(200 * 400 * pixel_m2, rel=0.02)
        assert raster.pixels[:, raster.valid].mean() == pytest.approx(bands.mean(), abs=1)


# --- several images


def _two_images(tmp_path: pathlib.Path) -> list[str]:
    first = np.full((3, 200, 300), 100, np.uint8)
    first[:, 50:100, 50:100] = 9
    second = np.full((3, 200, 300), 200, np.uint8)
    tags = {"TIFFTAG_DATETIME": "2023:01:01 00:00:00"}
    return [
        write_raster(tmp_path / "a.tif", first, UTM, aligned(0, 0), nodata=9),
        write_raster(tmp_path / "b.tif", second, UTM, aligned(150, 0), tags=tags),
    ]


def test_first_image_wins_and_holes_are_filled(tmp_path: pathlib.Path) -> None:
    paths = _two_images(tmp_path)
    window = aligned_window(-10, -10, 480, 220)
    with make_reader(paths) as reader:
        raster = reader.read(window)
        assert (raster.pixels[0, 10:210, 200:310] == 100).all()
        assert (raster.pixels[0, 10:210, 310:460] == 200).all()
        assert (raster.image_index[10:210, 310:460] == 1).all()
        assert not raster.valid[60:110, 60:110].any()
    with make_reader(paths[::-1]) as reader:
        raster = reader.read(window)
        assert (raster.pixels[0, 10:210, 160:310] == 200).all()
        assert (raster.image_index[10:210, 160:310] == 0).all()
        assert (raster.image_index[10:60, 10:160] == 1).all()


def test_latest_image_wins(tmp_path: pathlib.Path) -> None:
    paths = _two_images(tmp_path)
    with make_reader(paths, RasterConfig(mosaic="latest")) as reader:
        raster = reader.read(aligned_window(0, 0, 450, 200))
    # The dated image comes before the one without a date; indices stay those of the list.
    assert (raster.pixels[0, :, 150:450] == 200).all()
    assert (raster.image_index[:, 150:450] == 1).all()
    assert (raster.image_index[:, :150] == 0).all()


def test_order_by_date(tmp_path: pathlib.Path) -> None:
    path = write_raster(tmp_path / "a.tif", textured(3, 64, 64), UTM, NORTH_UP)
    days = [None, 5, 9, None, 9, 1]
    infos = [open_image(path, date=datetime.date(2024, 1, d) if d else None) for d in days]
    assert mosaic_order(infos, RasterConfig(mosaic="latest")) == [2, 4, 1, 5, 0, 3]
    assert mosaic_order(infos, RasterConfig()) == [0, 1, 2, 3, 4, 5]


def test_images_below_a_complete_one_are_not_read(tmp_path: pathlib.Path) -> None:
    paths = _two_images(tmp_path)
    with make_reader(paths[::-1]) as reader:
        assert reader.read(aligned_window(200, 20, 150, 150)).stats.num_reads == 1
        stats = reader.read(aligned_window(0, 0, 450, 200)).stats
    # Of the first image only the blocks left of the second one (and at its edge) are read.
    assert stats.source_px < 2 * 300 * 200 - 20_000


def test_layers_give_each_image_alone(tmp_path: pathlib.Path) -> None:
    paths = _two_images(tmp_path)
    with make_reader(paths, RasterConfig(mosaic="mean_probability")) as reader:
        layers = list(reader.read_layers(aligned_window(0, 0, 450, 200)))
        assert [int(layer.image_index.max()) for layer in layers] == [0, 1]
        assert (layers[0].valid[:, :300].sum(), layers[0].valid[:, 300:].sum()) == (57500, 0)
        assert layers[1].valid[:, 150:].all()
        right = list(reader.read_layers(aligned_window(310, 0, 100, 100)))
        assert len(right) == 1
        assert (right[0].image_index == 1).all()


def test_no_images_at_all() -> None:
    with TileReader([], [], GRID, RasterConfig()) as reader:
        assert not reader.read(PixelWindow(0, 0, 10, 10)).valid.any()


def test_profiles_must_belong(tmp_path: pathlib.Path) -> None:
    paths = _two_images(tmp_path)
    infos = [open_image(path) for path in paths]
    profiles = [profile_image(info, RasterConfig()) for info in infos]
    with pytest.raises(RasterError, match="another version"):
        TileReader(infos, profiles[::-1], GRID, RasterConfig())
    with pytest.raises(RasterError, match="1 profiles"):
        TileReader(infos, profiles[:1], GRID, RasterConfig())


def test_reader_travels_without_its_datasets(tmp_path: pathlib.Path) -> None:
    reader = make_reader(_two_images(tmp_path))
    window = aligned_window(0, 0, 450, 200)
    expected = reader.read(window)
    copy = pickle.loads(pickle.dumps(reader))
    reader.close()
    assert np.array_equal(copy.read(window).pixels, expected.pixels)
    copy.close()
    # A closed reader opens its files again.
    assert np.array_equal(reader.read(window).pixels, expected.pixels)
    reader.close()


# --- cover


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cover_never_misses_a_pixel(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "scenes"
    folder.mkdir(exist_ok=True)
    info = open_image(_scene(folder, data.draw(st.sampled_from(sorted(PLACES)))))
    zone = zone_of_longitude(info.footprint[0][0])
    grid = WorldGrid((zone - 1 + data.draw(st.integers(-1, 1))) % 60 + 1, 300)
    around = image_window(info, grid, 200)
    size = data.draw(st.sampled_from([16, 64, 300]))
    col = data.draw(st.integers(around.col_off, around.col_end))
    row = data.draw(st.integers(around.row_off, around.row_end))
    window = PixelWindow(col, row, size, size)
    rows, cols = np.mgrid[0 : window.height + 1, 0 : window.width + 1]
    col, row = image_positions(info, grid, cols + window.col_off, rows + window.row_off)
    meets = ((col > 0) & (col < info.width) & (row > 0) & (row < info.height)).any()
    assert covers(info, grid, window) or not meets


def test_cover_is_not_lavish(tmp_path: pathlib.Path) -> None:
    info = open_image(write_raster(tmp_path / "a.tif", textured(3, 200, 300), UTM, aligned(0, 0)))
    assert covers(info, GRID, aligned_window(299, 199, 10, 10))
    assert not covers(info, GRID, aligned_window(306, 0, 100, 100))
    assert not covers(info, GRID, aligned_window(0, -110, 100, 100))
    assert not covers(info, WorldGrid(12, 300), aligned_window(0, 0, 100, 100))
    # Between the arms of a rotated image's bounding box.
    crs, transform = PLACES["rotated"]
    turned = open_image(write_raster(tmp_path / "b.tif", textured(3, 400, 400), crs, transform))
    around = image_window(turned, GRID, 0)
    assert not covers(turned, GRID, PixelWindow(around.col_off, around.row_off, 50, 50))


# --- writing


@pytest.mark.parametrize("shape", [(700, 900), (2, 700, 900)])
def test_cog_lies_on_the_grid(tmp_path: pathlib.Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    path = tmp_path / "p.tif"
    write_cog(path, array, GRID, aligned_window(5, 6, 900, 700), nodata=255)
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.crs.to_epsg() == 32636
        assert dataset.transform.almost_equals(aligned(5, 6), 1e-6)
        assert dataset.nodata == 255
        assert np.array_equal(dataset.read(), array.reshape(-1, 700, 900))
        assert dataset.overviews(1)
    assert [p.name for p in tmp_path.iterdir()] == ["p.tif"]


def test_cog_fails_whole(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RasterError, match="cannot write"):
        write_cog(
            tmp_path / "none" / "p.tif", np.zeros((5, 5), np.uint8), GRID, PixelWindow(0, 0, 5, 5)
        )
    with pytest.raises(ValueError, match="does not fill"):
        write_cog(tmp_path / "p.tif", np.zeros((5, 6), np.uint8), GRID, PixelWindow(0, 0, 5, 5))
    assert list(tmp_path.iterdir()) == []
