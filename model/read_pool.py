"""Pools of unlabelled images become places on the world grid.

The grid is the main job's, so that what `everyroof run` wrote falls on the same pixels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import shapely
from rasterio.errors import RasterioError

from geo.errors import GridError
from geo.grid import Tile, WorldGrid, gsd_to_mm, window_bounds_lonlat, zone_of_longitude
from geo.image_profile import profile_image
from geo.images import ImageInfo, open_image
from geo.pixel_window import PixelWindow
from geo.raster_config import RasterConfig
from geo.rasters import TileReader, covers
from geo.references import read_polygons
from model.burn_polygons import burn_area
from model.errors import SourceError
from model.places import BoolArray, Place, UInt8Array

_SOURCE = "pool"


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """How a pool is cut."""

    gsd_m: float = 0.3
    """Pixel size of its places; with probabilities theirs is taken."""
    place_px: int = 1024
    """Pixels per side."""
    min_valid_share: float = 0.5
    """Places with less image data are left out."""
    exclude_m: float = 30.0
    """How far around excluded polygons ground is left out, too."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 64 <= self.place_px <= 8192:
            raise ValueError(f"place_px = {self.place_px}; expected 64 to 8192")
        if not 0 <= self.min_valid_share <= 1:
            raise ValueError(f"min_valid_share = {self.min_valid_share}; expected 0 to 1")


def read_pool(
    images: Sequence[Path],
    options: PoolOptions,
    *,
    exclude: Sequence[Path] = (),
    probabilities: Path | None = None,
) -> Iterator[Place]:
    """Cut images into unlabelled places, one at a time.

    Args:
        images: of any size, CRS and pixel size; the first with a valid pixel wins.
        options: how.
        exclude: vector files; their polygons, such as the areas of validation places, are left out.
        probabilities: folder of the COGs of `everyroof run` with `outputs: [..., probability]`.

    Raises:
        GeoError: if a file cannot be read.
        SourceError: if nothing is left, or the folder holds no probabilities.
    """
    infos = [open_image(str(path)) for path in images]
    config = RasterConfig()
    profiles = [profile_image(info, config) for info in infos]
    num_places = 0
    windows = (
        _windows_of_images(infos, options)
        if probabilities is None
        else _windows_of_tiles(probabilities, options.place_px)
    )
    left_out = _union_lonlat(exclude)
    readers: dict[WorldGrid, TileReader] = {}
    for grid, window, tile in windows:
        reader = readers.setdefault(grid, TileReader(infos, profiles, grid, config))
        raster = reader.read(window)
        keep = raster.valid & ~_excluded(left_out, grid, window, options.exclude_m)
        if keep.mean() < options.min_valid_share:
            continue
        soft = None if tile is None else _read_probability(tile, window)
        yield _to_place(grid, window, raster.pixels, keep, soft)
        num_places += 1
    for reader in readers.values():
        reader.close()
    if num_places == 0:
        raise SourceError(
            f"no place of {options.place_px} px has image data on {options.min_valid_share:.0%} of "
            "its ground outside the excluded areas; are the images and the areas the right ones?"
        )


def _windows_of_images(
    infos: Sequence[ImageInfo], options: PoolOptions
) -> Iterator[tuple[WorldGrid, PixelWindow, None]]:
    """Windows of the grid that images may reach, each once, by rows."""
    gsd_mm, size = gsd_to_mm(options.gsd_m), options.place_px
    cells: set[tuple[int, int, int]] = set()
    for info in infos:
        lon, lat = np.asarray(info.footprint).T
        grid = WorldGrid(zone_of_longitude(float(lon.mean())), gsd_mm)
        cols, rows = grid.from_lonlat(lon, lat)
        for row in range(math.floor(rows.min() / size), math.ceil(rows.max() / size)):
            for col in range(math.floor(cols.min() / size), math.ceil(cols.max() / size)):
                if covers(info, grid, PixelWindow(col * size, row * size, size, size)):
                    cells.add((grid.zone, row, col))
    for zone, row, col in sorted(cells):
        yield WorldGrid(zone, gsd_mm), PixelWindow(col * size, row * size, size, size), None


def _windows_of_tiles(folder: Path, size: int) -> Iterator[tuple[WorldGrid, PixelWindow, Path]]:
    """Windows of the probability COGs in a folder; those at a far edge are smaller."""
    paths = sorted(folder.glob("*.tif"))
    if not paths:
        raise SourceError(
            f"{folder} holds no probabilities; run with `outputs: [footprints, probability]` and "
            "name the folder OUT/probability"
        )
    for path in paths:
        try:
            grid = Tile.parse(path.stem).grid
        except GridError as error:
            raise SourceError(f"{path} is no probability of `everyroof run`: {error}") from error
        whole = _window_of_file(path, grid)
        for row in range(whole.row_off, whole.row_end, size):
            for col in range(whole.col_off, whole.col_end, size):
                width, height = min(size, whole.col_end - col), min(size, whole.row_end - row)
                yield grid, PixelWindow(col, row, width, height), path


def _window_of_file(path: Path, grid: WorldGrid) -> PixelWindow:
    try:
        with rasterio.open(path) as file:
            col, row = ~grid.transform @ (file.transform.c, file.transform.f)
            return PixelWindow(round(col), round(row), file.width, file.height)
    except RasterioError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _read_probability(path: Path, window: PixelWindow) -> UInt8Array:
    """uint8, shape (height, width, 1)."""
    try:
        with rasterio.open(path) as file:
            whole = _window_of_file(path, Tile.parse(path.stem).grid)
            rows, cols = window.within(whole)
            part = rasterio.windows.Window.from_slices(rows, cols)
            return np.asarray(file.read([1], window=part)).transpose(1, 2, 0)
    except RasterioError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _union_lonlat(files: Sequence[Path]) -> shapely.Geometry:
    """The polygons of files as one area in degrees."""
    areas = [read_polygons(path, crs=pyproj.CRS.from_epsg(4326)).union() for path in files]
    return shapely.union_all(areas)


def _excluded(
    area: shapely.Geometry, grid: WorldGrid, window: PixelWindow, reach_m: float
) -> BoolArray:
    """Pixels of a window within reach of an area given in degrees."""
    shape = (window.height, window.width)
    # Cut out first: far from its zone the grid has no coordinates.
    nearby = window.expand(math.ceil(2 * reach_m / grid.gsd_m) + 1)
    part = shapely.intersection(area, shapely.Polygon(window_bounds_lonlat(grid, nearby)))
    if part.is_empty:
        return np.zeros(shape, np.bool_)
    in_pixels: Any = shapely.transform(
        part,
        lambda xy: (
            np.stack(grid.from_lonlat(xy[:, 0], xy[:, 1]), axis=1)
            - (window.col_off, window.row_off)
        ),
    )
    return burn_area(in_pixels.buffer(reach_m / grid.gsd_m), shape)


def _to_place(
    grid: WorldGrid,
    window: PixelWindow,
    pixels: UInt8Array,
    valid: BoolArray,
    soft: UInt8Array | None,
) -> Place:
    name = f"{_SOURCE}/z{grid.zone:02d}_r{window.row_off}_c{window.col_off}"
    shape = valid.shape
    image = np.ascontiguousarray(np.where(valid, pixels, np.uint8(0)).transpose(1, 2, 0))
    return Place(
        name=name,
        source=_SOURCE,
        category="unlabelled",
        region=name,
        split="pool",
        weight=1.0,
        gsd_m=grid.gsd_m,
        image=image,
        ids=np.zeros(shape, np.int32),
        known=np.zeros(shape, np.bool_),
        valid=valid,
        has_instances=False,
        soft=soft,
    )
