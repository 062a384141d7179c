"""The images near one UTM zone, on the pixels of its grid, with a spatial index over them.

Made once per process and zone and shared by all who ask: a hundred thousand outlines take seconds
and some hundred megabytes, and a job has a dozen places that ask.
"""

import dataclasses
import functools

import numpy as np
import numpy.typing as npt
import shapely

from geo.grid import METRES_PER_DEGREE, ZONE_WIDTH_DEG, WorldGrid, unwrap_longitude
from geo.stated_outlines import outlines_to_pixels
from pipeline.image_index import ImageIndex

Float64Array = npt.NDArray[np.float64]

FOOTPRINT_SLACK_PX = 4
"""Image outlines are drawn with straight pieces; the slack keeps their curvature inside."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoneImages:
    """Images that have ground in a zone, or near enough to be read for it.

    Attributes:
        positions: of the images in the index, ascending, int64, shape (n,).
        bounds: (col_min, row_min, col_max, row_max) of each, slack included, float64, (n, 4).
        tree: their outlines without slack; finds by index into `positions`.
    """

    positions: npt.NDArray[np.int64]
    bounds: Float64Array
    tree: shapely.STRtree

    def meeting(self, boxes: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
        """Pairs of (box, index into `positions`) that meet, shape (2, n).

        Args:
            boxes: shapely boxes in pixels, shape (m,).
        """
        return np.asarray(self.tree.query(boxes, predicate="dwithin", distance=FOOTPRINT_SLACK_PX))


@functools.lru_cache(maxsize=64)
def zone_images(index: ImageIndex, grid: WorldGrid, reach_m: float) -> ZoneImages:
    """The images of an index that a zone's tiles can meet.

    Args:
        index: all images.
        grid: the zone's grid.
        reach_m: how far beyond the zone's six degrees tiles and their margins go.
    """
    positions = np.flatnonzero(_is_near(index.bounds, grid.central_meridian_deg, reach_m))
    pixels = outlines_to_pixels(grid, index.outlines(positions))
    slack = FOOTPRINT_SLACK_PX * np.array([-1.0, -1.0, 1.0, 1.0])
    bounds = np.asarray(shapely.bounds(pixels)).reshape(-1, 4) + slack
    return ZoneImages(positions=positions, bounds=bounds, tree=shapely.STRtree(pixels))


def metres_per_degree(latitude_deg: Float64Array) -> Float64Array:
    """Metres of a degree of longitude."""
    return np.asarray(METRES_PER_DEGREE * np.cos(np.radians(latitude_deg)))


def _is_near(bounds: Float64Array, meridian_deg: float, reach_m: float) -> npt.NDArray[np.bool_]:
    west, south, east, north = bounds.T
    latitude = np.minimum(np.maximum(np.abs(south), np.abs(north)), 84.0)
    reach = ZONE_WIDTH_DEG / 2 + reach_m / metres_per_degree(latitude)
    middle = unwrap_longitude((west + east) / 2, meridian_deg)
    return np.asarray(np.abs(middle - meridian_deg) <= (east - west) / 2 + reach)
