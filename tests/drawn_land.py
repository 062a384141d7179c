"""A land full of buildings that are a pure function of their place on the earth.

Whoever looks at a place finds the same buildings there, whatever window, tile, zone or process
asks: pieces at tile edges fit together and zones see the same corners, without anything being
drawn or kept. So a job of any size can be run behind the network (see `simulated_runs`), and what
came out be compared with what there is.

Buildings stand on the sites of a lattice in longitude and latitude, some 17 m apart, at most one on
each and never nearer than 1.5 m to the next. One block of sites in a few hundred holds a hall
instead, up to 200 m long. Every 0.3 degrees there is a town: as dense as Kampala in its middle,
thinning out to nearly empty ground.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from geo.connectivity import connect_runs, sum_image_counts
from geo.grid import METRES_PER_DEGREE, WorldGrid, unwrap_longitude, window_bounds_lonlat
from geo.instances import Instances
from geo.pixel_window import PixelWindow

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]

SITES_PER_DEGREE = 6500
"""Sites lie 17.1 m apart, at the equator: at most 3,400 a square kilometre, as in Kampala."""
SITES_PER_BLOCK = 15
"""A block of 15 x 15 sites may hold a hall instead."""
SITES_PER_TOWN = 1950
"""There is a town every 0.3 degrees; a region of whole towns begins and ends between sites."""
MAX_LATITUDE_DEG = 25.0
"""Beyond it sites are too narrow for their buildings."""

_SITES_AROUND = 360 * SITES_PER_DEGREE
_GAP_M = 0.75
_MAX_LENGTH_M = 230.0


@dataclass(frozen=True, kw_only=True)
class Buildings:
    """What stands somewhere; struct of arrays.

    Attributes:
        site: number of each site or block, unique on the earth, int64.
        lon: longitude of the middle, degrees in [-180, 180).
        lat: latitude of the middle, degrees.
        corners: longitude and latitude of the four corners, shape (n, 4, 2); longitudes run on
            beyond 180 degrees rather than jump.
        level: probability of its pixels times 255, uint8 values as int64.
    """

    site: Int64Array
    lon: Float64Array
    lat: Float64Array
    corners: Float64Array
    level: Int64Array

    def __len__(self) -> int:
        return len(self.site)


@dataclass(frozen=True, kw_only=True)
class Land:
    """What stands where.

    Attributes:
        seed: another number, other buildings.
        decay_km: how far from its middle a town is 2.7 times thinner; the whole land then holds
            about 18 * decay_km ** 2 buildings a square kilometre.
        hall_share: share of the blocks that hold a hall instead of houses.
        hall_m: greatest length of a hall in metres, at most 200.
    """

    seed: int = 0
    decay_km: float = 2.5
    hall_share: float = 0.003
    hall_m: float = 200.0

    def buildings_within(
        self, west: float, south: float, east: float, north: float, margin_deg: float = 0.0
    ) -> Buildings:
        """All buildings whose sites meet a box; a few beyond it, too.

        Args:
            west: least longitude in degrees; any number of turns.
            south: least latitude.
            east: greatest longitude, at least `west`.
            north: greatest latitude.
            margin_deg: how far beyond the box to look.
        """
        if max(abs(south), abs(north)) > MAX_LATITUDE_DEG:
            raise ValueError(f"latitudes {south} to {north}; the land ends at {MAX_LATITUDE_DEG}")
        step = SITES_PER_BLOCK / SITES_PER_DEGREE
        rows = np.arange(
            np.floor((south - margin_deg) / step), np.floor((north + margin_deg) / step) + 1
        )
        cols = np.arange(
            np.floor((west - margin_deg) / step), np.floor((east + margin_deg) / step) + 1
        )
        row, col = (axis.ravel().astype(np.int64) for axis in np.meshgrid(rows, cols))
        is_hall = self._chance(row, col, SITES_PER_BLOCK, 1) < self.hall_share
        halls = self._draw(row[is_hall], col[is_hall], SITES_PER_BLOCK)
        inner = np.arange(SITES_PER_BLOCK)
        row, col = (axis[~is_hall] * SITES_PER_BLOCK for axis in (row, col))
        site_row = (row[:, None, None] + inner[None, :, None] + 0 * inner[None, None, :]).ravel()
        site_col = (col[:, None, None] + 0 * inner[None, :, None] + inner[None, None, :]).ravel()
        is_built = self._chance(site_row, site_col, 1, 2) < self._share_built(site_row, site_col)
        houses = self._draw(site_row[is_built], site_col[is_built], 1)
        return _joined(halls, houses)

    def _share_built(self, row: Int64Array, col: Int64Array) -> Float64Array:
        """Share of the sites around each one that hold a building."""
        town_row, town_col = row // SITES_PER_TOWN, col // SITES_PER_TOWN
        hashed = _hash(town_row, town_col % (_SITES_AROUND // SITES_PER_TOWN), self.seed, 3)
        shift = SITES_PER_TOWN // 6
        off_row = row - (town_row * SITES_PER_TOWN + SITES_PER_TOWN // 2)
        off_col = col - (town_col * SITES_PER_TOWN + SITES_PER_TOWN // 2)
        off_row = off_row - (_fraction(hashed, 0) - 0.5) * 2 * shift
        off_col = off_col - (_fraction(hashed, 1) - 0.5) * 2 * shift
        km = np.hypot(off_row, off_col) * (METRES_PER_DEGREE / 1000.0 / SITES_PER_DEGREE)
        return np.asarray(0.95 * np.exp(-km / self.decay_km))

    def _chance(self, row: Int64Array, col: Int64Array, size: int, salt: int) -> Float64Array:
        return _fraction(_hash(row, col % (_SITES_AROUND // size), self.seed, salt), 0)

    def _draw(self, row: Int64Array, col: Int64Array, size: int) -> Buildings:
        """One building on each of the cells of `size` sites a side."""
        around = _SITES_AROUND // size
        hashed = _hash(row, col % around, self.seed, 4)
        if size == 1:
            length, depth = 5.0 + 6.0 * _fraction(hashed, 0), 4.0 + 4.0 * _fraction(hashed, 1)
        else:
            length = self.hall_m * (0.3 + 0.7 * _fraction(hashed, 0))
            depth = self.hall_m * (0.15 + 0.45 * _fraction(hashed, 1))
        angle = np.pi * _fraction(hashed, 2)
        lat_m = METRES_PER_DEGREE * size / SITES_PER_DEGREE
        lon_m = lat_m * np.cos(np.radians((row + 0.5) * size / SITES_PER_DEGREE))
        reach = np.hypot(length, depth) / 2 + _GAP_M
        again = _hash(row, col % around, self.seed, 5)
        east = 2 * (_fraction(again, 0) - 0.5) * np.maximum(lon_m / 2 - reach, 0)
        north = 2 * (_fraction(again, 1) - 0.5) * np.maximum(lat_m / 2 - reach, 0)
        cell_lon = (col + 0.5 + east / lon_m) * size / SITES_PER_DEGREE
        cell_lat = (row + 0.5 + north / lat_m) * size / SITES_PER_DEGREE
        corners = _corners(length, depth, angle)
        corners *= (size / SITES_PER_DEGREE) / np.stack([lon_m, 0 * lon_m + lat_m], 1)[:, None]
        return Buildings(
            site=(row * around + col % around) * 2 + (size > 1),
            lon=cell_lon - 360.0 * np.floor((cell_lon + 180.0) / 360.0),
            lat=cell_lat,
            corners=corners + np.stack([cell_lon, cell_lat], 1)[:, None],
            level=(140 + 114 * _fraction(again, 2)).astype(np.int64),
        )


def _joined(first: Buildings, second: Buildings) -> Buildings:
    return Buildings(
        **{
            name: np.concatenate([getattr(first, name), getattr(second, name)])
            for name in Buildings.__dataclass_fields__
        }
    )


def _corners(length: Float64Array, depth: Float64Array, angle: Float64Array) -> Float64Array:
    """Corners of rectangles around the origin, in metres, shape (n, 4, 2)."""
    x = np.array([-0.5, 0.5, 0.5, -0.5]) * length[:, None]
    y = np.array([-0.5, -0.5, 0.5, 0.5]) * depth[:, None]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=2)


def _hash(row: Int64Array, col: Int64Array, seed: int, salt: int) -> UInt64Array:
    """64 bits of chance for each place (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        x = row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += col.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        x += np.uint64(seed * 8 + salt) * np.uint64(0x165667B19E3779F9)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        return x ^ (x >> np.uint64(31))


def _fraction(hashed: UInt64Array, part: int) -> Float64Array:
    """A number in [0, 1) from one of three parts of a hash."""
    bits = (hashed >> np.uint64(21 * part)) & np.uint64((1 << 21) - 1)
    return bits.astype(np.float64) / (1 << 21)


def land_instances(
    land: Land,
    grid: WorldGrid,
    window: PixelWindow,
    *,
    cores: npt.NDArray[np.bool_],
    core_px: int,
    image_step_deg: float,
    image_numbers: dict[tuple[int, int], int],
) -> Instances:
    """What a network that makes no mistake would find in a window.

    Args:
        land: what stands there.
        grid: the zone's grid.
        window: whole cores.
        cores: the cores that are looked at, bool.
        core_px: pixels per side of a core.
        image_step_deg: width and height of the images, which lie on a lattice from (0, 0).
        image_numbers: index of the image with a (row, col) of that lattice.
    """
    outline = window_bounds_lonlat(grid, window)
    (west, south), (east, north) = outline.min(axis=0), outline.max(axis=0)
    margin_deg = 1.1 * _MAX_LENGTH_M / METRES_PER_DEGREE
    found = land.buildings_within(west, south, east, north, margin_deg)
    lon = unwrap_longitude(found.corners[..., 0], grid.central_meridian_deg)
    cols, rows = grid.from_lonlat(lon, found.corners[..., 1])
    runs, owner = _burn(cols, rows, window.row_off, window.row_end, window.col_off, window.col_end)
    if not cores.all():
        runs, owner = _keep_cores(runs, owner, window, cores, core_px)
    order = np.lexsort((runs[:, 1], runs[:, 0]))
    row, start, end = runs[order].T.astype(np.int32)
    owner = owner[order]
    joined = connect_runs(row, start, end, np.arange(len(row)), len(row))
    pixels = (end - start).astype(np.int64)
    places = np.floor(np.stack([found.lat, found.lon], 1) / image_step_deg).astype(np.int64)
    numbers = np.array(
        [image_numbers.get((r, c), -1) for r, c in np.unique(places, axis=0).tolist()], np.int32
    )
    which = numbers[np.unique(places, axis=0, return_inverse=True)[1].ravel()][owner]
    num = len(joined.run_offsets) - 1
    image_offsets, images, image_pixels = sum_image_counts(
        joined.group_of_node, np.maximum(which, 0), pixels, num
    )
    return Instances(
        run_row=joined.run_row,
        run_start=joined.run_start,
        run_end=joined.run_end,
        run_offsets=joined.run_offsets,
        num_pixels=joined.sum_nodes(pixels),
        probability_sum=joined.sum_nodes(pixels * found.level[owner]),
        rim_sum=np.zeros(num, np.int64),
        rim_count=np.zeros(num, np.int64),
        image_offsets=image_offsets,
        image_index=images,
        image_pixels=image_pixels,
    )


def _keep_cores(
    runs: Int64Array,
    owner: Int64Array,
    window: PixelWindow,
    cores: npt.NDArray[np.bool_],
    core_px: int,
) -> tuple[Int64Array, Int64Array]:
    """Cut runs at the edges of the cores and keep those of the active ones."""
    first = (runs[:, 1] - window.col_off) // core_px
    last = (runs[:, 2] - 1 - window.col_off) // core_px
    index = np.repeat(np.arange(len(runs)), last - first + 1)
    begin = np.cumsum(last - first + 1) - (last - first + 1)
    core = first[index] + np.arange(len(index)) - begin[index]
    left = window.col_off + core * core_px
    cut = np.stack(
        [
            runs[index, 0],
            np.maximum(runs[index, 1], left),
            np.minimum(runs[index, 2], left + core_px),
        ],
        axis=1,
    )
    is_active = cores[(cut[:, 0] - window.row_off) // core_px, core]
    return cut[is_active], owner[index][is_active]


@numba.njit(cache=True, nogil=True)
def _burn(
    cols: Float64Array, rows: Float64Array, top: int, bottom: int, left: int, right: int
) -> tuple[Int64Array, Int64Array]:
    """Runs (row, start, end) of the pixels whose middles lie in convex quadrilaterals."""
    count = 0
    for i in range(len(cols)):
        count += max(int(np.ceil(rows[i].max()) - np.floor(rows[i].min())), 0)
    runs, owner = np.empty((count, 3), np.int64), np.empty(count, np.int64)
    num = 0
    for i in range(len(cols)):
        first = max(int(np.ceil(rows[i].min() - 0.5)), top)
        last = min(int(np.ceil(rows[i].max() - 0.5)), bottom)
        for row in range(first, last):
            y = row + 0.5
            low, high = np.inf, -np.inf
            for a in range(4):
                b = (a + 1) % 4
                ya, yb = rows[i, a], rows[i, b]
                if (ya <= y) != (yb <= y):
                    x = cols[i, a] + (y - ya) * (cols[i, b] - cols[i, a]) / (yb - ya)
                    low, high = min(low, x), max(high, x)
            if low > high:
                continue
            start, end = max(int(np.ceil(low - 0.5)), left), min(int(np.ceil(high - 0.5)), right)
            if end > start:
                runs[num, 0], runs[num, 1], runs[num, 2] = row, start, end
                owner[num] = i
                num += 1
    return runs[:num], owner[:num]
