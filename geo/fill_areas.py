"""Fill: even areas of one colour that stand for missing data, found once per image.

An image often carries its missing parts as plain black or white, without saying so. Whether a
white pixel is fill or a roof cannot be told in a tile; the whole image is looked at once, coarsely,
and the areas found are stored. A pixel is fill when it has the colour and lies in such an area.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numba
import numpy as np
import numpy.typing as npt

from geo.image_levels import Level
from geo.images import ImageInfo
from geo.pixel_window import PixelWindow
from geo.raster_config import RasterConfig

Uint8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

# JPEG with halved colour resolution works on blocks of 16 pixels; near an edge white deviates by 27
# (tolerance 8) within them, on the real scene with holes.
_RINGING = 4.0
_RINGING_CELLS = 16


@dataclass(frozen=True, kw_only=True)
class FillAreas:
    """Where an image may have fill, in cells of a coarse level.

    Attributes:
        colours: fill colours as stored values, float64, shape (num_colours, bands).
        tolerance: how far each band may be from them.
        grow_px: pixels around fill that are not used either.
        packed: one bit per cell and colour, areas grown by one cell, uint8, shape (num_colours,
            num_rows, ceil(num_cols / 8)).
        num_cols: columns of cells.
        cell_cols: columns of the image per cell.
        cell_rows: rows of the image per cell.
    """

    colours: Float64Array
    tolerance: float
    grow_px: int
    packed: Uint8Array
    num_cols: int
    cell_cols: float
    cell_rows: float

    def has_any(self, info: ImageInfo, level: Level, base: PixelWindow) -> bool:
        """Whether `near` finds anything.

        Args:
            info: the image.
            level: its overview is meant, boxes are ignored.
            base: pixels of the overview.
        """
        rows, cols = self._cells_around(info, level, base)
        return bool(self._packed_part(rows, cols).any())

    def near(
        self, info: ImageInfo, level: Level, base: PixelWindow
    ) -> list[tuple[int, Uint8Array]]:
        """The areas in a window and `grow_px` around it; colours without any are left out.

        Args:
            info: the image.
            level: its overview is meant, boxes are ignored.
            base: pixels of the overview.

        Returns:
            (index of the colour, 1 where a pixel lies in its area: uint8, (height, width)).
        """
        rows, cols = self._cells_around(info, level, base)
        inside_rows = rows[self.grow_px : self.grow_px + base.height] - rows[0]
        inside_cols = cols[self.grow_px : self.grow_px + base.width] - cols[0] // 8 * 8
        found = []
        for index, part in enumerate(self._packed_part(rows, cols)):
            if part.any():
                # Columns first: there are few rows of cells, and whole rows are cheap to repeat.
                bits = np.unpackbits(part, axis=1)[:, inside_cols]
                found.append((index, bits[inside_rows]))
        return found

    def _cells_around(
        self, info: ImageInfo, level: Level, base: PixelWindow
    ) -> tuple[Int64Array, Int64Array]:
        """Row and column of the cell under each row and column of a window and around it."""
        rows = _centres(base.row_off, base.row_end, self.grow_px, info.height / level.base_height)
        cols = _centres(base.col_off, base.col_end, self.grow_px, info.width / level.base_width)
        return (
            np.clip(rows / self.cell_rows, 0, self.packed.shape[1] - 1).astype(np.int64),
            np.clip(cols / self.cell_cols, 0, self.num_cols - 1).astype(np.int64),
        )

    def _packed_part(self, rows: Int64Array, cols: Int64Array) -> Uint8Array:
        return self.packed[:, rows[0] : rows[-1] + 1, cols[0] // 8 : cols[-1] // 8 + 1]


def _centres(start: int, end: int, grow_px: int, scale: float) -> "npt.NDArray[np.floating[Any]]":
    """Centres of pixels, those around included, in pixels of the image."""
    return (np.arange(start - grow_px, end + grow_px, dtype=np.float64) + 0.5) * scale


def fill_colours(info: ImageInfo, config: RasterConfig) -> tuple[Float64Array, float]:
    """The fill colours as values of the image's type, and their tolerance.

    Raises:
        ValueError: if a colour has another number of bands.
    """
    dtype, num_bands = np.dtype(info.dtype), len(info.bands)
    colours = []
    for colour in config.nodata_colours:
        if len(colour) != num_bands and len(set(colour)) > 1:
            raise ValueError(
                f"nodata_colours holds {colour}, but {num_bands} bands are read: {info.bands}"
            )
        full = np.asarray(colour if len(colour) == num_bands else colour[:1] * num_bands, float)
        if dtype == np.uint8:
            colours.append(full)
        elif dtype.kind in "iu":
            colours.append(np.round(full / 255.0 * np.iinfo(dtype).max))
        elif not full.any():
            colours.append(full)
    tolerance = float(config.nodata_tolerance) if dtype == np.uint8 else 0.0
    return np.array(colours, float).reshape(-1, num_bands), tolerance


def find_fill(
    info: ImageInfo,
    level: Level,
    windows: Iterator[tuple[PixelWindow, npt.NDArray[Any], Uint8Array | None]],
    config: RasterConfig,
) -> FillAreas:
    """Find the areas of an image that are fill.

    A cell is even when all of its pixels have the fill colour; 4-connected areas of even cells are
    fill when they are large, or touch the image's border and are not tiny. Around them, connected
    cells that are nearly even join: an overview that is stored as JPEG rings for a block's width.

    Args:
        info: the image.
        level: the coarse level; one of its pixels is a cell.
        windows: windows that cover the level; for each the values of its base pixels, shape
            (height * box_rows, width * box_cols, bands), and their validity or None.
        config: colours, tolerance and areas.
    """
    colours, tolerance = fill_colours(info, config)
    even = np.zeros((2, len(colours), level.height, level.width), np.uint8)
    for window, values, valid in windows:
        where = window.within(PixelWindow(0, 0, level.width, level.height))
        for index, colour in enumerate(colours):
            for strictness, limit in enumerate((tolerance, _RINGING * tolerance)):
                near = near_colour(values, colour, limit)
                if valid is not None:
                    near &= valid
                # Most windows hold no fill at all, and a look is far cheaper than the minima.
                if not near.any():
                    continue
                shape = (window.height, level.box_rows, window.width, level.box_cols)
                even[strictness, index][where] = near.reshape(shape).min(axis=(1, 3))
    cell_m2 = info.gsd_col_m * info.gsd_row_m * level.scale_col * level.scale_row
    areas = even[0]
    for index, nearly_even in enumerate(even[1]):
        seeds = _large_areas(areas[index], cell_m2, config)
        areas[index] = cv2.dilate(_join_around(seeds, nearly_even), np.ones((3, 3), np.uint8))
    return FillAreas(
        colours=colours,
        tolerance=tolerance,
        grow_px=config.nodata_grow_px,
        packed=np.packbits(areas, axis=2),
        num_cols=level.width,
        cell_cols=level.scale_col,
        cell_rows=level.scale_row,
    )


def _large_areas(even: Uint8Array, cell_m2: float, config: RasterConfig) -> Uint8Array:
    """1 in the areas that count as fill."""
    if not even.any():
        return even
    _, labels, stats, _ = cv2.connectedComponentsWithStats(even, connectivity=4)
    height, width = even.shape
    col, row = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    at_border = (col == 0) | (col + stats[:, cv2.CC_STAT_WIDTH] == width)
    at_border |= (row == 0) | (row + stats[:, cv2.CC_STAT_HEIGHT] == height)
    needed = np.where(at_border, config.nodata_border_area_m2, config.nodata_min_area_m2)
    keep = (stats[:, cv2.CC_STAT_AREA] * cell_m2 >= needed).astype(np.uint8)
    keep[0] = 0
    return np.asarray(keep[labels])


def _join_around(seeds: Uint8Array, nearly_even: Uint8Array) -> Uint8Array:
    """1 in the seeds and in nearly even cells that are connected to them within reach."""
    if not seeds.any():
        return seeds
    reach = np.ones((2 * _RINGING_CELLS + 1, 2 * _RINGING_CELLS + 1), np.uint8)
    candidates = (nearly_even & cv2.dilate(seeds, reach)) | seeds
    num, labels = cv2.connectedComponents(candidates, connectivity=4)
    keep = np.zeros(num, np.uint8)
    keep[labels[seeds > 0]] = 1
    return np.asarray(keep[labels])


@numba.njit(cache=True, nogil=True)
def near_colour(values: npt.NDArray[Any], colour: Float64Array, tolerance: float) -> Uint8Array:
    """1 where every band is within a tolerance of a colour.

    Args:
        values: any number type, shape (height, width, bands).
        colour: float64, shape (bands,).
        tolerance: largest difference.

    Returns:
        uint8, shape (height, width).
    """
    height, width, bands = values.shape
    near = np.empty((height, width), np.uint8)
    for row in range(height):
        for col in range(width):
            is_near = True
            for band in range(bands):
                if not abs(np.float64(values[row, col, band]) - colour[band]) <= tolerance:
                    is_near = False
                    break
            near[row, col] = is_near
    return near
