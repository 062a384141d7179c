"""How far two outlines of the same building lie apart, in metres."""

import numpy as np
import numpy.typing as npt
import shapely

from geo.matching import Float64Array, PolygonObjects

SAMPLE_SPACING_M = 0.1
"""Largest distance between two points at which an outline is measured."""


def boundary_errors_m(
    first: PolygonObjects, second: PolygonObjects, *, spacing_m: float = SAMPLE_SPACING_M
) -> Float64Array:
    """Symmetric mean distance between the outlines of pairs of polygons.

    Points lie evenly along every outline, holes included, and each is measured to the nearest point
    of the other outline. The mean over one outline and the mean over the other count half each, so
    that neither a long nor a detailed outline decides. The measure is that of the "average
    symmetric surface distance" of medical imaging, on curves.

    Args:
        first: polygons in a metric CRS, shape (n,).
        second: their partners in the same CRS, shape (n,).
        spacing_m: largest distance between two points; their number per side is rounded up.

    Returns:
        Distances in metres, float64, shape (n,); 0 for equal outlines.

    Raises:
        ValueError: if the numbers of polygons differ or the spacing is not positive.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} polygons against {len(second)}; expected pairs")
    if not spacing_m > 0:
        raise ValueError(f"spacing_m = {spacing_m}; expected a positive number of metres")
    outlines, others = shapely.boundary(first), shapely.boundary(second)
    there = _mean_distances(outlines, others, spacing_m)
    back = _mean_distances(others, outlines, spacing_m)
    return (there + back) / 2


def _mean_distances(
    outlines: PolygonObjects, others: PolygonObjects, spacing_m: float
) -> Float64Array:
    """Mean distance of points along each outline to the other outline of its pair."""
    lengths = shapely.length(outlines)
    num_points = np.maximum(np.ceil(lengths / spacing_m).astype(np.int64), 1)
    owner = np.repeat(np.arange(len(outlines)), num_points)
    # Midpoints of equal pieces: every stretch of the outline has the same weight.
    index = np.arange(len(owner)) - np.repeat(np.cumsum(num_points) - num_points, num_points)
    along = (index + 0.5) * (lengths / num_points)[owner]
    points = _points_along(outlines, owner, along)
    shapely.prepare(others)
    distances = shapely.distance(points, others[owner])
    sums = np.bincount(owner, distances, minlength=len(outlines))
    return np.asarray(sums / num_points, np.float64)


def _points_along(
    outlines: PolygonObjects, owner: npt.NDArray[np.int64], along: Float64Array
) -> PolygonObjects:
    """Points at given lengths along outlines; the rings of one follow each other."""
    rings, ring_owner = shapely.get_parts(outlines, return_index=True)
    ends = np.cumsum(shapely.length(rings))
    starts = ends - shapely.length(rings)
    # All rings laid end to end: one search finds the ring of every point.
    first_ring = np.searchsorted(ring_owner, np.arange(len(outlines)))
    place = starts[first_ring][owner] + along
    ring = np.minimum(np.searchsorted(ends, place, side="right"), len(rings) - 1)
    ring = np.clip(ring, first_ring[owner], None)
    points: PolygonObjects = shapely.line_interpolate_point(rings[ring], place - starts[ring])
    return points
