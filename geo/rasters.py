"""Reading of imagery onto the world grid: the only place where tiles get their pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
import shapely

from geo.errors import RasterError
from geo.grid import METRES_PER_DEGREE, WorldGrid, window_bounds_lonlat
from geo.image_levels import choose_level
from geo.image_limits import ImageLimit, hidden_pixels
from geo.image_profile import ImageProfile
from geo.image_reader import ImageReader
from geo.images import ImageInfo
from geo.pixel_window import PixelWindow
from geo.raster_config import RasterConfig as RasterConfig
from geo.source_pixels import read_level
from geo.warp import BLOCK_PX, BlockMap, Canvas, map_blocks, paint_chunk, plan_chunks

Uint8Array = npt.NDArray[np.uint8]
Uint16Array = npt.NDArray[np.uint16]
BoolArray = npt.NDArray[np.bool_]

MAX_IMAGES = 1 << 16
# What one read may hold, as stored in the file.
MAX_READ_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class ReadStats:
    """What reading a window took.

    Attributes:
        num_reads: reads of image windows.
        source_px: pixels read from files, at the overviews they came from.
        source_bytes: bytes of their values.
    """

    num_reads: int = 0
    source_px: int = 0
    source_bytes: int = 0

    def __add__(self, other: "ReadStats") -> "ReadStats":
        return ReadStats(
            num_reads=self.num_reads + other.num_reads,
            source_px=self.source_px + other.source_px,
            source_bytes=self.source_bytes + other.source_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class TileRaster:
    """Pixels of a window of the world grid.

    Attributes:
        window: the grid pixels.
        pixels: uint8, shape (bands, height, width); 0 where not valid.
        valid: bool, shape (height, width).
        image_index: position of each pixel's image in the reader's list, uint16, shape (height,
            width); 0 where not valid.
        stats: what reading took.
    """

    window: PixelWindow
    pixels: Uint8Array
    valid: BoolArray
    image_index: Uint16Array
    stats: ReadStats


class TileReader:
    """Reads windows of one zone's grid from a list of images.

    What a pixel becomes depends on the images' versions, the grid and the configuration, never on
    the window. Datasets stay open between reads, for each thread its own; `close` closes them.
    """

    def __init__(
        self,
        images: Sequence[ImageInfo],
        profiles: Sequence[ImageProfile],
        grid: WorldGrid,
        config: RasterConfig,
        *,
        limits: Sequence[ImageLimit] | None = None,
        max_read_bytes: int = MAX_READ_BYTES,
        reader: ImageReader | None = None,
    ) -> None:
        """A reader.

        Args:
            images: the images, in the order of precedence for `mosaic: first`.
            profiles: one each, of the same version.
            grid: the zone's grid.
            config: how to read.
            limits: where each image may be used; None: all of them everywhere.
            max_read_bytes: most to read from a file at once; changes memory, never pixels.
            reader: reads the files, and stays open for the next tile; None: one of its own.

        Raises:
            RasterError: if profiles do not belong to the images, or the images' bands differ.
        """
        _check_images(images, profiles, limits)
        self.images = tuple(images)
        self.profiles = tuple(profiles)
        self.grid = grid
        self.config = config
        self.limits = tuple(limits or (ImageLimit() for _ in images))
        self.max_read_bytes = max_read_bytes
        self._levels = [choose_level(info, grid.gsd_m) for info in images]
        self._order = mosaic_order(images, config)
        self._reader = reader or ImageReader()
        self._is_own = reader is None

    def __enter__(self) -> "TileReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every dataset of this process, unless the reader was given."""
        if self._is_own:
            self._reader.close()

    def read(self, window: PixelWindow) -> TileRaster:
        """One mosaic of all images: each pixel from the first image that is valid there.

        The order is the list's, or by date with the latest first (`mosaic: latest`). Later images
        are read only where earlier ones left a block of pixels incomplete.

        Raises:
            RasterError: if an image cannot be read.
        """
        canvas, stats = self._blank(window), ReadStats()
        for index in self._order:
            stats += self._paint(canvas, index)
            if canvas.valid.all():
                break
        return _finished(canvas, stats)

    def read_layers(self, window: PixelWindow) -> Iterator[TileRaster]:
        """Each image with a valid pixel by itself, in the order of precedence.

        Raises:
            RasterError: if an image cannot be read.
        """
        for index in self._order:
            canvas = self._blank(window)
            stats = self._paint(canvas, index)
            if canvas.valid.any():
                yield _finished(canvas, stats)

    def _blank(self, window: PixelWindow) -> Canvas:
        return Canvas.blank(window, len(self.images[0].bands) if self.images else 0)

    def _paint(self, canvas: Canvas, index: int) -> ReadStats:
        """Paint one image where the canvas is still blank and the image may be used."""
        if not covers(self.images[index], self.grid, canvas.window):
            return ReadStats()
        hidden = hidden_pixels(
            self.limits[index], self._reader, self.grid, canvas.window, self.max_read_bytes
        )
        if hidden is None:
            return self._paint_blank(canvas, index)
        # What is hidden passes for painted meanwhile: blocks without more are not even read.
        hidden &= canvas.valid == 0
        canvas.valid[hidden] = 1
        stats = self._paint_blank(canvas, index)
        canvas.valid[hidden] = 0
        return stats

    def _paint_blank(self, canvas: Canvas, index: int) -> ReadStats:
        info, level, stats = self.images[index], self._levels[index], ReadStats()
        block_map = map_blocks(info, level, self.grid, canvas.window)
        needed = _incomplete_blocks(canvas, block_map)
        pixel_bytes = len(info.bands) * np.dtype(info.dtype).itemsize
        box = level.box_cols * level.box_rows
        profile = self.profiles[index]
        for chunk in plan_chunks(block_map, needed, self.max_read_bytes // (pixel_bytes * box)):
            pixels, valid = read_level(
                self._reader,
                info,
                level,
                chunk.source,
                fill=profile.fill,
                scaling=profile.scaling,
            )
            paint_chunk(canvas, block_map, chunk, pixels, valid, index)
            # Else they would stay until the next chunk is read.
            del pixels, valid
            source_px = chunk.source.width * chunk.source.height * box
            stats += ReadStats(
                num_reads=1, source_px=source_px, source_bytes=source_px * pixel_bytes
            )
        if stats.num_reads:
            # After the reads: whatever was read before, from caches too, is of this version.
            self._reader.check_unchanged(info)
        return stats


def mosaic_order(images: Sequence[ImageInfo], config: RasterConfig) -> list[int]:
    """Positions of the images in the order of precedence.

    With `mosaic: latest` the newest comes first, those without a date last, ties in the list's
    order; else it is the list's order.
    """
    order = list(range(len(images)))
    if config.mosaic == "latest":
        order.sort(key=lambda i: -date.toordinal() if (date := images[i].date) else 0)
    return order


def covers(info: ImageInfo, grid: WorldGrid, window: PixelWindow) -> bool:
    """Whether an image may have a pixel in a window; True in doubt.

    Args:
        info: the image.
        grid: the zone's grid.
        window: grid pixels.
    """
    outline = window_bounds_lonlat(grid, window)
    if not np.isfinite(outline).all():
        return True
    footprint = np.asarray(info.footprint)
    outline[:, 0] += 360.0 * np.round((footprint[0, 0] - outline[0, 0]) / 360.0)
    # Outlines are drawn with straight edges between points on the curve: leave room for the bend.
    latitude = min(np.abs(footprint[:, 1]).max(), 89.0)
    bend = 1e-3 * max(np.ptp(footprint, axis=0).max(), np.ptp(outline, axis=0).max())
    reach = bend + 2 * max(grid.gsd_m, info.gsd_m) / METRES_PER_DEGREE / np.cos(
        np.radians(latitude)
    )
    gap = np.maximum(
        footprint.min(axis=0) - outline.max(axis=0), outline.min(axis=0) - footprint.max(axis=0)
    )
    if gap.max() > reach:
        return False
    return bool(shapely.dwithin(shapely.Polygon(footprint), shapely.Polygon(outline), reach))


def _check_images(
    images: Sequence[ImageInfo],
    profiles: Sequence[ImageProfile],
    limits: Sequence[ImageLimit] | None,
) -> None:
    if len(images) > MAX_IMAGES:
        raise RasterError(f"{len(images)} images are more than {MAX_IMAGES}; build a VRT of them")
    if len(images) != len(profiles):
        raise RasterError(f"{len(images)} images, but {len(profiles)} profiles")
    if limits is not None and len(images) != len(limits):
        raise RasterError(f"{len(images)} images, but {len(limits)} limits")
    for info, profile in zip(images, profiles, strict=True):
        if profile.version != info.version:
            raise RasterError(
                f"the profile of image {info.path} belongs to another version of it; make it again"
            )
        if len(info.bands) != len(images[0].bands):
            raise RasterError(
                f"image {info.path} is read with {len(info.bands)} bands, {images[0].path} with "
                f"{len(images[0].bands)}"
            )


def _incomplete_blocks(canvas: Canvas, block_map: BlockMap) -> BoolArray:
    """Which blocks of the map hold a blank pixel of the canvas."""
    blocks, window = block_map.window, canvas.window
    if not canvas.valid.any():
        return np.ones((blocks.height // BLOCK_PX, blocks.width // BLOCK_PX), np.bool_)
    row_starts = np.arange(blocks.row_off, blocks.row_end, BLOCK_PX) - window.row_off
    col_starts = np.arange(blocks.col_off, blocks.col_end, BLOCK_PX) - window.col_off
    rows = np.minimum.reduceat(canvas.valid, np.maximum(row_starts, 0), axis=0)
    return np.asarray(np.minimum.reduceat(rows, np.maximum(col_starts, 0), axis=1) == 0)


def _finished(canvas: Canvas, stats: ReadStats) -> TileRaster:
    return TileRaster(
        window=canvas.window,
        pixels=canvas.pixels,
        valid=canvas.valid.view(np.bool_),
        image_index=canvas.image_index,
        stats=stats,
    )
