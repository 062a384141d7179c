"""Where an image must not be used although its own mask says that it may: clouds, and limits.

Both are decided per pixel of the world grid, from the grid's coordinates alone, so that what a
pixel becomes does not depend on the tile. A cloud mask may have another resolution, grid and CRS
than its image: a pixel takes the value of the mask's pixel under its centre.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import shapely

from geo.grid import WorldGrid
from geo.image_levels import Level
from geo.image_reader import ImageReader
from geo.images import ImageInfo
from geo.pixel_window import PixelWindow
from geo.stated_outlines import outlines_to_pixels
from geo.warp import BLOCK_PX, BlockMap, Chunk, map_blocks, plan_chunks
from geo.warp_kernel import NODE_STEP_PX

Uint8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_FRACTION_BITS = 11


@dataclass(frozen=True, kw_only=True)
class CloudMask:
    """A raster whose pixels of certain values are not to be used in an image.

    Attributes:
        info: the raster; its first band to read holds the mask.
        values: values that mean "not usable". Pixels beyond the raster count as usable.
    """

    info: ImageInfo
    values: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ImageLimit:
    """Where an image may be used.

    Attributes:
        outline: polygon in degrees outside of which it may not; None: everywhere.
        cloud_mask: a mask of pixels that may not; None: there is none.
    """

    outline: shapely.Polygon | None = None
    cloud_mask: CloudMask | None = None


def hidden_pixels(
    limit: ImageLimit,
    reader: ImageReader,
    grid: WorldGrid,
    window: PixelWindow,
    max_read_bytes: int,
) -> BoolArray | None:
    """The pixels of a window that an image's limit hides.

    Args:
        limit: the limit.
        reader: reads the mask.
        grid: the zone's grid.
        window: grid pixels.
        max_read_bytes: most of the mask to read at once.

    Returns:
        bool, shape (height, width); None: none of them.

    Raises:
        RasterError: if the mask cannot be read, or changed since it was opened.
    """
    hidden: BoolArray | None = None
    if limit.outline is not None:
        hidden = _outside(limit.outline, grid, window)
    if limit.cloud_mask is not None:
        cloudy = _cloudy(limit.cloud_mask, reader, grid, window, max_read_bytes)
        hidden = cloudy if hidden is None else hidden | cloudy
    return hidden if hidden is not None and hidden.any() else None


def _outside(outline: shapely.Polygon, grid: WorldGrid, window: PixelWindow) -> BoolArray:
    """Pixels whose centre lies outside an outline; exact predicates, block by block."""
    (pixels,) = outlines_to_pixels(grid, np.array([outline]))
    shapely.prepare(pixels)
    outside = np.ones((window.height, window.width), np.bool_)
    for row in range(window.row_off, window.row_end, BLOCK_PX):
        for col in range(window.col_off, window.col_end, BLOCK_PX):
            row_end, col_end = (
                min(row + BLOCK_PX, window.row_end),
                min(col + BLOCK_PX, window.col_end),
            )
            box = shapely.box(col, row, col_end, row_end)
            part = PixelWindow(col, row, col_end - col, row_end - row).within(window)
            if shapely.contains_properly(pixels, box):
                outside[part] = False
            elif shapely.intersects(pixels, box):
                x, y = np.meshgrid(np.arange(col, col_end) + 0.5, np.arange(row, row_end) + 0.5)
                outside[part] = ~shapely.intersects_xy(pixels, x, y)
    return outside


def _cloudy(
    mask: CloudMask,
    reader: ImageReader,
    grid: WorldGrid,
    window: PixelWindow,
    max_read_bytes: int,
) -> BoolArray:
    info = mask.info
    level = Level(
        overview=None,
        base_width=info.width,
        base_height=info.height,
        box_cols=1,
        box_rows=1,
        scale_col=1.0,
        scale_row=1.0,
    )
    block_map = map_blocks(info, level, grid, window)
    cloudy = np.zeros((window.height, window.width), np.uint8)
    max_px = max_read_bytes // np.dtype(info.dtype).itemsize
    chunks = list(plan_chunks(block_map, block_map.touches, max_px))
    for chunk in chunks:
        values, _ = reader.read(info, level, chunk.source)
        flags = np.isin(values[:, :, 0], mask.values).view(np.uint8)
        if flags.any():
            _mark(cloudy, window, block_map, chunk, flags)
    if chunks:
        # After the reads, as for the image: where all is cloudy nobody asks for the image itself.
        reader.check_unchanged(info)
    return cloudy.view(np.bool_)


def _mark(
    cloudy: Uint8Array, window: PixelWindow, block_map: BlockMap, chunk: Chunk, flags: Uint8Array
) -> None:
    blocks = block_map.window
    top = chunk.rows.start * BLOCK_PX + blocks.row_off - window.row_off
    left = chunk.cols.start * BLOCK_PX + blocks.col_off - window.col_off
    bottom = min(chunk.rows.stop * BLOCK_PX + blocks.row_off - window.row_off, window.height)
    right = min(chunk.cols.stop * BLOCK_PX + blocks.col_off - window.col_off, window.width)
    _mark_cells(
        flags,
        np.array([chunk.source.col_off, chunk.source.row_off]),
        block_map.x,
        block_map.y,
        block_map.cell_ok,
        np.array([window.col_off - blocks.col_off, window.row_off - blocks.row_off]),
        np.array([max(top, 0), bottom, max(left, 0), right]),
        cloudy,
    )


@numba.njit(cache=True, nogil=True)
def _mark_cells(
    flags: Uint8Array,
    source_off: Int64Array,
    node_x: Float64Array,
    node_y: Float64Array,
    cell_ok: BoolArray,
    node_off: Int64Array,
    area: Int64Array,
    cloudy: Uint8Array,
) -> Any:
    """Set the canvas's pixels whose centre lies in a flagged pixel of the mask.

    Positions are those of `geo.warp_kernel`: bilinear between nodes, in 1/2048 pixel.
    """
    one = np.int64(1) << _FRACTION_BITS
    height, width = flags.shape
    for row in range(area[0], area[1]):
        cell_row, in_row = divmod(row + node_off[1], NODE_STEP_PX)
        t_row = (in_row + 0.5) / NODE_STEP_PX
        for col in range(area[2], area[3]):
            cell_col, in_col = divmod(col + node_off[0], NODE_STEP_PX)
            if not cell_ok[cell_row, cell_col]:
                continue
            x0 = (1.0 - t_row) * node_x[cell_row, cell_col] + t_row * node_x[cell_row + 1, cell_col]
            x1 = (1.0 - t_row) * node_x[cell_row, cell_col + 1] + t_row * node_x[
                cell_row + 1, cell_col + 1
            ]
            y0 = (1.0 - t_row) * node_y[cell_row, cell_col] + t_row * node_y[cell_row + 1, cell_col]
            y1 = (1.0 - t_row) * node_y[cell_row, cell_col + 1] + t_row * node_y[
                cell_row + 1, cell_col + 1
            ]
            t = (in_col + 0.5) / NODE_STEP_PX
            fixed_x = np.int64(np.floor(((1.0 - t) * x0 + t * x1) * one + 0.5))
            fixed_y = np.int64(np.floor(((1.0 - t) * y0 + t * y1) * one + 0.5))
            # Pixel centres are whole numbers: half a pixel up, then cut off.
            source_col = ((fixed_x + (one >> 1)) >> _FRACTION_BITS) - source_off[0]
            source_row = ((fixed_y + (one >> 1)) >> _FRACTION_BITS) - source_off[1]
            if 0 <= source_col < width and 0 <= source_row < height:
                cloudy[row, col] |= flags[source_row, source_col]
