"""A grid of nearly square cells over a place, for maps in fixed memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geo.grid import METRES_PER_DEGREE, unwrap_longitude

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapGrid:
    """Cells of a map, row 0 in the north.

    Attributes:
        bounds: (west, south, east, north) of all cells in degrees; east may run beyond 180.
        num_rows: rows.
        num_cols: columns.
    """

    bounds: tuple[float, float, float, float]
    num_rows: int
    num_cols: int

    @classmethod
    def over(cls, bounds: Sequence[float], max_cells: int) -> "MapGrid":
        """The grid over a box, at most `max_cells` a side.

        Raises:
            ValueError: if the box has no extent.
        """
        west, south, east, north = bounds
        if not (east > west and north > south):
            raise ValueError(f"bounds = {tuple(bounds)}; expected west < east and south < north")
        stretch = math.cos(math.radians((south + north) / 2))
        step = max((east - west) * stretch, north - south) / max_cells
        num_cols = max(1, math.ceil((east - west) * stretch / step - 1e-9))
        num_rows = max(1, math.ceil((north - south) / step - 1e-9))
        return cls(
            bounds=(west, north - num_rows * step, west + num_cols * step / stretch, north),
            num_rows=num_rows,
            num_cols=num_cols,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.num_rows, self.num_cols

    @property
    def step_deg(self) -> tuple[float, float]:
        """Width and height of a cell in degrees."""
        west, south, east, north = self.bounds
        return (east - west) / self.num_cols, (north - south) / self.num_rows

    @property
    def cell_area_km2(self) -> float:
        """Ground of one cell in square kilometres, in the middle of the map."""
        metres = self.step_deg[1] * METRES_PER_DEGREE
        return metres * metres / 1e6

    def cells_of(self, longitude: Float64Array, latitude: Float64Array) -> Int64Array:
        """Number of the cell of each point, row by row; points outside count at the edge.

        Args:
            longitude: degrees, any whole number of turns.
            latitude: degrees.
        """
        west, _, east, north = self.bounds
        lon = unwrap_longitude(longitude, (west + east) / 2)
        step_lon, step_lat = self.step_deg
        cols = np.clip((lon - west) // step_lon, 0, self.num_cols - 1).astype(np.int64)
        rows = np.clip((north - latitude) // step_lat, 0, self.num_rows - 1).astype(np.int64)
        return np.asarray(rows * self.num_cols + cols)

    def count(self, longitude: Float64Array, latitude: Float64Array) -> Int64Array:
        """Points per cell, int64, shape (num_rows, num_cols)."""
        cells = self.cells_of(longitude, latitude)
        counts = np.bincount(cells, minlength=self.num_rows * self.num_cols)
        return counts.astype(np.int64).reshape(self.shape)

    def covered_area(self, boxes: Float64Array) -> Float64Array:
        """Area of boxes in each cell, in cells: 1 where boxes fill it.

        Args:
            boxes: (west, south, east, north) in degrees, beside the grid's own longitudes, shape
                (n, 4); what lies outside is left out.

        Returns:
            float64, shape (num_rows, num_cols).
        """
        west, _, _, north = self.bounds
        step_lon, step_lat = self.step_deg
        left, right = (boxes[:, 0] - west) / step_lon, (boxes[:, 2] - west) / step_lon
        top, bottom = (north - boxes[:, 3]) / step_lat, (north - boxes[:, 1]) / step_lat
        rows, row_shares, row_box = _spread(top, bottom, self.num_rows)
        # Every row of a box once with every column of it.
        cols, col_shares, col_box = _spread(left[row_box], right[row_box], self.num_cols)
        cells = rows[col_box] * self.num_cols + cols
        areas = np.bincount(
            cells, weights=row_shares[col_box] * col_shares, minlength=math.prod(self.shape)
        )
        return np.asarray(areas.reshape(self.shape), np.float64)


def _spread(
    low: Float64Array, high: Float64Array, num: int
) -> tuple[Int64Array, Float64Array, Int64Array]:
    """The unit steps that ranges meet: number of the step, share of it, number of the range."""
    low, high = np.clip(low, 0, num), np.clip(high, 0, num)
    first = np.minimum(np.floor(low), num - 1).astype(np.int64)
    last = np.maximum(np.ceil(high).astype(np.int64), first + 1)
    lengths = last - first
    which = np.repeat(np.arange(len(low)), lengths)
    within = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    steps = first[which] + within
    shares = np.minimum(high[which], steps + 1) - np.maximum(low[which], steps)
    return np.minimum(steps, num - 1), np.maximum(shares, 0.0), which


def side_by_side(bounds: Float64Array) -> Float64Array:
    """Boxes on both sides of the antimeridian brought next to each other; shape (n, 4)."""
    if len(bounds) == 0:
        return bounds
    # A value that occurs: the mean of two on both sides would be half the earth away.
    near = float(np.sort(bounds[:, 0])[len(bounds) // 2])
    shift = unwrap_longitude(bounds[:, 0], near) - bounds[:, 0]
    return bounds + np.stack([shift, 0 * shift, shift, 0 * shift], axis=1)
