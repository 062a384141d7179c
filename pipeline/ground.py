"""How many tiles and windows an area takes on the world grid, counted without listing them.

Squares of tiles are halved where the edge of the area or of a zone runs through them; what lies
inside as a whole is counted at once. So a continent of millions of tiles takes seconds, and the
numbers are those of a run whose images cover the area: zones overlap, and tiles at an edge count.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from geo.errors import GridError
from geo.grid import (
    METRES_PER_DEGREE,
    NUM_ZONES,
    WorldGrid,
    check_latitudes,
    squares_in_zone,
    unwrap_longitude,
)
from geo.pixel_window import PixelWindow

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

_LARGEST_SQUARE = 256
"""Tiles per side of the squares to begin with: a power of two."""
_MAX_ZONE_REACH_DEG = 12.0
_EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneGround:
    """What an area takes in one zone.

    Attributes:
        zone: UTM zone.
        num_tiles: tiles that hold ground of the area.
        num_windows: cores of windows in them that do.
    """

    zone: int
    num_tiles: int
    num_windows: int


def count_ground(
    area: shapely.Geometry,
    *,
    gsd_mm: int,
    tile_px: int,
    core_px: int,
    overlap_m: float,
    margin_m: float = 0.0,
) -> list[ZoneGround]:
    """Count the tiles and windows that an area takes.

    Args:
        area: polygons in degrees.
        gsd_mm: pixel size in millimetres.
        tile_px: pixels per side of a tile, a whole number of cores.
        core_px: pixels per side of a window's core.
        overlap_m: how far zones reach into their neighbours (`grid.max_building_m`).
        margin_m: how far beyond the area is segmented (`grid.aoi_margin_m`).

    Returns:
        One entry for each zone that holds some of it, by zone.

    Raises:
        GridError: if the area is empty or leaves the world grid.
    """
    if area.is_empty or not area.area:
        raise GridError("the area holds nothing; expected polygons in degrees")
    _, south, _, north = area.bounds
    check_latitudes(south, north, "the area")
    grounds = []
    for zone in range(1, NUM_ZONES + 1):
        grid = WorldGrid(zone, gsd_mm)
        pixels = area_in_zone(area, grid, overlap_m + margin_m, margin_m)
        if not pixels.is_empty:
            tiles, windows = _count_in_zone(pixels, grid, tile_px, core_px, overlap_m)
            if tiles:
                grounds.append(ZoneGround(zone=zone, num_tiles=tiles, num_windows=windows))
    return grounds


def ground_squares(
    area: shapely.Geometry, *, gsd_mm: int, size_px: int, overlap_m: float
) -> list[tuple[WorldGrid, PixelWindow]]:
    """Squares of the grid that meet an area, as a picture shows them; a few beyond zones' edges.

    Args:
        area: polygons in degrees.
        gsd_mm: pixel size in millimetres.
        size_px: pixels per side.
        overlap_m: how far zones reach into their neighbours.
    """
    squares = []
    for zone in range(1, NUM_ZONES + 1):
        grid = WorldGrid(zone, gsd_mm)
        pixels = area_in_zone(area, grid, overlap_m, 0.0)
        if pixels.is_empty:
            continue
        cols, rows = _squares_over(pixels, size_px)
        meets, _ = _classify(pixels, grid, cols, rows, size_px, overlap_m)
        places = zip(cols[meets].tolist(), rows[meets].tolist(), strict=True)
        squares += [(grid, PixelWindow(col, row, size_px, size_px)) for col, row in places]
    return squares


def area_in_zone(
    area: shapely.Geometry, grid: WorldGrid, reach_m: float, margin_m: float
) -> shapely.Geometry:
    """The part of an area near a zone, with a margin, in the grid's pixels (col, row)."""
    middle = grid.central_meridian_deg
    _, south, _, north = area.bounds
    widest = min(max(abs(south), abs(north)), 84.0)
    reach_deg = 3.0 + 2.0 * reach_m / (METRES_PER_DEGREE * np.cos(np.radians(widest)))
    reach_deg = min(reach_deg + 0.1, _MAX_ZONE_REACH_DEG)
    near = shapely.box(middle - reach_deg, -80.5, middle + reach_deg, 84.5)
    turned = [
        shapely.intersection(shapely.transform(area, lambda c, s=shift: c + np.array([s, 0])), near)
        for shift in (-360.0, 0.0, 360.0)
    ]
    local = shapely.segmentize(shapely.union_all(turned), 0.05)

    def project(coords: Float64Array) -> Float64Array:
        lon = unwrap_longitude(coords[:, 0], middle)
        return np.stack(grid.from_lonlat(lon, coords[:, 1]), axis=1)

    pixels = shapely.transform(local, project)
    return pixels.buffer(margin_m / grid.gsd_m) if margin_m else pixels


def _count_in_zone(
    area: shapely.Geometry, grid: WorldGrid, tile_px: int, core_px: int, overlap_m: float
) -> tuple[int, int]:
    """Tiles and windows of one zone; the area in its pixels."""
    shapely.prepare(area)
    size = tile_px * _LARGEST_SQUARE
    cols, rows = _squares_over(area, size)
    num_tiles = num_windows = 0
    cores_per_tile = (tile_px // core_px) ** 2
    while len(cols):
        meets, is_inside = _classify(area, grid, cols, rows, size, overlap_m)
        tiles_inside = int(np.count_nonzero(is_inside)) * (size // tile_px) ** 2
        num_tiles += tiles_inside
        num_windows += tiles_inside * cores_per_tile
        cols, rows = cols[meets & ~is_inside], rows[meets & ~is_inside]
        if size == tile_px:
            break
        size //= 2
        cols, rows = _divided(cols, rows, size, 2)
    tiles, windows = _count_cores(area, grid, cols, rows, tile_px, core_px, overlap_m)
    return num_tiles + tiles, num_windows + windows


def _squares_over(area: shapely.Geometry, size: int) -> tuple[Int64Array, Int64Array]:
    """First columns and rows of the squares over the bounds of an area in pixels."""
    west, north, east, south = np.floor(np.array(area.bounds) / size).astype(np.int64)
    cols, rows = np.meshgrid(np.arange(west, east + 1) * size, np.arange(north, south + 1) * size)
    return cols.ravel(), rows.ravel()


def _classify(
    area: shapely.Geometry,
    grid: WorldGrid,
    cols: Int64Array,
    rows: Int64Array,
    size: int,
    overlap_m: float,
) -> tuple[BoolArray, BoolArray]:
    """Which squares may hold ground of the area and zone, and which are ground as a whole.

    No square crosses the equator, so that its corners have the extremes of its longitudes: in each
    hemisphere the meridians bend one way.
    """
    lon, lat = grid.to_lonlat(
        np.stack([cols, cols + size, cols, cols + size]),
        np.stack([rows, rows, rows + size, rows + size]),
    )
    offset = unwrap_longitude(lon, grid.central_meridian_deg) - grid.central_meridian_deg
    lat_max = np.abs(lat).max(axis=0)
    # Beyond 84.5 degrees no core belongs to the grid, nor needs a wider reach.
    scale = METRES_PER_DEGREE * np.cos(np.radians(np.minimum(lat_max, 84.5)))
    reach = 3.0 + overlap_m / scale
    is_beyond = (offset.min(axis=0) > reach) | (offset.max(axis=0) < -reach)
    boxes = shapely.box(cols, rows, cols + size, rows + size)
    meets = ~is_beyond & shapely.intersects(area, boxes)
    is_inside = meets & (np.abs(offset).max(axis=0) < 3.0) & (lat_max < 84.0)
    is_inside[is_inside] = shapely.contains_properly(area, boxes[is_inside])
    return meets, is_inside


def _divided(
    cols: Int64Array, rows: Int64Array, size: int, parts: int
) -> tuple[Int64Array, Int64Array]:
    """Each square as parts x parts squares of `size` pixels, one square after the other."""
    down, right = np.divmod(np.arange(parts * parts), parts)
    return (
        (cols[:, None] + right * size).ravel(),
        (rows[:, None] + down * size).ravel(),
    )


def _count_cores(
    area: shapely.Geometry,
    grid: WorldGrid,
    cols: Int64Array,
    rows: Int64Array,
    tile_px: int,
    core_px: int,
    overlap_m: float,
) -> tuple[int, int]:
    """Tiles and windows among the tiles that an edge runs through."""
    per_side = tile_px // core_px
    num_tiles = num_windows = 0
    for start in range(0, len(cols), 20_000):
        some = slice(start, start + 20_000)
        left, top = _divided(cols[some], rows[some], core_px, per_side)
        is_ground = squares_in_zone(grid, left, top, core_px, overlap_m)
        left, top = left[is_ground], top[is_ground]
        boxes = shapely.box(left, top, left + core_px, top + core_px)
        is_ground[is_ground] = shapely.intersects(area, boxes)
        by_tile = is_ground.reshape(-1, per_side**2)
        num_tiles += int(np.count_nonzero(by_tile.any(axis=1)))
        num_windows += int(np.count_nonzero(by_tile))
    return num_tiles, num_windows


def area_km2(area: shapely.Geometry) -> float:
    """Area of polygons in degrees on the WGS 84 ellipsoid, in square kilometres."""
    geod = pyproj.Geod(ellps="WGS84")
    return abs(geod.geometry_area_perimeter(shapely.orient_polygons(area))[0]) / 1e6


def square_area(km2: float) -> shapely.Polygon:
    """A square of a given size on the equator, around the middle of UTM zone 36.

    Raises:
        GridError: if it does not fit on the grid.
    """
    if not 0 < km2 <= 200e6:
        raise GridError(f"an area of {km2:g} km2; expected more than 0 and at most 200 million")
    half_deg = np.degrees(np.sqrt(km2) / _EARTH_RADIUS_KM / 2)
    for _ in range(20):
        square = shapely.box(33.0 - half_deg, -half_deg, 33.0 + half_deg, half_deg)
        # Meridians draw nearer to each other: the larger the square, the more is missing.
        half_deg *= np.sqrt(km2 / area_km2(square))
    return square
