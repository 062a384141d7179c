"""The world grid: one pixel grid per UTM zone, the same for every image, tile size and engine.

Each zone's grid lies in its northern UTM CRS (EPSG:32601 to 32660) with negative northings south
of the equator. Pixel (row 0, col 0) has its upper left corner at easting 0, northing 0; rows grow
southwards, so that rows are negative in the northern hemisphere. A tile is a square of pixels, a
core the part of a network window that its probabilities are taken from; both are anchored to
(0, 0).
"""

import functools
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine

from geo.errors import GridError
from geo.pixel_window import PixelWindow

MIN_LATITUDE_DEG = -80.0
MAX_LATITUDE_DEG = 84.0
NUM_ZONES = 60
ZONE_WIDTH_DEG = 6.0
METRES_PER_DEGREE = 111_320.0

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_TILE_NAME = re.compile(r"z(\d{2})_g(\d+)mm_s(\d+)_r(-?\d+)_c(-?\d+)")


@dataclass(frozen=True, slots=True, order=True)
class WorldGrid:
    """The pixel grid of one UTM zone at one pixel size.

    Attributes:
        zone: UTM zone, 1 to 60.
        gsd_mm: pixel size in whole millimetres, so that names and hashes are exact.
    """

    zone: int
    gsd_mm: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.zone <= NUM_ZONES:
            raise GridError(f"UTM zone {self.zone} does not exist; zones run from 1 to 60")
        if not 10 <= self.gsd_mm <= 100_000:
            raise GridError(f"a pixel size of {self.gsd_mm} mm is outside 10 mm to 100 m")

    @property
    def gsd_m(self) -> float:
        """Pixel size in metres."""
        return self.gsd_mm / 1000.0

    @property
    def epsg(self) -> int:
        """EPSG code of the grid's CRS."""
        return 32600 + self.zone

    @property
    def crs(self) -> pyproj.CRS:
        """The grid's CRS: the zone's northern UTM CRS."""
        return pyproj.CRS.from_epsg(self.epsg)

    @property
    def transform(self) -> Affine:
        """Affine of the grid: (col, row) of a pixel corner to (easting, northing) in metres."""
        return Affine(self.gsd_m, 0.0, 0.0, 0.0, -self.gsd_m, 0.0)

    @property
    def central_meridian_deg(self) -> float:
        """Longitude of the zone's middle."""
        return -183.0 + ZONE_WIDTH_DEG * self.zone

    def to_lonlat(
        self, cols: npt.ArrayLike, rows: npt.ArrayLike
    ) -> tuple[Float64Array, Float64Array]:
        """Longitude and latitude (degrees, WGS 84) of pixel corners; floats allowed."""
        x = np.asarray(cols, np.float64) * self.gsd_m
        y = np.asarray(rows, np.float64) * -self.gsd_m
        lon, lat = zone_to_lonlat(self.zone).transform(x, y)
        return np.asarray(lon), np.asarray(lat)

    def from_lonlat(
        self, lon_deg: npt.ArrayLike, lat_deg: npt.ArrayLike
    ) -> tuple[Float64Array, Float64Array]:
        """Fractional (cols, rows) of points given in degrees."""
        transformer = zone_to_lonlat(self.zone)
        x, y = transformer.transform(lon_deg, lat_deg, direction="INVERSE")
        return np.asarray(x) / self.gsd_m, np.asarray(y) / -self.gsd_m


@functools.cache
def zone_to_lonlat(zone: int) -> pyproj.Transformer:
    """Transformer from a zone's CRS to longitude and latitude; one per zone and process."""
    return pyproj.Transformer.from_crs(32600 + zone, 4326, always_xy=True)


def gsd_to_mm(gsd_m: float) -> int:
    """Pixel size in whole millimetres.

    Raises:
        GridError: if it is not a whole number of millimetres.
    """
    gsd_mm = round(gsd_m * 1000)
    if not np.isclose(gsd_m * 1000, gsd_mm, rtol=0, atol=1e-6):
        raise GridError(
            f"gsd_m = {gsd_m} is not a whole number of millimetres; try {gsd_mm / 1000}"
        )
    return gsd_mm


def zone_of_longitude(lon_deg: float) -> int:
    """UTM zone of a longitude; plain 6 degree zones, without the exceptions of Norway."""
    return int(np.floor((lon_deg + 180.0) % 360.0 / ZONE_WIDTH_DEG)) + 1


def zones_of_bounds(west_deg: float, east_deg: float, overlap_deg: float = 0.0) -> list[int]:
    """Zones that a range of longitudes meets, from west to east.

    Args:
        west_deg: western end.
        east_deg: eastern end; below `west_deg` where the range crosses the antimeridian.
        overlap_deg: how far the zones reach beyond their own six degrees.
    """
    if east_deg < west_deg:
        east_deg += 360.0
    first = int(np.floor((west_deg - overlap_deg + 180.0) / ZONE_WIDTH_DEG))
    last = int(np.floor((east_deg + overlap_deg + 180.0) / ZONE_WIDTH_DEG))
    last = min(last, first + NUM_ZONES - 1)
    return [index % NUM_ZONES + 1 for index in range(first, last + 1)]


def check_latitudes(south_deg: float, north_deg: float, what: str) -> None:
    """Refuse places beyond the UTM zones.

    Raises:
        GridError: beyond 84 degrees north or 80 degrees south.
    """
    if south_deg < MIN_LATITUDE_DEG or north_deg > MAX_LATITUDE_DEG:
        raise GridError(
            f"{what} reaches from latitude {south_deg:.4f} to {north_deg:.4f}; the world grid "
            f"holds {MIN_LATITUDE_DEG:.0f} to {MAX_LATITUDE_DEG:.0f} degrees (UTM). Crop it first"
        )


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A square of the world grid: the unit of reading, work, retry and resume.

    Attributes:
        zone: UTM zone.
        gsd_mm: pixel size in millimetres.
        size_px: pixels per side.
        row: tile row; rows grow southwards, negative in the northern hemisphere.
        col: tile column.
    """

    zone: int
    gsd_mm: int
    size_px: int
    row: int
    col: int

    @property
    def name(self) -> str:
        """A name that carries everything: zone, pixel size, tile size, row and column."""
        return f"z{self.zone:02d}_g{self.gsd_mm}mm_s{self.size_px}_r{self.row}_c{self.col}"

    @classmethod
    def parse(cls, name: str) -> "Tile":
        """The tile of a name.

        Raises:
            GridError: if the text is no tile name.
        """
        match = _TILE_NAME.fullmatch(name)
        if match is None:
            raise GridError(
                f"{name!r} is no tile name; expected one like z36_g300mm_s4096_r-28_c370"
            )
        return cls(*(int(part) for part in match.groups()))

    @property
    def grid(self) -> WorldGrid:
        """The grid that the tile belongs to."""
        return WorldGrid(self.zone, self.gsd_mm)

    @property
    def window(self) -> PixelWindow:
        """The tile's pixels."""
        size = self.size_px
        return PixelWindow(self.col * size, self.row * size, size, size)


def window_bounds_lonlat(grid: WorldGrid, window: PixelWindow, num_steps: int = 8) -> Float64Array:
    """The outline of a window in degrees, closed, densified; longitudes are not wrapped apart.

    Longitudes stay within 180 degrees of the zone's central meridian, so that a window that crosses
    the antimeridian has an outline without a jump (values beyond 180 occur).

    Returns:
        float64, shape (4 * num_steps + 1, 2), counter-clockwise with north upwards.
    """
    t = np.arange(num_steps) / num_steps
    zero, one = np.zeros(num_steps), np.ones(num_steps)
    u = np.concatenate([zero, t, one, 1 - t, [0.0]])
    v = np.concatenate([t, one, 1 - t, zero, [0.0]])
    lon, lat = grid.to_lonlat(window.col_off + u * window.width, window.row_off + v * window.height)
    return np.stack([unwrap_longitude(lon, grid.central_meridian_deg), lat], axis=1)


def unwrap_longitude(lon_deg: npt.ArrayLike, near_deg: float) -> Float64Array:
    """Longitudes shifted by whole turns to lie within 180 degrees of `near_deg`."""
    lon = np.asarray(lon_deg, np.float64)
    return lon - 360.0 * np.round((lon - near_deg) / 360.0)


def wrap_longitude(lon_deg: npt.ArrayLike) -> Float64Array:
    """Longitudes shifted by whole turns into [-180, 180)."""
    lon = np.asarray(lon_deg, np.float64)
    return lon - 360.0 * np.floor((lon + 180.0) / 360.0)


def cores_in_zone(
    grid: WorldGrid, window: PixelWindow, core_px: int, overlap_m: float
) -> BoolArray:
    """Which cores of a window belong to the zone, its overlap with the neighbours included.

    A core belongs to the zone when its longitudes meet the zone's six degrees widened by
    `overlap_m` on both sides. It is decided per core, never per tile, so that a pixel's fate does
    not depend on the tile that asks.

    Args:
        grid: the zone's grid.
        window: pixels, a whole number of cores in both directions.
        core_px: pixels per side of a core.
        overlap_m: how far the zone reaches beyond its own six degrees, in metres.

    Returns:
        bool, shape (height / core_px, width / core_px).
    """
    rows = window.row_off + core_px * np.arange(window.height // core_px + 1)
    cols = window.col_off + core_px * np.arange(window.width // core_px + 1)
    lon, lat = grid.to_lonlat(*np.meshgrid(cols, rows))
    lon = unwrap_longitude(lon, grid.central_meridian_deg)
    corners = np.stack([lon[:-1, :-1], lon[:-1, 1:], lon[1:, :-1], lon[1:, 1:]])
    lat_max = np.maximum(np.abs(lat[:-1, :-1]), np.abs(lat[1:, 1:]))
    return _meets_zone(grid, corners, lat_max, overlap_m)


def squares_in_zone(
    grid: WorldGrid, cols: npt.ArrayLike, rows: npt.ArrayLike, size_px: int, overlap_m: float
) -> BoolArray:
    """Which squares of pixels belong to the zone, as `cores_in_zone` says of cores.

    Args:
        grid: the zone's grid.
        cols: first column of each square.
        rows: first row, same shape.
        size_px: pixels per side.
        overlap_m: how far the zone reaches beyond its own six degrees, in metres.

    Returns:
        bool, same shape.
    """
    left, top = np.asarray(cols), np.asarray(rows)
    right, bottom = left + size_px, top + size_px
    lon, lat = grid.to_lonlat(
        np.stack([left, right, left, right]), np.stack([top, top, bottom, bottom])
    )
    lon = unwrap_longitude(lon, grid.central_meridian_deg)
    lat_max = np.maximum(np.abs(lat[0]), np.abs(lat[3]))
    return _meets_zone(grid, lon, lat_max, overlap_m)


def _meets_zone(
    grid: WorldGrid, corners_deg: Float64Array, lat_max_deg: Float64Array, overlap_m: float
) -> BoolArray:
    """Whether squares meet the zone; longitudes of their four corners along the first axis."""
    reach = ZONE_WIDTH_DEG / 2 + overlap_m / (METRES_PER_DEGREE * np.cos(np.radians(lat_max_deg)))
    offset = corners_deg - grid.central_meridian_deg
    inside = (offset.min(axis=0) <= reach) & (offset.max(axis=0) >= -reach)
    on_grid = (lat_max_deg <= MAX_LATITUDE_DEG + 0.5) & np.isfinite(offset).all(axis=0)
    return np.asarray(inside & on_grid)
