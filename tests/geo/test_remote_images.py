"""Images on a real server that answers, refuses, stalls, cuts and changes files."""

import shutil

import numpy as np
import pytest
from image_server import serve_images
from synthetic import draw_town, write_cog

from geo.errors import RasterError
from geo.image_levels import choose_level
from geo.image_reader import ImageReader
from geo.image_version import MAX_WATCHED
from geo.images import ImageInfo, open_image
from geo.network_use import take_network_use
from geo.pixel_window import PixelWindow
from geo.remote_state import MAX_ASKED_AT_ONCE

WINDOW = PixelWindow(100, 700, 900, 800)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A folder with a COG of several blocks."""
    folder = tmp_path_factory.mktemp("served")
    write_cog(folder / "town.tif", draw_town(2200, 2000, seed=1), compress="jpeg")
    write_cog(folder / "other.tif", draw_town(2200, 2000, seed=2), compress="jpeg")
    return folder


@pytest.fixture
def served(town, tmp_path, monkeypatch):
    """The folder's copy, served; short pauses between tries."""
    folder = tmp_path / "served"
    shutil.copytree(town, folder)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    with serve_images(folder) as server:
        yield server, folder


def _read(info):
    with ImageReader() as reader:
        values, _ = reader.read(info, choose_level(info, info.gsd_m), WINDOW)
        reader.check_unchanged(info)
    return values


def _read_tiles(reader, info):
    for _ in range(2):
        reader.read(info, choose_level(info, info.gsd_m), WINDOW)
        reader.check_unchanged(info)


def _expected(folder):
    return _read(open_image(str(folder / "town.tif")))


def test_an_image_on_a_server_is_the_local_one(served):
    server, folder = served
    info = open_image(f"{server.url}/town.tif")
    np.testing.assert_array_equal(_read(info), _expected(folder))
    assert info.is_alone
    assert len(info.remote) == 1
    assert ImageInfo.from_dict(info.to_dict()) == info


def test_looking_at_an_image_costs_few_requests(served):
    server, _ = served
    open_image(f"{server.url}/town.tif")
    asked = server.requests()
    # Sidecars are looked for once; overviews come from the head that is there already.
    assert len([request for request in asked if request.status == 404]) <= 12
    assert len([request for request in asked if request.method == "GET"]) <= 4
    assert len(asked) <= 20


def test_a_tile_costs_few_requests_and_its_head_is_read_once(served):
    server, _ = served
    info = open_image(f"{server.url}/town.tif")
    with ImageReader() as reader:
        take_network_use()
        before = len(server.requests())
        reader.read(info, choose_level(info, info.gsd_m), PixelWindow(0, 0, 10, 10))
        opened = server.requests()[before:]
        reader.read(info, choose_level(info, info.gsd_m), WINDOW)
        tile = server.requests()[before + len(opened) :]
        reader.read(info, choose_level(info, info.gsd_m), WINDOW)
        assert len(server.requests()) == before + len(opened) + len(tile)
    assert all(request.path == "/town.tif" for request in opened + tile)
    assert sum(request.range.startswith("bytes=0-") for request in opened + tile) == 1
    # Blocks of 512 pixels: three rows of two or three, each row's neighbours in one range.
    assert 1 <= len(tile) <= 9
    use = take_network_use()
    assert use.num_bytes == sum(request.num_bytes for request in opened + tile)
    assert 1 <= use.num_requests <= len(opened) + len(tile)


@pytest.mark.parametrize(("fault", "times"), [("503", 3), ("503", 10), ("cut", 2), ("429", 1)])
def test_a_server_in_trouble_is_asked_again(served, fault, times):
    server, folder = served
    info = open_image(f"{server.url}/town.tif")
    server.misbehave(fault, times=times, after=1)
    np.testing.assert_array_equal(_read(info), _expected(folder))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("503", "503.*Run again"), ("403", "403.*Run again"), ("cut", "Run again")],
)
def test_a_server_that_stays_in_trouble_is_named(served, fault, reason):
    server, _ = served
    info = open_image(f"{server.url}/town.tif")
    server.misbehave(fault, after=1)
    with pytest.raises(RasterError, match=rf"town\.tif.*{reason}"):
        _read(info)


def test_a_dead_server_does_not_cost_every_tile_all_tries(served):
    server, _ = served
    info = open_image(f"{server.url}/town.tif")
    server.misbehave("503")
    with ImageReader() as reader:
        counts = []
        for _ in range(2):
            before = len(server.requests())
            with pytest.raises(RasterError):
                reader.read(info, choose_level(info, info.gsd_m), WINDOW)
            counts.append(len(server.requests()) - before)
        assert counts[1] < counts[0] <= 60
        server.misbehave("")
        reader.read(info, choose_level(info, info.gsd_m), WINDOW)


def test_a_stall_ends(served, monkeypatch):
    server, folder = served
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    info = open_image(f"{server.url}/town.tif")
    server.misbehave("stall", times=1, after=1)
    np.testing.assert_array_equal(_read(info), _expected(folder))


@pytest.mark.parametrize("has_etag", [True, False])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_file_that_changes_is_not_mixed(town, tmp_path, has_etag, after):
    folder = tmp_path / "served"
    shutil.copytree(town, folder)
    with serve_images(folder, has_etag=has_etag) as server:
        info = open_image(f"{server.url}/town.tif")
        server.change_after(after, "/town.tif", folder / "other.tif")
        with ImageReader() as reader:
            with pytest.raises(RasterError, match="changed on its server under the job"):
                _read_tiles(reader, info)
            num_requests = len(server.requests())
            with pytest.raises(RasterError, match="changed on its server under the job"):
                reader.read(info, choose_level(info, info.gsd_m), WINDOW)
            assert len(server.requests()) == num_requests
        again = open_image(f"{server.url}/town.tif")
        assert again.version != info.version
        np.testing.assert_array_equal(_read(again), _read(open_image(str(folder / "town.tif"))))


NUM_SOURCES = 20


def _mosaic(folder, urls):
    """A VRT on this machine of files on a server, side by side."""
    import rasterio

    with rasterio.open(folder / "small.tif") as source:
        height, width = source.shape
        transform, wkt = source.transform, source.crs.to_wkt()
    bands = ""
    for band, colour in enumerate(("Red", "Green", "Blue"), 1):
        parts = "".join(
            f"<SimpleSource><SourceFilename>/vsicurl/{url}</SourceFilename>"
            f"<SourceBand>{band}</SourceBand>"
            f'<SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="Byte" '
            f'BlockXSize="{width}" BlockYSize="{height}"/>'
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            f'<DstRect xOff="{i * width}" yOff="0" xSize="{width}" ySize="{height}"/>'
            "</SimpleSource>"
            for i, url in enumerate(urls)
        )
        bands += (
            f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{colour}</ColorInterp>'
            f"{parts}</VRTRasterBand>"
        )
    path = folder / "mosaic.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{len(urls) * width}" rasterYSize="{height}"><SRS>{wkt}</SRS>'
        f"<GeoTransform>{', '.join(map(repr, transform.to_gdal()))}</GeoTransform>{bands}"
        "</VRTDataset>"
    )
    return str(path)


@pytest.fixture
def mosaic(served, tmp_path):
    """The server, its folder of small images, and a VRT of twenty of them."""
    server, folder = served
    write_cog(tmp_path / "small.tif", draw_town(64, 64, seed=3))
    write_cog(tmp_path / "new.tif", draw_town(64, 64, seed=4))
    for i in range(NUM_SOURCES):
        shutil.copy(tmp_path / "small.tif", folder / f"{i}.tif")
    path = _mosaic(tmp_path, [f"{server.url}/{i}.tif" for i in range(NUM_SOURCES)])
    return server, folder, path


def test_any_source_of_a_mosaic_changes_its_version(mosaic, tmp_path):
    _, folder, path = mosaic
    info = open_image(path)
    assert len(info.remote) == NUM_SOURCES
    assert open_image(path).version == info.version
    with ImageReader() as reader:
        reader.check_unchanged(info)
        shutil.copy(tmp_path / "new.tif", folder / "17.tif")
        with pytest.raises(RasterError, match="changed on its server under the job"):
            reader.check_unchanged(info)
    assert open_image(path).version != info.version


def test_a_source_that_is_gone_is_named(mosaic):
    _, folder, path = mosaic
    info = open_image(path)
    (folder / "17.tif").unlink()
    with ImageReader() as reader, pytest.raises(RasterError, match="changed on its server"):
        reader.check_unchanged(info)
    with pytest.raises(RasterError, match=r"/17\.tif, a part of it, does not exist"):
        open_image(path)


def test_a_server_that_refuses_is_not_asked_for_every_source(mosaic):
    server, _, path = mosaic
    info = open_image(path)
    before = len(server.requests())
    server.misbehave("403")
    with ImageReader() as reader, pytest.raises(RasterError, match="cannot tell whether"):
        reader.check_unchanged(info)
    asked = server.requests()[before:]
    assert 1 <= len(asked) <= MAX_ASKED_AT_ONCE


def test_a_mosaic_of_more_files_than_can_be_watched_is_refused(mosaic, tmp_path):
    server, _, _ = mosaic
    num_files = MAX_WATCHED + 1
    path = _mosaic(tmp_path, [f"{server.url}/0.tif?part={i}" for i in range(num_files)])
    before = len(server.requests())
    with pytest.raises(RasterError, match=rf"made of {num_files} files.*list or an index"):
        open_image(path)
    assert len(server.requests()) - before < num_files


def test_a_removed_file_is_named(served):
    server, folder = served
    info = open_image(f"{server.url}/town.tif")
    (folder / "town.tif").unlink()
    with pytest.raises(RasterError, match=r"town\.tif"):
        _read(info)
    with pytest.raises(RasterError, match="does not exist"):
        open_image(f"{server.url}/town.tif")


def test_sidecars_are_found(served):
    import rasterio

    server, folder = served
    with rasterio.open(folder / "town.tif") as source:
        profile = {**source.profile, "driver": "GTiff"}
        pixels = source.read()
    with rasterio.open(folder / "masked.tif", "w", **profile) as target:
        target.write(pixels)
        mask = np.full(pixels.shape[1:], 255, np.uint8)
        mask[:, 600:] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
            target.write_mask(mask)
    assert (folder / "masked.tif.msk").exists()
    info = open_image(f"{server.url}/masked.tif")
    assert (info.is_alone, info.mask, len(info.remote)) == (False, "mask", 2)
    with ImageReader() as reader:
        _, valid = reader.read(info, choose_level(info, info.gsd_m), WINDOW)
    np.testing.assert_array_equal(valid, mask[700:1500, 100:1000] // 255)


def test_secrets_in_urls_are_shown_nowhere(served):
    server, _ = served
    url = f"{server.url}/none.tif?X-Amz-Signature=topsecret&id=7"
    with pytest.raises(RasterError) as caught:
        open_image(url)
    assert "topsecret" not in str(caught.value)
    info = open_image(f"{server.url}/town.tif?X-Amz-Signature=topsecret")
    server.misbehave("503")
    with pytest.raises(RasterError) as caught:
        _read(info)
    assert "topsecret" not in str(caught.value)
    assert "X-Amz-Signature=***" in str(caught.value)


def test_a_server_that_does_not_tell_its_version_is_read_all_the_same(served):
    server, folder = served
    server.misbehave("403", times=1)
    info = open_image(f"{server.url}/town.tif")
    assert info.remote == ()
    np.testing.assert_array_equal(_read(info), _expected(folder))
