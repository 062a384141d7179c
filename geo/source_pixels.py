"""From what a file holds to 8 bit pixels with a valid mask, at a level and without any warping.

Every rule here is local to a source pixel (or to a fixed neighbourhood of it), so that the result
does not depend on the window that is read.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numba
import numpy as np
import numpy.typing as npt

from geo.fill_areas import FillAreas, near_colour
from geo.image_levels import Level
from geo.image_reader import ImageReader
from geo.images import ImageInfo
from geo.pixel_window import PixelWindow
from geo.value_scaling import ValueScaling

Uint8Array = npt.NDArray[np.uint8]
_STREAM_PX = 1024


def read_level(
    reader: ImageReader,
    info: ImageInfo,
    level: Level,
    window: PixelWindow,
    *,
    fill: FillAreas | None,
    scaling: ValueScaling | None,
) -> tuple[Uint8Array, Uint8Array | None]:
    """Pixels of a level.

    Args:
        reader: reads the files.
        info: the image.
        level: the level.
        window: pixels of the level, inside it.
        fill: where the image may have fill, None if nowhere.
        scaling: how values become 8 bit; None: they are.

    Returns:
        Pixels, uint8, shape (height, width, bands); and 1 where they are valid, uint8, shape
        (height, width), or None where all of them are.

    Raises:
        RasterError: if the image cannot be read.
    """
    base = PixelWindow(
        window.col_off * level.box_cols,
        window.row_off * level.box_rows,
        window.width * level.box_cols,
        window.height * level.box_rows,
    )
    values, valid = read_values(reader, info, level, base, fill)
    pixels = values if scaling is None else scaling.apply(values)
    if level.box_cols * level.box_rows == 1:
        return pixels, valid
    return box_means(pixels, valid, level.box_rows, level.box_cols)


def read_values(
    reader: ImageReader, info: ImageInfo, level: Level, base: PixelWindow, fill: FillAreas | None
) -> tuple[npt.NDArray[Any], Uint8Array | None]:
    """Values as stored, and where they are valid: masks, nodata, NaN and fill.

    Args:
        reader: reads the files.
        info: the image.
        level: its overview is read, boxes are ignored.
        base: pixels of the overview.
        fill: where the image may have fill, None if nowhere.

    Returns:
        As `ImageReader.read`.
    """
    if fill is None or not fill.has_any(info, level, base):
        values, valid = reader.read(info, level, base)
        return values, _without_nan(values, valid)
    halo = _clip(base.expand(fill.grow_px), level)
    values, valid = reader.read(info, level, halo)
    is_fill = np.zeros(values.shape[:2], np.uint8)
    for index, area in fill.near(info, level, halo):
        is_fill |= near_colour(values, fill.colours[index], fill.tolerance) & area
    size = 2 * fill.grow_px + 1
    # A border value of 0: what lies beyond the image is no fill that could grow into it.
    grown = cv2.dilate(
        is_fill, np.ones((size, size), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    valid = (1 - grown) if valid is None else valid & (1 - grown)
    valid = _without_nan(values, valid)
    inside = base.within(halo)
    assert valid is not None
    return values[inside], valid[inside]


def level_windows(info: ImageInfo, level: Level) -> Iterator[PixelWindow]:
    """Windows that cover a level once, of about a million base pixels, along the file's blocks.

    Args:
        info: the image.
        level: the level.
    """
    base_width = max(_STREAM_PX, info.block_size[0])
    base_height = max(_STREAM_PX * _STREAM_PX // base_width, 1)
    width = max(base_width // level.box_cols, 1)
    height = max(base_height // level.box_rows, 1)
    for row in range(0, level.height, height):
        for col in range(0, level.width, width):
            yield PixelWindow(
                col, row, min(width, level.width - col), min(height, level.height - row)
            )


def _clip(window: PixelWindow, level: Level) -> PixelWindow:
    col, row = max(window.col_off, 0), max(window.row_off, 0)
    col_end = min(window.col_end, level.base_width)
    return PixelWindow(col, row, col_end - col, min(window.row_end, level.base_height) - row)


def _without_nan(values: npt.NDArray[Any], valid: Uint8Array | None) -> Uint8Array | None:
    """Validity without the pixels that have a NaN or an infinity in any band."""
    if values.dtype.kind != "f":
        return valid
    finite = np.isfinite(values).all(axis=2).view(np.uint8)
    return finite if valid is None else valid & finite


def box_means(
    pixels: Uint8Array, valid: Uint8Array | None, box_rows: int, box_cols: int
) -> tuple[Uint8Array, Uint8Array | None]:
    """Exact means of boxes, rounded half up; a box is valid when all of its pixels are.

    Args:
        pixels: uint8, shape (rows * box_rows, cols * box_cols, bands).
        valid: uint8, shape (rows * box_rows, cols * box_cols), or None: all.
        box_rows: rows of a box.
        box_cols: columns of a box.
    """
    rows, cols = pixels.shape[0] // box_rows, pixels.shape[1] // box_cols
    means = np.empty((rows, cols, pixels.shape[2]), np.uint8)
    _box_means(np.ascontiguousarray(pixels), box_rows, box_cols, means)
    if valid is None:
        return means, None
    boxes = valid[: rows * box_rows, : cols * box_cols]
    return means, boxes.reshape(rows, box_rows, cols, box_cols).min(axis=(1, 3))


@numba.njit(cache=True, nogil=True)
def _box_means(pixels: Uint8Array, box_rows: int, box_cols: int, means: Uint8Array) -> None:
    rows, cols, bands = means.shape
    count = np.int64(box_rows * box_cols)
    sums = np.empty((cols, bands), np.int64)
    for row in range(rows):
        sums[:] = count // 2
        for y in range(row * box_rows, (row + 1) * box_rows):
            for col in range(cols):
                for x in range(col * box_cols, (col + 1) * box_cols):
                    for band in range(bands):
                        sums[col, band] += np.int64(pixels[y, x, band])
        for col in range(cols):
            for band in range(bands):
                means[row, col, band] = np.uint8(sums[col, band] // count)
