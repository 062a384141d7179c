"""How much work a run is: tiles, windows and bytes, counted on the world grid."""

import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np
import shapely

from geo.grid import gsd_to_mm
from geo.images import ImageInfo
from model.bundle import BundleMeta
from pipeline.cover import Cover
from pipeline.ground import ZoneGround, area_km2, count_ground
from pipeline.spec import JobSpec, TileKey

BITS_PER_PX = {"jpeg": 2.2, "webp": 1.8, "zstd": 17.9, "deflate": 18.2, "lzw": 21.3, "raw": 24.0}
"""Bits a pixel of 8 bit RGB COGs, by GDAL's name of the compression, at its default quality:
measured on an aerial image of Banepa resampled to 0.5 m, without overviews."""
MAX_CELLS_COUNTED = 32
"""Planning cells (16 x 16 tiles) whose tiles are listed for an estimate."""
BLOCK_PX = 512
"""Pixels per side of a block, as COGs have them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to do, counted.

    Attributes:
        num_tiles: tiles planned.
        num_windows: windows that go through the network at most.
        gsd_m: pixel size of the world grid.
        tile_px: pixels per side of a tile.
        core_px: pixels per side of a window's core.
        margin_px: its margin.
        overlap_m: how far zones reach into their neighbours.
        num_source_px: pixels to read, at the resolution they are read at, each once.
        bits_per_px: of what is read.
        bits_from: where that comes from.
        images_per_tile: images that an average tile meets.
        source_px_per_px: length of a grid pixel in pixels of the images as they are read.
        num_images: images that can be used; None where a plan has none.
        image_px: pixels of the images at full resolution.
        area_km2: the area of interest; None without one.
        zones: tiles and windows per zone; empty where images decide.
        counted_share: of the ground; below 1 tiles and windows are extrapolated.
    """

    num_tiles: int
    num_windows: int
    gsd_m: float
    tile_px: int
    core_px: int
    margin_px: int
    overlap_m: float
    num_source_px: float
    bits_per_px: float
    bits_from: str
    images_per_tile: float
    source_px_per_px: float
    num_images: int | None = None
    image_px: int = 0
    area_km2: float | None = None
    zones: tuple[ZoneGround, ...] = ()
    counted_share: float = 1.0

    @property
    def ground_km2(self) -> float:
        """Ground of all windows, zones' overlaps counted twice."""
        return self.num_windows * (self.core_px * self.gsd_m / 1000.0) ** 2

    @property
    def read_px_per_px(self) -> float:
        """How much of a tile's images is decoded: margins, and whole blocks at the edge."""
        inner = self.tile_px * self.source_px_per_px
        margin = 2 * self.margin_px * self.source_px_per_px
        return ((inner + margin + BLOCK_PX) / inner) ** 2

    @property
    def read_bytes(self) -> float:
        """Bytes to read."""
        return self.num_source_px * self.read_px_per_px * self.bits_per_px / 8

    @property
    def num_requests(self) -> float:
        """Range requests: two for the header, one for each row of blocks."""
        side = (self.tile_px + 2 * self.margin_px) * self.source_px_per_px
        return self.num_tiles * self.images_per_tile * (3 + side / BLOCK_PX)


def count_area(
    area: shapely.Geometry,
    bundle: BundleMeta,
    *,
    gsd_m: float | None = None,
    tile_px: int = 4096,
    max_building_m: float = 1000.0,
    margin_m: float = 100.0,
    compression: str = "jpeg",
    source_gsd_m: float | None = None,
    images_per_place: float = 1.0,
) -> Work:
    """The work of an area that imagery covers as a whole, without any image at hand.

    Args:
        area: polygons in degrees.
        bundle: the network's facts: pixel size, windows.
        gsd_m: pixel size of the grid; the bundle's if None.
        tile_px: pixels per side of a tile.
        max_building_m: largest building, by which zones overlap.
        margin_m: how far beyond the area is segmented.
        compression: a key of `BITS_PER_PX`.
        source_gsd_m: pixel size that images are read at; the grid's if None.
        images_per_place: images over each place.

    Raises:
        ValueError: if tiles are not a whole number of windows.
        GridError: if the area is empty or leaves the world grid.
    """
    gsd_m = gsd_m or bundle.gsd_m
    if tile_px % bundle.window_px:
        raise ValueError(f"tile_px = {tile_px}; expected a whole number of {bundle.window_px} px")
    zones = count_ground(
        area,
        gsd_mm=gsd_to_mm(gsd_m),
        tile_px=tile_px,
        core_px=bundle.window_px,
        overlap_m=max_building_m,
        margin_m=margin_m,
    )
    num_windows = sum(zone.num_windows for zone in zones)
    finer = gsd_m / (source_gsd_m or gsd_m)
    return Work(
        num_tiles=sum(zone.num_tiles for zone in zones),
        num_windows=num_windows,
        gsd_m=gsd_m,
        tile_px=tile_px,
        core_px=bundle.window_px,
        margin_px=bundle.margin_px,
        overlap_m=max_building_m,
        num_source_px=num_windows * (bundle.window_px * finer) ** 2 * images_per_place,
        bits_per_px=BITS_PER_PX[compression],
        bits_from=f"{compression} COG, measured at 0.5 m",
        images_per_tile=images_per_place,
        source_px_per_px=finer,
        area_km2=area_km2(area),
        zones=tuple(zones),
    )


def count_job(spec: JobSpec) -> Work:
    """The work of a job with images: the tiles and windows that a run would plan.

    A job of more than `MAX_CELLS_COUNTED` planning cells is counted in that many of them, evenly
    chosen, and extrapolated: millions of tiles take minutes to list, which the workers share.
    """
    cover = Cover(spec)
    cells = cover.plan_cells()
    counted = _spread_evenly(cells, MAX_CELLS_COUNTED)
    tiles, windows, met = np.sum([_count_cell(spec, cover, cell) for cell in counted], axis=0)
    share = len(counted) / len(cells)
    num_tiles, num_windows, num_met = round(tiles / share), round(windows / share), met / share
    source = _count_source(spec, num_windows * spec.core_px**2 * num_met / max(num_tiles, 1))
    return Work(
        num_tiles=num_tiles,
        num_windows=num_windows,
        gsd_m=spec.gsd_m,
        tile_px=spec.tile_px,
        core_px=spec.core_px,
        margin_px=spec.margin_px,
        overlap_m=spec.config.grid.max_building_m,
        num_source_px=source.num_px,
        bits_per_px=source.bits_per_px or BITS_PER_PX["jpeg"],
        bits_from="the files' size" if source.bits_per_px else "jpeg COG, measured at 0.5 m",
        images_per_tile=num_met / max(num_tiles, 1),
        source_px_per_px=source.px_per_px,
        num_images=len(spec.images),
        image_px=spec.images.num_px,
        area_km2=area_km2(shapely.from_wkb(spec.aoi_wkb)) if spec.aoi_wkb else None,
        counted_share=share,
    )


def _spread_evenly(cells: Sequence[TileKey], number: int) -> list[TileKey]:
    if len(cells) <= number:
        return list(cells)
    return [cells[(2 * index + 1) * len(cells) // (2 * number)] for index in range(number)]


def _count_cell(spec: JobSpec, cover: Cover, cell: TileKey) -> tuple[int, int, int]:
    """Tiles, windows, and images met by all tiles of a planning cell."""
    num_tiles = num_windows = num_met = 0
    for tile in cover.tiles_in(cell):
        num_tiles += 1
        num_windows += int(np.count_nonzero(cover.core_mask(tile)))
        num_met += len(cover.images_of(tile.zone, tile.window.expand(spec.margin_px)))
    return num_tiles, num_windows, num_met


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """What a job's images hold: pixels to read, bits of one (0 unknown), pixels per grid pixel."""

    num_px: float
    bits_per_px: float
    px_per_px: float


def _count_source(spec: JobSpec, num_ground_px: float) -> _Source:
    """Sum over the images; where a catalogue's were not opened, their ground at the grid's GSD."""
    infos = [image.info for image in spec.images if image.info is not None]
    if len(infos) < len(spec.images):
        return _Source(num_px=num_ground_px, bits_per_px=0.0, px_per_px=1.0)
    read_px = sum(_pixels_at(info, spec.gsd_m) for info in infos)
    area_m2 = sum(info.width * info.height * info.gsd_m**2 for info in infos)
    return _Source(
        num_px=read_px,
        bits_per_px=8 * sum(map(_bytes_of, infos)) / max(spec.images.num_px, 1),
        px_per_px=spec.gsd_m / math.sqrt(area_m2 / max(read_px, 1)),
    )


def _pixels_at(image: ImageInfo, gsd_m: float) -> int:
    """Pixels of the coarsest level that is not coarser than the grid."""
    sizes = [(image.width, image.height), *image.overview_sizes]
    fine = [w * h for w, h in sizes if image.gsd_m * image.width / w <= gsd_m * 1.01]
    return min(fine, default=image.width * image.height)


def _bytes_of(image: ImageInfo) -> int:
    """Size of a local file, of which overviews are a quarter; 0 for anything else."""
    try:
        size = os.stat(image.path).st_size
    except OSError:
        return 0
    return round(size * 0.75) if image.overview_sizes else size
