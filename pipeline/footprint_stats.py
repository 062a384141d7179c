"""Sizes, confidence and density of footprints, added up table by table in fixed memory."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.map_grid import MapGrid

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

AREA_EDGES_M2: Float64Array = np.concatenate([[0.0], 5.0 * 2.0 ** (np.arange(25) / 2), [np.inf]])
"""Edges of the size classes: half an octave each, from 5 m2 to 20,480 m2, open at both ends."""
# The last class has no end; what is said of it is its beginning.
_CLOSED_AREA_EDGES_M2 = np.minimum(AREA_EDGES_M2, AREA_EDGES_M2[-2])
CONFIDENCE_EDGES: Float64Array = np.linspace(0.0, 1.0, 41)
"""Edges of the confidence classes: 0.025 each."""


class FootprintStats:
    """What a report says about footprints as a whole; `add` takes them table by table.

    Only whole numbers and one sum are kept, so that memory does not grow and the order of the
    tables does not matter for anything but the last bits of the area.

    Attributes:
        num_footprints: how many were added.
        area_m2: sum of their areas.
        num_by_size: footprints per class of `AREA_EDGES_M2` and of `CONFIDENCE_EDGES`, int64, shape
            (num_areas, num_confidences).
        grid: cells of the maps.
        num_by_cell: footprints per cell and class of area, int64, shape (rows, cols, num_areas).
    """

    def __init__(self, bounds: Sequence[float], max_cells: int = 48) -> None:
        self.grid = MapGrid.over(bounds, max_cells)
        self.num_footprints = 0
        self.area_m2 = 0.0
        num_areas, num_confidences = len(AREA_EDGES_M2) - 1, len(CONFIDENCE_EDGES) - 1
        self.num_by_size: Int64Array = np.zeros((num_areas, num_confidences), np.int64)
        self.num_by_cell: Int64Array = np.zeros((*self.grid.shape, num_areas), np.int64)

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
        num_areas, num_classes = self.num_by_size.shape
        classes = np.clip(np.floor(np.asarray(confidence) * num_classes), 0, num_classes - 1)
        _count(self.num_by_size, sizes * num_classes + classes.astype(np.int64))
        # A building at the very edge may have its centroid a little outside: it counts there.
        _count(self.num_by_cell, self.grid.cells_of(longitude, latitude) * num_areas + sizes)

    @property
    def num_by_area(self) -> Int64Array:
        """Footprints per class of `AREA_EDGES_M2`."""
        return np.asarray(self.num_by_size.sum(axis=1))

    @property
    def num_by_confidence(self) -> Int64Array:
        """Footprints per class of `CONFIDENCE_EDGES`."""
        return np.asarray(self.num_by_size.sum(axis=0))

    @property
    def density(self) -> Int64Array:
        """Footprints per cell of the map, row 0 in the north, int64, shape (rows, cols)."""
        return np.asarray(self.num_by_cell.sum(axis=2))

    @property
    def cell_area_km2(self) -> float:
        """Ground of one cell of `density`, in square kilometres (in the middle of the map)."""
        return self.grid.cell_area_km2

    def median_area_m2(self) -> float:
        """Median area from the size classes, straight lines within; NaN without footprints."""
        return _median(self.num_by_area, _CLOSED_AREA_EDGES_M2)

    def median_area_by_cell_m2(self, min_footprints: int = 1) -> Float64Array:
        """Median area in each cell of the map; NaN where there are fewer footprints than that."""
        return _medians(self.num_by_cell, _CLOSED_AREA_EDGES_M2, min_footprints)

    def median_confidence_by_area(self, min_footprints: int = 1) -> Float64Array:
        """Median confidence of each class of area; NaN where there are fewer footprints."""
        return _medians(self.num_by_size, CONFIDENCE_EDGES, min_footprints)

    def median_confidence(self) -> float:
        """Median confidence from its classes; NaN without footprints."""
        return _median(self.num_by_confidence, CONFIDENCE_EDGES)


def _count(counts: Int64Array, numbers: Int64Array) -> None:
    """Add one to the entries with these numbers, repeats included."""
    counts += np.bincount(numbers, minlength=counts.size).reshape(counts.shape)


def _median(counts: Int64Array, edges: Float64Array) -> float:
    return float(_medians(counts, edges, 1))


def _medians(counts: Int64Array, edges: Float64Array, least: int) -> Float64Array:
    """Medians along the last axis, straight lines within the classes; NaN below `least`."""
    below = np.concatenate([np.zeros((*counts.shape[:-1], 1), np.int64), counts.cumsum(-1)], -1)
    total = below[..., -1:]
    # The class that holds the middle: the last one that begins at or below it.
    index = np.clip((below[..., 1:] * 2 < total).sum(axis=-1), 0, counts.shape[-1] - 1)
    inside = np.take_along_axis(counts, index[..., np.newaxis], -1)[..., 0]
    before = np.take_along_axis(below, index[..., np.newaxis], -1)[..., 0]
    share = (total[..., 0] / 2 - before) / np.maximum(inside, 1)
    medians = edges[index] + share * (edges[index + 1] - edges[index])
    return np.where(total[..., 0] >= max(least, 1), medians, np.nan)
