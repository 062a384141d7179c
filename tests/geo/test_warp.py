import pathlib

import numpy as np
import numpy.typing as npt
import pyproj
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_files import PLACES, textured, write_raster

from geo.grid import WorldGrid, zone_of_longitude
from geo.image_levels import Level, choose_level
from geo.images import ImageInfo, open_image
from geo.pixel_window import PixelWindow
from geo.warp import (
    BLOCK_PX,
    Canvas,
    align_to_blocks,
    image_positions,
    map_blocks,
    paint_chunk,
    plan_chunks,
)

Float64Array = npt.NDArray[np.float64]


def zone_grid(info: ImageInfo, gsd_mm: int = 300) -> WorldGrid:
    return WorldGrid(zone_of_longitude(info.footprint[0][0]), gsd_mm)


def image_window(info: ImageInfo, grid: WorldGrid, margin_px: int = 6) -> PixelWindow:
    """Grid pixels around an image."""
    lon, lat = np.array(info.footprint).T
    cols, rows = grid.from_lonlat(lon, lat)
    col, row = int(np.floor(cols.min())), int(np.floor(rows.min()))
    size = int(np.ceil(cols.max())) - col, int(np.ceil(rows.max())) - row
    return PixelWindow(col, row, *size).expand(margin_px)


def true_positions(
    info: ImageInfo, grid: WorldGrid, window: PixelWindow, in_pixel: tuple[float, float]
) -> tuple[Float64Array, Float64Array]:
    """Per-pixel pyproj, through degrees: columns and rows of the image from its corner."""
    rows, cols = np.mgrid[0 : window.height, 0 : window.width]
    cols = window.col_off + cols + in_pixel[1]
    rows = window.row_off + rows + in_pixel[0]
    lon, lat = grid.to_lonlat(cols, rows)
    crs = pyproj.CRS.from_wkt(info.crs)
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    middle = (info.affine @ (info.width / 2, info.height / 2))[0]
    if crs.is_geographic:
        x = x - 360 * np.round((x - middle) / 360)
    elif "3857" in str(crs.to_epsg()):
        turn = 2 * np.pi * 6378137
        x = x - turn * np.round((x - middle) / turn)
    col, row = ~info.affine @ (x, y)
    return col, row


def bilinear(
    source: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], x: Float64Array, y: Float64Array
) -> tuple[Float64Array, npt.NDArray[np.bool_]]:
    """Plain bilinear interpolation at pixel-centre positions; source of shape (h, w, bands)."""
    height, width = source.shape[:2]
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    inside = (x0 >= 0) & (y0 >= 0) & (x0 + 1 < width) & (y0 + 1 < height)
    x0, y0 = np.where(inside, x0, 0), np.where(inside, y0, 0)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    values = source.astype(float)
    top = values[y0, x0] * (1 - fx) + values[y0, x0 + 1] * fx
    low = values[y0 + 1, x0] * (1 - fx) + values[y0 + 1, x0 + 1] * fx
    complete = valid[y0, x0] & valid[y0, x0 + 1] & valid[y0 + 1, x0] & valid[y0 + 1, x0 + 1]
    return top * (1 - fy) + low * fy, inside & complete


def paint(
    info: ImageInfo,
    level: Level,
    grid: WorldGrid,
    window: PixelWindow,
    source: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.uint8] | None = None,
    max_source_px: int = 1 << 40,
) -> Canvas:
    """Warp an image that is given as an array of a level, shape (h, w, bands)."""
    canvas = Canvas.blank(window, source.shape[2])
    block_map = map_blocks(info, level, grid, window)
    for chunk in plan_chunks(block_map, block_map.touches, max_source_px):
        part = chunk.source.within(PixelWindow(0, 0, level.width, level.height))
        part_valid = None if valid is None else np.ascontiguousarray(valid[part])
        pixels = np.ascontiguousarray(source[part])
        paint_chunk(canvas, block_map, chunk, pixels, part_valid, 7)
    return canvas


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("warp")


def place(folder: pathlib.Path, name: str, height: int = 300, width: int = 420) -> ImageInfo:
    path = folder / f"{name}_{height}_{width}.tif"
    if not path.exists():
        write_raster(path, np.zeros((3, height, width), np.uint8), *PLACES[name])
    return open_image(str(path))


@pytest.mark.parametrize("name", PLACES)
def test_positions_between_nodes_are_those_of_pyproj(folder: pathlib.Path, name: str) -> None:
    info = place(folder, name)
    grid = zone_grid(info)
    window = image_window(info, grid, 40)
    col, row = true_positions(info, grid, window, (0.5, 0.5))
    level = choose_level(info, grid.gsd_m)
    block_map = map_blocks(info, level, grid, window)
    corner = np.mgrid[0 : window.height, 0 : window.width]
    own_col, own_row = image_positions(
        info, grid, corner[1] + window.col_off + 0.5, corner[0] + window.row_off + 0.5
    )
    assert np.abs(own_col - col).max() < 1e-5
    assert np.abs(own_row - row).max() < 1e-5
    # Interpolated here as the kernel does it.
    r = (corner[0] + window.row_off - block_map.window.row_off + 0.5) / 64
    c = (corner[1] + window.col_off - block_map.window.col_off + 0.5) / 64
    i, j = np.floor(r).astype(int), np.floor(c).astype(int)
    s, t = r - i, c - j
    for nodes, truth in ((block_map.x, col), (block_map.y, row)):
        top = nodes[i, j] * (1 - t) + nodes[i, j + 1] * t
        low = nodes[i + 1, j] * (1 - t) + nodes[i + 1, j + 1] * t
        assert np.abs(top * (1 - s) + low * s - (truth - 0.5)).max() < 0.002


@pytest.mark.parametrize("name", PLACES)
def test_values_show_the_true_position(folder: pathlib.Path, name: str) -> None:
    """20 levels per pixel: what comes out tells where it came from, to 1/40 pixel."""
    info = place(folder, name)
    grid = zone_grid(info)
    window = image_window(info, grid)
    col, row = true_positions(info, grid, window, (0.5, 0.5))
    level = choose_level(info, grid.gsd_m)
    num_seen = 0
    for start in range(0, info.width, 10):
        cols = np.clip((np.arange(info.width) - start) * 20, 0, 255)
        rows = np.clip((np.arange(info.height) - start) * 20, 0, 255)
        source = np.zeros((info.height, info.width, 2), np.uint8)
        source[..., 0], source[..., 1] = cols, rows[:, None]
        canvas = paint(info, level, grid, window, source)
        for band, truth in enumerate((col, row)):
            value = canvas.pixels[band]
            seen = (canvas.valid == 1) & (value >= 20) & (value <= 220)
            num_seen += int(seen.sum())
            error = start + value[seen] / 20.0 + 0.5 - truth[seen]
            assert np.abs(error).max(initial=0) < 0.03
    assert num_seen > 1.5 * info.width * info.height


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("gsd_mm", [300, 430])
def test_warp_equals_plain_bilinear(folder: pathlib.Path, name: str, gsd_mm: int) -> None:
    info = place(folder, name, 200, 220)
    grid = zone_grid(info, gsd_mm)
    window = image_window(info, grid)
    source = np.ascontiguousarray(textured(3, 200, 220).transpose(1, 2, 0))
    valid = np.ones((200, 220), np.uint8)
    valid[60:75, 80:140] = 0
    level = choose_level(info, grid.gsd_m)
    canvas = paint(info, level, grid, window, source, valid)
    taps = [(0.5, 0.5)] if gsd_mm == 300 else [(i, j) for i in (0.25, 0.75) for j in (0.25, 0.75)]
    total, complete = np.zeros((window.height, window.width, 3)), True
    for tap in taps:
        col, row = true_positions(info, grid, window, tap)
        value, ok = bilinear(source, valid == 1, col - 0.5, row - 0.5)
        total, complete = total + value / len(taps), complete & ok
    both = (canvas.valid == 1) & complete
    # The masks may differ where a position lies within rounding of a pixel's edge.
    assert ((canvas.valid == 1) != complete).mean() < 2e-3
    assert both.sum() > 0.5 * 200 * 220 * (300 / gsd_mm) ** 2
    assert np.abs(canvas.pixels.transpose(1, 2, 0)[both] - total[both]).max() < 1.0
    assert (canvas.pixels[:, canvas.valid == 0] == 0).all()
    assert (canvas.image_index[canvas.valid == 1] == 7).all()


def test_number_of_taps_follows_the_ratio(folder: pathlib.Path) -> None:
    info = place(folder, "utm")
    for gsd_mm, taps in ((200, 1), (300, 1), (375, 1), (376, 2), (580, 2), (600, 1)):
        grid = zone_grid(info, gsd_mm)
        level = choose_level(info, grid.gsd_m)
        assert map_blocks(info, level, grid, PixelWindow(0, 0, 1, 1)).num_taps == taps


def test_identity_is_exact_up_to_the_edge(folder: pathlib.Path) -> None:
    """An image on the grid's own pixels comes through unchanged, its last row and column too."""
    path = folder / "aligned.tif"
    transform = Affine(0.3, 0, 0.3 * 1516000, 0, -0.3, 0.3 * 129500)
    write_raster(path, np.zeros((3, 100, 150), np.uint8), "EPSG:32636", transform)
    info, grid = open_image(str(path)), WorldGrid(36, 300)
    source = np.ascontiguousarray(textured(3, 100, 150).transpose(1, 2, 0))
    window = PixelWindow(1516000, -129500, 150, 100)
    canvas = paint(info, choose_level(info, 0.3), grid, window.expand(3), source)
    inner = window.within(window.expand(3))
    assert canvas.valid.sum() == canvas.valid[inner].sum() == 150 * 100
    assert np.array_equal(canvas.pixels[(slice(None), *inner)], source.transpose(2, 0, 1))


@settings(max_examples=60)
@given(data=st.data())
def test_any_window_and_grouping_give_the_same_bytes(
    folder: pathlib.Path, data: st.DataObject
) -> None:
    info = place(folder, data.draw(st.sampled_from(sorted(PLACES))))
    grid = zone_grid(info, data.draw(st.sampled_from([300, 410])))
    level = choose_level(info, grid.gsd_m)
    source = np.ascontiguousarray(textured(3, info.height, info.width).transpose(1, 2, 0))
    valid = (textured(1, info.height, info.width, 3)[0] > 30).astype(np.uint8)
    whole_window = image_window(info, grid, 30)
    whole = paint(info, level, grid, whole_window, source, valid)
    col = data.draw(st.integers(0, whole_window.width - 1))
    row = data.draw(st.integers(0, whole_window.height - 1))
    window = PixelWindow(
        whole_window.col_off + col,
        whole_window.row_off + row,
        data.draw(st.integers(1, whole_window.width - col)),
        data.draw(st.integers(1, whole_window.height - row)),
    )
    limit = data.draw(st.sampled_from([1, 5_000, 30_000, 1 << 40]))
    part = paint(info, level, grid, window, source, valid, limit)
    inside = window.within(whole_window)
    assert np.array_equal(part.valid, whole.valid[inside])
    assert np.array_equal(part.pixels, whole.pixels[(slice(None), *inside)])


def test_chunks_hold_each_needed_block_once(folder: pathlib.Path) -> None:
    info = place(folder, "rotated", 600, 900)
    grid = zone_grid(info)
    block_map = map_blocks(info, choose_level(info, 0.3), grid, image_window(info, grid, 300))
    rng = np.random.default_rng(1)
    needed = rng.random(block_map.touches.shape) < 0.7
    for limit in (1, 40_000, 200_000, 1 << 30):
        count = np.zeros(needed.shape, int)
        for chunk in plan_chunks(block_map, needed, limit):
            count[chunk.rows, chunk.cols] += 1
            parts = block_map.source[chunk.rows, chunk.cols]
            mine = needed[chunk.rows, chunk.cols] & block_map.touches[chunk.rows, chunk.cols]
            assert (parts[mine][:, :2] >= [chunk.source.col_off, chunk.source.row_off]).all()
            assert (parts[mine][:, 2:] <= [chunk.source.col_end, chunk.source.row_end]).all()
            is_single = mine.size == 1
            assert is_single or chunk.source.width * chunk.source.height <= limit
        assert (count <= 1).all()
        assert (count[needed & block_map.touches] == 1).all()


def test_blocks_far_from_the_image_need_nothing(folder: pathlib.Path) -> None:
    for name in PLACES:
        info = place(folder, name)
        level = choose_level(info, 0.3)
        for zone in (1, 15, 37, 60):
            far = map_blocks(
                info, level, WorldGrid(zone, 300), PixelWindow(9**6, -(9**7), 500, 500)
            )
            assert not far.touches.any()


@given(st.integers(-(10**7), 10**7), st.integers(-(10**7), 10**7), st.integers(1, 999))
def test_aligned_windows(col: int, row: int, size: int) -> None:
    window = PixelWindow(col, row, size, size)
    aligned = align_to_blocks(window)
    for value in (aligned.col_off, aligned.row_off, aligned.width, aligned.height):
        assert value % BLOCK_PX == 0
    assert 0 <= col - aligned.col_off < BLOCK_PX > aligned.row_end - window.row_end >= 0
    assert 0 <= row - aligned.row_off < BLOCK_PX > aligned.col_end - window.col_end >= 0
