"""From the pixels of an image to those of the world grid, the same whoever asks.

The grid is cut into blocks anchored to it. At the corners of half blocks (the nodes) pyproj says
where a grid point lies in the image; in between, positions are interpolated bilinearly in float64
from the four nodes around: a matter of the pixel alone. Values are interpolated bilinearly in
integers (weights of 1/2048), so that no instruction set rounds differently, from 2 x 2 positions
per pixel where the source is clearly finer than the grid. A pixel is valid when every source pixel
that contributes is.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj

from geo.grid import WorldGrid
from geo.image_levels import Level
from geo.images import ImageInfo
from geo.large_arrays import blank_array
from geo.pixel_window import PixelWindow
from geo.warp_kernel import NODE_STEP_PX, paint_cells

Uint8Array = npt.NDArray[np.uint8]
Uint16Array = npt.NDArray[np.uint16]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

BLOCK_PX = 128
# Above this many source pixels per grid pixel, one bilinear sample would alias.
MAX_SINGLE_TAP_RATIO = 1.25

_CELLS_PER_BLOCK = BLOCK_PX // NODE_STEP_PX
# Beyond it positions in 1/2048 pixel would overflow.
_MAX_POSITION_PX = float(1 << 40)


@dataclass(frozen=True, kw_only=True)
class BlockMap:
    """Where the blocks of a window lie in an image.

    Attributes:
        window: the blocks' pixels: a whole number of blocks, anchored to the grid.
        x: column of each node in the level, pixel centres being whole numbers, float64, shape
            (num_node_rows, num_node_cols).
        y: row of each node, likewise.
        cell_ok: whether positions exist all over the square between four nodes, bool, shape
            (num_node_rows - 1, num_node_cols - 1).
        source: (col_off, row_off, col_end, row_end) of the pixels of the level that each block
            needs, clipped to the level and empty where it needs none; int64, shape (num_block_rows,
            num_block_cols, 4).
        num_taps: samples per pixel in either direction, 1 or 2.
    """

    window: PixelWindow
    x: Float64Array
    y: Float64Array
    cell_ok: BoolArray
    source: Int64Array
    num_taps: int

    @property
    def touches(self) -> BoolArray:
        """Which blocks need any pixel, shape (num_block_rows, num_block_cols)."""
        col, row, col_end, row_end = np.moveaxis(self.source, 2, 0)
        return np.asarray((col < col_end) & (row < row_end))


def align_to_blocks(window: PixelWindow) -> PixelWindow:
    """The smallest window of whole blocks around a window."""
    col, row = window.col_off // BLOCK_PX * BLOCK_PX, window.row_off // BLOCK_PX * BLOCK_PX
    col_end, row_end = -(-window.col_end // BLOCK_PX), -(-window.row_end // BLOCK_PX)
    return PixelWindow(col, row, col_end * BLOCK_PX - col, row_end * BLOCK_PX - row)


def map_blocks(info: ImageInfo, level: Level, grid: WorldGrid, window: PixelWindow) -> BlockMap:
    """Where the blocks of a window lie in an image.

    Args:
        info: the image.
        level: size at which it is read.
        grid: the zone's grid.
        window: grid pixels; the blocks that hold them are mapped.
    """
    blocks = align_to_blocks(window)
    cols = np.arange(blocks.col_off, blocks.col_end + 1, NODE_STEP_PX)
    rows = np.arange(blocks.row_off, blocks.row_end + 1, NODE_STEP_PX)
    col, row = image_positions(info, grid, *np.meshgrid(cols, rows))
    x, y = col / level.scale_col - 0.5, row / level.scale_row - 0.5
    bounds, cell_ok = _cell_bounds(x, y, _x_turn(info, level))
    # Metres per column and per row; a little more than one pixel of the level per pixel is fine.
    ratio = max(
        grid.gsd_m / (info.gsd_col_m * level.scale_col),
        grid.gsd_m / (info.gsd_row_m * level.scale_row),
    )
    return BlockMap(
        window=blocks,
        x=x,
        y=y,
        cell_ok=cell_ok,
        source=_block_sources(bounds, cell_ok, level),
        num_taps=2 if ratio > MAX_SINGLE_TAP_RATIO else 1,
    )


def image_positions(
    info: ImageInfo, grid: WorldGrid, cols: npt.ArrayLike, rows: npt.ArrayLike
) -> tuple[Float64Array, Float64Array]:
    """Fractional (columns, rows) of an image, counted from its corner, of points of the grid.

    Args:
        info: the image.
        grid: the zone's grid.
        cols: columns of the grid, counted from pixel corners.
        rows: rows of the grid, likewise.

    Returns:
        float64; not finite where the grid point has no place in the image's CRS.
    """
    east = np.asarray(cols, np.float64) * grid.gsd_m
    north = np.asarray(rows, np.float64) * -grid.gsd_m
    x, y = (np.asarray(v) for v in _to_image_crs(grid.epsg, info.crs).transform(east, north))
    a, b, c, d, e, f = info.transform
    if info.x_period:
        middle = a * info.width / 2 + b * info.height / 2 + c
        with np.errstate(invalid="ignore"):
            x = x - info.x_period * np.round((x - middle) / info.x_period)
    determinant = a * e - b * d
    with np.errstate(invalid="ignore"):
        u, v = x - c, y - f
        return (e * u - b * v) / determinant, (a * v - d * u) / determinant


@functools.lru_cache(maxsize=256)
def _to_image_crs(epsg: int, crs: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, pyproj.CRS.from_wkt(crs), always_xy=True)


def _x_turn(info: ImageInfo, level: Level) -> float:
    """Pixels of the level in a full turn around the earth, infinite where x does not repeat."""
    step = max(abs(info.transform[0]), abs(info.transform[3])) * level.scale_col
    step_row = max(abs(info.transform[1]), abs(info.transform[4])) * level.scale_row
    return info.x_period / max(step, step_row) if info.x_period else np.inf


def _cell_bounds(x: Float64Array, y: Float64Array, turn: float) -> tuple[Float64Array, BoolArray]:
    """(x_min, y_min, x_max, y_max) per cell, and whether the cell can be used.

    A cell that spans half a turn lies opposite the image, where longitudes jump.
    """
    corners = [np.stack([v[:-1, :-1], v[:-1, 1:], v[1:, :-1], v[1:, 1:]]) for v in (x, y)]
    low = [corner.min(axis=0) for corner in corners]
    high = [corner.max(axis=0) for corner in corners]
    bounds = np.stack([*low, *high], axis=2)
    ok = np.isfinite(bounds).all(axis=2)
    with np.errstate(invalid="ignore"):
        ok &= np.abs(bounds).max(axis=2) < _MAX_POSITION_PX
        ok &= np.maximum(high[0] - low[0], high[1] - low[1]) < turn / 2
    return bounds, ok


def _block_sources(bounds: Float64Array, cell_ok: BoolArray, level: Level) -> Int64Array:
    """Pixels of the level under each block: bilinear positions lie within those of the nodes."""
    far = np.where(cell_ok[:, :, None], bounds, [np.inf, np.inf, -np.inf, -np.inf])
    num_rows, num_cols = (size // _CELLS_PER_BLOCK for size in cell_ok.shape)
    cells = far.reshape(num_rows, _CELLS_PER_BLOCK, num_cols, _CELLS_PER_BLOCK, 4)
    low, high = cells[..., :2].min(axis=(1, 3)), cells[..., 2:].max(axis=(1, 3))
    size = np.array([level.width, level.height])
    # One pixel more on either side than bilinear interpolation needs: room for rounding.
    first = np.clip(np.floor(low) - 1, 0, size)
    last = np.clip(np.floor(high) + 3, 0, size)
    return np.concatenate([first, last], axis=2).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Blocks that are warped from one read.

    Attributes:
        rows: block rows of the map.
        cols: block columns of the map.
        source: pixels of the level that they need.
    """

    rows: slice
    cols: slice
    source: PixelWindow


def plan_chunks(block_map: BlockMap, needed: BoolArray, max_source_px: int) -> Iterator[Chunk]:
    """Group blocks so that each read is large, but neither too large nor mostly unused.

    Rows come in order, so that file blocks on the border of two chunks are still in GDAL's cache.

    Args:
        block_map: where the blocks lie.
        needed: blocks to warp, bool, shape (num_block_rows, num_block_cols).
        max_source_px: most pixels of the level to read at once (one block may exceed it).
    """
    yield from _split(block_map.source, needed & block_map.touches, (0, 0), max_source_px)


def _split(
    source: Int64Array, needed: BoolArray, offset: tuple[int, int], max_source_px: int
) -> Iterator[Chunk]:
    rows, cols = np.flatnonzero(needed.any(axis=1)), np.flatnonzero(needed.any(axis=0))
    if not len(rows):
        return
    inner = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    source, needed = source[inner], needed[inner]
    row, col = offset[0] + int(rows[0]), offset[1] + int(cols[0])
    height, width = needed.shape
    parts = source[needed]
    first, last = parts[:, :2].min(axis=0), parts[:, 2:].max(axis=0)
    total = int(np.prod(last - first))
    used = int(np.prod(parts[:, 2:] - parts[:, :2], axis=1).sum())
    if height * width == 1 or (total <= max_source_px and total <= 2 * used):
        yield Chunk(
            slice(row, row + height),
            slice(col, col + width),
            PixelWindow(int(first[0]), int(first[1]), *(int(v) for v in last - first)),
        )
    elif height >= width:
        half = height // 2
        yield from _split(source[:half], needed[:half], (row, col), max_source_px)
        yield from _split(source[half:], needed[half:], (row + half, col), max_source_px)
    else:
        half = width // 2
        yield from _split(source[:, :half], needed[:, :half], (row, col), max_source_px)
        yield from _split(source[:, half:], needed[:, half:], (row, col + half), max_source_px)


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Grid pixels that images are painted on; the arrays are filled in place.

    Attributes:
        window: the grid pixels.
        pixels: uint8, shape (bands, height, width).
        valid: uint8, 1 where a pixel is painted, shape (height, width).
        image_index: uint16, which image it came from, shape (height, width).
    """

    window: PixelWindow
    pixels: Uint8Array
    valid: Uint8Array
    image_index: Uint16Array

    @classmethod
    def blank(cls, window: PixelWindow, num_bands: int) -> "Canvas":
        """A canvas without any valid pixel."""
        shape = (window.height, window.width)
        return cls(
            window=window,
            pixels=blank_array((num_bands, *shape), np.uint8),
            valid=blank_array(shape, np.uint8),
            image_index=blank_array(shape, np.uint16),
        )


def paint_chunk(
    canvas: Canvas,
    block_map: BlockMap,
    chunk: Chunk,
    pixels: Uint8Array,
    valid: Uint8Array | None,
    image_index: int,
) -> None:
    """Paint the blocks of a chunk on the pixels that are still blank.

    Args:
        canvas: is changed.
        block_map: where the blocks lie.
        chunk: the blocks.
        pixels: the chunk's source, uint8, shape (height, width, bands).
        valid: 1 where it is valid, uint8, shape (height, width); None: everywhere.
        image_index: number to note for the pixels painted.
    """
    blocks, window = block_map.window, canvas.window
    rows = _pixel_range(chunk.rows, blocks.row_off, window.row_off, window.height)
    cols = _pixel_range(chunk.cols, blocks.col_off, window.col_off, window.width)
    # A mask that hides nothing here need not be looked at pixel by pixel.
    has_mask = valid is not None and not valid.all()
    paint_cells(
        np.ascontiguousarray(pixels),
        np.ascontiguousarray(valid) if valid is not None else np.zeros((1, 1), np.uint8),
        has_mask,
        np.array([chunk.source.col_off, chunk.source.row_off]),
        block_map.x,
        block_map.y,
        block_map.cell_ok,
        np.array([window.col_off - blocks.col_off, window.row_off - blocks.row_off]),
        block_map.num_taps,
        np.array([*rows, *cols]),
        canvas.pixels,
        canvas.valid,
        canvas.image_index,
        image_index,
    )


def _pixel_range(blocks: slice, block_off: int, window_off: int, size: int) -> tuple[int, int]:
    """Pixels of the canvas that a range of blocks covers."""
    start = blocks.start * BLOCK_PX + block_off - window_off
    end = blocks.stop * BLOCK_PX + block_off - window_off
    return max(start, 0), min(end, size)
