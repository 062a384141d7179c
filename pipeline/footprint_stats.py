"""Sizes, confidence and density of footprints, added up table by table in fixed memory."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geo.grid import METRES_PER_DEGREE, unwrap_longitude

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

AREA_EDGES_M2: Float64Array = np.concatenate([[0.0], 5.0 * 2.0 ** (np.arange(25) / 2), [np.inf]])
"""Edges of the size classes: half an octave each, from 5 m2 to 20,480 m2, open at both ends."""
CONFIDENCE_EDGES: Float64Array = np.linspace(0.0, 1.0, 41)
"""Edges of the confidence classes: 0.025 each."""


class FootprintStats:
    """What a report says about footprints as a whole; `add` takes them table by table.

    Only whole numbers and one sum are kept, so that memory does not grow and the order of the
    tables does not matter for anything but the last bits of the area.

    Attributes:
        num_footprints: how many were added.
        area_m2: sum of their areas.
        num_by_area: footprints per class of `AREA_EDGES_M2`.
        num_by_confidence: footprints per class of `CONFIDENCE_EDGES`.
        density: footprints per cell of a map, row 0 in the north, int64, shape (rows, cols).
        bounds: (west, south, east, north) of `density` in degrees.
    """

    def __init__(self, bounds: Sequence[float], max_cells: int = 48) -> None:
        west, south, east, north = bounds
        if not (east > west and north > south):
            raise ValueError(f"bounds = {tuple(bounds)}; expected west < east and south < north")
        stretch = math.cos(math.radians((south + north) / 2))
        step = max((east - west) * stretch, north - south) / max_cells
        num_cols = max(1, math.ceil((east - west) * stretch / step - 1e-9))
        num_rows = max(1, math.ceil((north - south) / step - 1e-9))
        self._step_deg = (step / stretch, step)
        self.bounds = (west, north - num_rows * step, west + num_cols * step / stretch, north)
        self.density: Int64Array = np.zeros((num_rows, num_cols), np.int64)
        self.num_footprints = 0
        self.area_m2 = 0.0
        self.num_by_area: Int64Array = np.zeros(len(AREA_EDGES_M2) - 1, np.int64)
        self.num_by_confidence: Int64Array = np.zeros(len(CONFIDENCE_EDGES) - 1, np.int64)

    def add(
        self,
        longitude: Float64Array,
        latitude: Float64Array,
        area_m2: Float64Array,
        confidence: Float64Array,
    ) -> None:
        """Add footprints; all arrays have one entry each.

        Args:
            longitude: of the centroid, degrees; may be wrapped the other way round the earth.
            latitude: of the centroid, degrees.
            area_m2: square metres.
            confidence: 0 to 1.
        """
        self.num_footprints += len(area_m2)
        self.area_m2 += float(np.sum(area_m2))
        sizes = np.searchsorted(AREA_EDGES_M2, area_m2, side="right") - 1
        self.num_by_area += np.bincount(sizes, minlength=len(self.num_by_area))
        num_classes = len(self.num_by_confidence)
        classes = np.clip(np.floor(np.asarray(confidence) * num_classes), 0, num_classes - 1)
        self.num_by_confidence += np.bincount(classes.astype(np.int64), minlength=num_classes)
        self._add_to_map(longitude, latitude)

    def _add_to_map(self, longitude: Float64Array, latitude: Float64Array) -> None:
        west, _, east, north = self.bounds
        lon = unwrap_longitude(longitude, (west + east) / 2)
        num_rows, num_cols = self.density.shape
        # A building at the very edge may have its centroid a little outside: it counts there.
        cols = np.clip((lon - west) // self._step_deg[0], 0, num_cols - 1).astype(np.int64)
        rows = np.clip((north - latitude) // self._step_deg[1], 0, num_rows - 1).astype(np.int64)
        cells = np.bincount(rows * num_cols + cols, minlength=self.density.size)
        self.density += cells.reshape(self.density.shape)

    @property
    def cell_area_km2(self) -> float:
        """Ground of one cell of `density`, in square kilometres (in the middle of the map)."""
        metres = self._step_deg[1] * METRES_PER_DEGREE
        return metres * metres / 1e6

    def median_area_m2(self) -> float:
        """Median area from the size classes, straight lines within; NaN without footprints."""
        edges = np.minimum(AREA_EDGES_M2, AREA_EDGES_M2[-2])
        return _median(self.num_by_area, edges)

    def median_confidence(self) -> float:
        """Median confidence from its classes; NaN without footprints."""
        return _median(self.num_by_confidence, CONFIDENCE_EDGES)


def _median(counts: Int64Array, edges: Float64Array) -> float:
    total = int(counts.sum())
    if total == 0:
        return math.nan
    below = np.concatenate([[0], np.cumsum(counts)])
    return float(np.interp(total / 2, below, edges))
