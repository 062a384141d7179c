"""Where every footprint lies, how large and how sure it is: 15 bytes each, for counts and density.

The rows keep the order of the dataset, so that a row number is an id. They are filled block by
block (a row group of a file), from several threads, and can be asked while that goes on: what is
not there yet does not count.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from geo.web_mercator import WORLD_SIDE, latitude_of, to_unit, to_world

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Uint8Array = npt.NDArray[np.uint8]
Uint16Array = npt.NDArray[np.uint16]
Uint32Array = npt.NDArray[np.uint32]

CONFIDENCE_STEPS = 2**14
"""Confidences are kept as whole steps of 2^-14, which the shards' values are multiples of."""
CELLS_PER_TILE = 128
"""Cells of a density tile from side to side."""

_WORLD_MASK = WORLD_SIDE - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A rectangle of the map in degrees, and the limits of what counts there.

    Attributes:
        west: any turn; the rectangle runs east from it.
        south: clipped to the map's square.
        east: at least `west`; a whole turn or more beyond it means all longitudes.
        north: clipped to the map's square.
        min_confidence: 0 to 1.
        min_area_m2: square metres.
    """

    west: float
    south: float
    east: float
    north: float
    min_confidence: float = 0.0
    min_area_m2: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        sides = (self.west, self.south, self.east, self.north)
        if not np.isfinite([*sides, self.min_confidence, self.min_area_m2]).all():
            raise ValueError(f"view {sides}: expected finite numbers")
        if self.east < self.west or self.north < self.south:
            raise ValueError(f"view {sides}: expected west <= east and south <= north")


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSummary:
    """What lies in a view: centroids decide.

    Attributes:
        num_all: footprints, whatever the limits.
        num_kept: those within the limits.
        area_kept_m2: built area of those within the limits.
        sizes_all: footprints per size class, int64.
        sizes_kept: the same within the limits.
        num_ready: footprints of the dataset that have been read so far.
    """

    num_all: int
    num_kept: int
    area_kept_m2: float
    sizes_all: Int64Array
    sizes_kept: Int64Array
    num_ready: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityCells:
    """The cells of a tile that hold footprints.

    Attributes:
        cols: column in the tile, 0 to `CELLS_PER_TILE` - 1, from the west.
        rows: row in the tile, from the north.
        counts: footprints of each.
        confidences: their mean confidence, 0 to 1.
    """

    cols: Int64Array
    rows: Int64Array
    counts: Int64Array
    confidences: Float64Array


class FootprintIndex:
    """The columns of all footprints in memory.

    Args:
        block_rows: number of rows of each block, in order.
        area_edges_m2: edges of the size classes, rising, the last infinite; at most 256 classes.
    """

    def __init__(self, block_rows: npt.ArrayLike, area_edges_m2: Float64Array) -> None:
        rows = np.asarray(block_rows, np.int64)
        self.starts: Int64Array = np.concatenate([[0], np.cumsum(rows)])
        num = int(self.starts[-1])
        self.x: Uint32Array = np.zeros(num, np.uint32)
        self.y: Uint32Array = np.zeros(num, np.uint32)
        self.confidence: Uint16Array = np.zeros(num, np.uint16)
        self.area_m2: Float32Array = np.zeros(num, np.float32)
        self._size_class: Uint8Array = np.zeros(num, np.uint8)
        self._edges = area_edges_m2
        self._bounds: Uint32Array = np.zeros((len(rows), 4), np.uint32)
        self._is_ready: BoolArray = rows == 0

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def num_ready(self) -> int:
        """Rows that were filled so far."""
        return int(np.diff(self.starts)[self._is_ready].sum())

    def fill(
        self,
        block: int,
        *,
        longitude: Float64Array,
        latitude: Float64Array,
        confidence: Float64Array,
        area_m2: Float64Array,
    ) -> None:
        """Fill a block; other threads may fill others and ask meanwhile.

        Args:
            block: its number.
            longitude: of the centroids, degrees.
            latitude: of the centroids, degrees.
            confidence: 0 to 1.
            area_m2: square metres.

        Raises:
            ValueError: if the number of rows is not that of the block.
        """
        start, end = int(self.starts[block]), int(self.starts[block + 1])
        if len(longitude) != end - start:
            raise ValueError(f"{len(longitude)} rows for block {block}; expected {end - start}")
        if start == end:
            return
        x, y = to_world(longitude, latitude)
        self.x[start:end], self.y[start:end] = x, y
        self.confidence[start:end] = confidence_steps(confidence)
        self.area_m2[start:end] = _rounded_down(area_m2)
        self._size_class[start:end] = np.searchsorted(self._edges, area_m2, side="right") - 1
        self._bounds[block] = x.min(), y.min(), x.max(), y.max()
        self._is_ready[block] = True  # last: from here on it counts

    def summarise(self, view: View) -> ViewSummary:
        """Count what lies in a view, in one pass over the blocks that meet it."""
        x, width = _x_range(view.west, view.east)
        y = to_world([0.0, 0.0], [view.north, view.south])[1]
        is_ready = self._is_ready.copy()
        sizes = np.zeros((2, len(self._edges) - 1), np.int64)
        area = _summarise(
            *(self.x, self.y, self.confidence, self.area_m2, self._size_class),
            *(self.starts, self._bounds, is_ready),
            *(x, width, int(y[0]), int(y[1])),
            *(min_steps(view.min_confidence), np.float32(view.min_area_m2), sizes),
        )
        return ViewSummary(
            num_all=int(sizes[0].sum()),
            num_kept=int(sizes[1].sum()),
            area_kept_m2=float(area),
            sizes_all=sizes[0],
            sizes_kept=sizes[1],
            num_ready=int(np.diff(self.starts)[is_ready].sum()),
        )

    def density(
        self, z: int, x: int, y: int, *, min_confidence: float = 0.0, min_area_m2: float = 0.0
    ) -> DensityCells:
        """Footprints of a tile by cells.

        Args:
            z: zoom, 0 to 24.
            x: column of the tile, 0 to 2^z - 1.
            y: row of the tile.
            min_confidence: 0 to 1; less does not count.
            min_area_m2: square metres; less does not count.
        """
        shift = 32 - z
        counts = np.zeros((CELLS_PER_TILE, CELLS_PER_TILE), np.int64)
        steps = np.zeros_like(counts)
        _add_density(
            *(self.x, self.y, self.confidence, self.area_m2),
            *(self.starts, self._bounds, self._is_ready.copy()),
            *(x << shift, y << shift, shift),
            *(min_steps(min_confidence), np.float32(min_area_m2), counts, steps),
        )
        rows, cols = np.nonzero(counts)
        found = counts[rows, cols]
        mean = steps[rows, cols] / found / CONFIDENCE_STEPS
        return DensityCells(cols=cols, rows=rows, counts=found, confidences=mean)

    def near(self, longitude: float, latitude: float, distance_deg: float) -> Int64Array:
        """Blocks that may hold a centroid so near to a point, in order."""
        x, width = _x_range(longitude - distance_deg, longitude + distance_deg)
        y = to_world([0.0, 0.0], [latitude + distance_deg, latitude - distance_deg])[1]
        bounds = self._bounds.astype(np.int64)
        meets_x = ((bounds[:, 0] - x) & _WORLD_MASK) <= width
        meets_x |= ((x - bounds[:, 0]) & _WORLD_MASK) <= bounds[:, 2] - bounds[:, 0]
        meets_y = (bounds[:, 1] <= int(y[1])) & (bounds[:, 3] >= int(y[0]))
        return np.flatnonzero(meets_x & meets_y & self._is_ready)


def confidence_steps(confidence: Float64Array) -> Uint16Array:
    """Confidences (0 to 1) as whole steps, rounded down."""
    return np.floor(np.asarray(confidence) * CONFIDENCE_STEPS).astype(np.uint16)


def min_steps(min_confidence: float) -> int:
    """The least whole step that is at least a confidence."""
    return int(np.ceil(min_confidence * CONFIDENCE_STEPS))


def cell_area_km2(z: int, y: int) -> float:
    """Ground under one cell of a density tile, at the middle of the tile."""
    latitude = latitude_of((y + 0.5) / 2**z)
    side_km = 40075.017 / 2**z / CELLS_PER_TILE * np.cos(np.radians(latitude))
    return float(side_km**2)


def _rounded_down(area_m2: Float64Array) -> Float32Array:
    """As float32 towards zero: an area is at least a limit exactly if its float32 is."""
    near = area_m2.astype(np.float32)
    return np.where(near > area_m2, np.nextafter(near, np.float32(0)), near)


def _x_range(west: float, east: float) -> tuple[int, int]:
    """First x of the world, and how many steps follow it, both inclusive."""
    if east - west >= 360.0:
        return 0, _WORLD_MASK
    first = int(np.floor(to_unit(west, 0.0)[0] * WORLD_SIDE))
    last = int(np.floor(to_unit(east, 0.0)[0] * WORLD_SIDE))
    return first & _WORLD_MASK, min(last - first, _WORLD_MASK)


@numba.njit(cache=True, nogil=True)
def _is_apart(bounds: Uint32Array, x: int, width: int, north: int, south: int) -> bool:
    """Whether a block's bounds share no point with a view; x counts round the world."""
    if bounds[1] > south or bounds[3] < north:
        return True
    first, last = np.int64(bounds[0]), np.int64(bounds[2])
    return bool(((first - x) & _WORLD_MASK) > width and ((x - first) & _WORLD_MASK) > last - first)


@numba.njit(cache=True, nogil=True)
def _summarise(
    all_x: Uint32Array,
    all_y: Uint32Array,
    confidence: Uint16Array,
    area_m2: Float32Array,
    size_class: Uint8Array,
    starts: Int64Array,
    bounds: Uint32Array,
    is_ready: BoolArray,
    x: int,
    width: int,
    north: int,
    south: int,
    least: int,
    min_area_m2: float,
    sizes: Int64Array,
) -> float:
    """Add up sizes (row 0: all, row 1: within the limits); returns the area within the limits."""
    area = 0.0
    for block in range(len(is_ready)):
        if not is_ready[block] or _is_apart(bounds[block], x, width, north, south):
            continue
        for i in range(starts[block], starts[block + 1]):
            if all_y[i] < north or all_y[i] > south:
                continue
            if ((np.int64(all_x[i]) - x) & _WORLD_MASK) > width:
                continue
            sizes[0, size_class[i]] += 1
            if confidence[i] >= least and area_m2[i] >= min_area_m2:
                sizes[1, size_class[i]] += 1
                area += area_m2[i]
    return area


@numba.njit(cache=True, nogil=True)
def _add_density(
    all_x: Uint32Array,
    all_y: Uint32Array,
    confidence: Uint16Array,
    area_m2: Float32Array,
    starts: Int64Array,
    bounds: Uint32Array,
    is_ready: BoolArray,
    west: int,
    north: int,
    shift: int,
    least: int,
    min_area_m2: float,
    counts: Int64Array,
    steps: Int64Array,
) -> None:
    """Add footprints and their confidences to the cells of a tile of 2^shift steps a side."""
    last = (1 << shift) - 1
    cell_shift = shift - 7  # 2^7 cells a side
    for block in range(len(is_ready)):
        if not is_ready[block] or _is_apart(bounds[block], west, last, north, north + last):
            continue
        for i in range(starts[block], starts[block + 1]):
            col, row = np.int64(all_x[i]) - west, np.int64(all_y[i]) - north
            if col < 0 or row < 0 or col > last or row > last:
                continue
            if confidence[i] >= least and area_m2[i] >= min_area_m2:
                counts[row >> cell_shift, col >> cell_shift] += 1
                steps[row >> cell_shift, col >> cell_shift] += confidence[i]
