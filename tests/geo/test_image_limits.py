"""Clouds and outlines: which pixels of the grid an image may give, whatever the window."""

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from image_server import serve_images
from raster_files import textured, write_raster

from geo.errors import RasterError
from geo.grid import WorldGrid
from geo.image_limits import CloudMask, ImageLimit, hidden_pixels
from geo.image_profile import profile_image
from geo.image_reader import ImageReader
from geo.images import open_image
from geo.pixel_window import PixelWindow
from geo.raster_config import RasterConfig
from geo.rasters import TileReader

GRID = WorldGrid(36, 300)
CORNER = (454788.21, 38858.95)
MAX_BYTES = 1 << 20

MASKS = {
    "finer": ("EPSG:32636", Affine(0.21, 0, CORNER[0] - 3, 0, -0.21, CORNER[1] + 2), (700, 800)),
    "coarser": ("EPSG:32636", Affine(10, 0, CORNER[0] - 13, 0, -10, CORNER[1] + 8), (16, 20)),
    "mercator": ("EPSG:3857", Affine(5, 0, 3628330.0, 0, -5, 39145.0), (40, 50)),
    "turned": (
        "EPSG:32636",
        Affine.translation(CORNER[0] + 20, CORNER[1] + 10)
        @ Affine.rotation(-31)
        @ Affine.scale(4, -4),
        (50, 50),
    ),
}


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    found = {}
    for i, (name, (crs, transform, shape)) in enumerate(MASKS.items()):
        values = np.random.default_rng(i).integers(0, 12, (1, *shape)).astype(np.uint8)
        path = write_raster(folder / f"{name}.tif", values, crs, transform)
        info = open_image(path, bands=(1,), num_bands=1)
        found[name] = (CloudMask(info=info, values=(3, 8, 9)), values[0])
    return found


def _window(height=300, width=350):
    return PixelWindow(int(CORNER[0] / 0.3) - 30, int(-CORNER[1] / 0.3) - 20, width, height)


def _oracle(mask, values, window):
    """The mask's pixel under each centre, by pyproj, pixel by pixel; NaN-free and slow."""
    cols, rows = np.meshgrid(
        np.arange(window.col_off, window.col_end) + 0.5,
        np.arange(window.row_off, window.row_end) + 0.5,
    )
    turn = pyproj.Transformer.from_crs(GRID.epsg, mask.info.crs, always_xy=True)
    x, y = turn.transform(cols * 0.3, rows * -0.3)
    col, row = ~mask.info.affine @ (x, y)
    edge = np.minimum(np.abs(col - np.round(col)), np.abs(row - np.round(row)))
    inside = (col >= 0) & (col < values.shape[1]) & (row >= 0) & (row < values.shape[0])
    picked = values[
        np.clip(row, 0, values.shape[0] - 1).astype(int),
        np.clip(col, 0, values.shape[1] - 1).astype(int),
    ]
    return inside & np.isin(picked, mask.values), edge


@pytest.mark.parametrize("name", list(MASKS))
def test_a_pixel_takes_the_masks_pixel_under_its_centre(masks, name):
    mask, values = masks[name]
    window = _window()
    with ImageReader() as reader:
        hidden = hidden_pixels(ImageLimit(cloud_mask=mask), reader, GRID, window, MAX_BYTES)
    expected, edge = _oracle(mask, values, window)
    # Positions are interpolated between nodes: only within a hair of an edge may they differ.
    clear = edge > 0.02
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(hidden[clear], expected[clear])
    assert 0.05 < hidden.mean() < 0.5


@given(
    name=st.sampled_from(list(MASKS)),
    row=st.integers(0, 250),
    col=st.integers(0, 250),
    height=st.integers(1, 180),
    width=st.integers(1, 180),
    max_bytes=st.sampled_from([1 << 8, 1 << 12, 1 << 20]),
)
def test_what_is_hidden_does_not_depend_on_the_window(
    masks, name, row, col, height, width, max_bytes
):
    mask, _ = masks[name]
    whole = _window(450, 450)
    part = PixelWindow(whole.col_off + col, whole.row_off + row, width, height)
    outline = shapely.Polygon(_lonlat([(30, 40), (330, 20), (400, 300), (90, 380)], whole))
    limit = ImageLimit(outline=outline, cloud_mask=mask)
    with ImageReader() as reader:
        all_of_it = hidden_pixels(limit, reader, GRID, whole, MAX_BYTES)
        some = hidden_pixels(limit, reader, GRID, part, max_bytes)
    expected = all_of_it[part.within(whole)]
    if some is None:
        assert not expected.any()
    else:
        np.testing.assert_array_equal(some, expected)


def _hide_some_times(limit, reader):
    for _ in range(4):
        hidden_pixels(limit, reader, GRID, _window(), MAX_BYTES)


@pytest.mark.parametrize("after", [0, 2])
def test_a_mask_that_changes_under_the_job_is_noticed(tmp_path, after):
    crs, transform, shape = MASKS["finer"]
    values = np.zeros((1, *shape), np.uint8)
    served = tmp_path / "served"
    served.mkdir()
    write_raster(served / "mask.tif", values, crs, transform)
    write_raster(tmp_path / "other.tif", values + 3, crs, transform)
    with serve_images(served) as server, ImageReader() as reader:
        info = open_image(f"{server.url}/mask.tif", bands=(1,), num_bands=1)
        limit = ImageLimit(cloud_mask=CloudMask(info=info, values=(3,)))
        assert hidden_pixels(limit, reader, GRID, _window(), MAX_BYTES) is None
        server.change_after(after, "/mask.tif", tmp_path / "other.tif")
        with pytest.raises(RasterError, match=r"mask\.tif changed on its server under the job"):
            _hide_some_times(limit, reader)


def test_a_mask_that_a_tile_does_not_touch_is_not_asked_for(tmp_path):
    crs, transform, shape = MASKS["finer"]
    write_raster(tmp_path / "mask.tif", np.zeros((1, *shape), np.uint8), crs, transform)
    with serve_images(tmp_path) as server, ImageReader() as reader:
        info = open_image(f"{server.url}/mask.tif", bands=(1,), num_bands=1)
        limit = ImageLimit(cloud_mask=CloudMask(info=info, values=(3,)))
        asked = len(server.requests())
        far = PixelWindow(_window().col_off + 9000, _window().row_off, 50, 50)
        assert hidden_pixels(limit, reader, GRID, far, MAX_BYTES) is None
        assert len(server.requests()) == asked


def _lonlat(points, window):
    cols, rows = np.array(points, float).T
    return np.stack(GRID.to_lonlat(window.col_off + cols, window.row_off + rows), axis=1)


def test_outside_an_outline_everything_is_hidden():
    window = _window()
    points = np.array([(30.2, 40.1), (280.4, 22.7), (300.3, 250.9), (90.6, 200.5)])
    limit = ImageLimit(outline=shapely.Polygon(_lonlat(points, window)))
    with ImageReader() as reader:
        hidden = hidden_pixels(limit, reader, GRID, window, MAX_BYTES)
    cols, rows = np.meshgrid(np.arange(350) + 0.5, np.arange(300) + 0.5)
    inside = shapely.contains_xy(shapely.Polygon(points), cols, rows)
    edge = shapely.distance(shapely.Polygon(points).exterior, shapely.points(cols, rows)) < 0.01
    np.testing.assert_array_equal(hidden[~edge], ~inside[~edge])


def test_nothing_is_hidden_without_a_limit(masks):
    with ImageReader() as reader:
        assert hidden_pixels(ImageLimit(), reader, GRID, _window(), MAX_BYTES) is None
        mask = CloudMask(info=masks["finer"][0].info, values=(77,))
        limit = ImageLimit(cloud_mask=mask)
        assert hidden_pixels(limit, reader, GRID, _window(), MAX_BYTES) is None


@pytest.mark.parametrize("mosaic", ["first", "mean_probability"])
def test_what_one_image_hides_another_shows(tmp_path, masks, mosaic):
    shape = (250, 300)
    infos = []
    for i in range(2):
        path = write_raster(
            tmp_path / f"{i}.tif",
            textured(3, *shape, seed=i),
            "EPSG:32636",
            Affine(0.3, 0, CORNER[0], 0, -0.3, CORNER[1]),
        )
        infos.append(open_image(path))
    config = RasterConfig(mosaic=mosaic)
    profiles = [profile_image(info, config) for info in infos]
    limits = [ImageLimit(cloud_mask=masks["coarser"][0]), ImageLimit()]
    window = _window()
    with ImageReader() as reader:
        hidden = hidden_pixels(limits[0], reader, GRID, window, MAX_BYTES)
    with TileReader(infos, profiles, GRID, config) as reader:
        plain = list(reader.read_layers(window))
    with TileReader(infos, profiles, GRID, config, limits=limits) as reader:
        layers = list(reader.read_layers(window))
        mosaicked = reader.read(window)
    np.testing.assert_array_equal(layers[0].valid, plain[0].valid & ~hidden)
    np.testing.assert_array_equal(layers[1].pixels, plain[1].pixels)
    assert not layers[0].pixels[:, hidden].any()
    expected = np.where(layers[0].valid, plain[0].pixels, plain[1].pixels)
    np.testing.assert_array_equal(mosaicked.pixels, expected)
    np.testing.assert_array_equal(mosaicked.image_index == 1, plain[1].valid & hidden)


def test_a_mask_that_cannot_be_read_is_named(tmp_path):
    path = write_raster(
        tmp_path / "cut.tif",
        np.random.default_rng(0).integers(0, 9, (1, 512, 512)).astype(np.uint8),
        "EPSG:32636",
        Affine(1, 0, CORNER[0], 0, -1, CORNER[1]),
    )
    info = open_image(path, bands=(1,), num_bands=1)
    data = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) // 3])
    limit = ImageLimit(cloud_mask=CloudMask(info=info, values=(1,)))
    with ImageReader() as reader, pytest.raises(RasterError, match=r"cut\.tif"):
        hidden_pixels(limit, reader, GRID, _window(2000, 2000), MAX_BYTES)
