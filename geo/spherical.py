"""Areas and centroids of polygons in longitude and latitude.

Areas are those of Open Buildings: on a sphere with the S2 Earth radius, edges along great circles.
Centroids are planar in degrees. The published ones are S2's loop centroids to the last of their 8
decimals; on polygons of a few metres that formula is off by up to half a millimetre, so that the
exact value can differ by one in the 8th decimal. We keep the exact one. Both are computed relative
to a ring's first vertex, so that nothing is lost on small polygons.
"""

import math

import numba
import numpy as np
import numpy.typing as npt

from geo.errors import GeometryError
from geo.polygons import PolygonArray

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

EARTH_RADIUS_M = 6_371_010.0
"""Radius of the sphere of `area_in_meters`: S2's, which matches published rows to 4 decimals."""

_DEGREE = math.pi / 180.0


def polygon_areas_m2(polygons: PolygonArray) -> Float64Array:
    """Area of each polygon on the sphere, holes subtracted.

    Each ring is a fan of spherical triangles, signed by `2 atan2(det(a, b, c), 1 + ab + bc + ca)`
    (Van Oosterom and Strackee 1983, with a unit sphere's solid angle), where the determinant is
    taken from edge vectors. Rings count by their size, whichever way they run. Meant for polygons
    of up to a few hundred kilometres that hold no pole.

    Args:
        polygons: longitude and latitude in degrees.

    Returns:
        Square metres, float64, shape (n,); 0 for a polygon without rings.
    """
    return _areas(polygons.coords, polygons.ring_offsets, polygons.polygon_offsets)


def polygon_centroids(polygons: PolygonArray) -> Float64Array:
    """Planar centroid of each polygon, holes taken into account.

    Args:
        polygons: any planar coordinates, longitude and latitude included.

    Returns:
        (x, y) as float64, shape (n, 2).

    Raises:
        GeometryError: if a polygon has no area, so that its centroid is undefined.
    """
    centroids, bad = _centroids(polygons.coords, polygons.ring_offsets, polygons.polygon_offsets)
    if bad >= 0:
        raise GeometryError(
            f"polygon {bad} has no area and so no centroid; repair or drop it first "
            "(snap_polygons reports such polygons)"
        )
    return np.asarray(centroids)


@numba.njit(cache=True, nogil=True)
def _unit_vector(lon_deg: float, lat_deg: float) -> tuple[float, float, float]:
    lon, lat = lon_deg * _DEGREE, lat_deg * _DEGREE
    cos_lat = math.cos(lat)
    return math.cos(lon) * cos_lat, math.sin(lon) * cos_lat, math.sin(lat)


@numba.njit(cache=True, nogil=True)
def _atan2(y: float, x: float) -> float:
    """`atan2`, at once where the angle is so small that it equals its tangent to the last bit."""
    return y / x if abs(y) < 1e-9 * x else math.atan2(y, x)


@numba.njit(cache=True, nogil=True)
def _ring_area(coords: Float64Array, start: int, end: int) -> float:
    """Signed solid angle of a closed ring (points start to end - 1), as a fan from its start."""
    ax, ay, az = _unit_vector(coords[start, 0], coords[start, 1])
    bx, by, bz = _unit_vector(coords[start + 1, 0], coords[start + 1, 1])
    ux, uy, uz = bx - ax, by - ay, bz - az
    total = 0.0
    for k in range(start + 2, end - 1):
        cx, cy, cz = _unit_vector(coords[k, 0], coords[k, 1])
        vx, vy, vz = cx - ax, cy - ay, cz - az
        det = ax * (uy * vz - uz * vy) + ay * (uz * vx - ux * vz) + az * (ux * vy - uy * vx)
        dots = (
            ax * bx + ay * by + az * bz + bx * cx + by * cy + bz * cz + cx * ax + cy * ay + cz * az
        )
        total += 2.0 * _atan2(det, 1.0 + dots)
        bx, by, bz = cx, cy, cz
        ux, uy, uz = vx, vy, vz
    return total


@numba.njit(cache=True, nogil=True)
def _areas(
    coords: Float64Array, ring_offsets: Int64Array, polygon_offsets: Int64Array
) -> Float64Array:
    areas = np.zeros(len(polygon_offsets) - 1)
    for i in range(len(areas)):
        first = polygon_offsets[i]
        for j in range(first, polygon_offsets[i + 1]):
            if ring_offsets[j + 1] - ring_offsets[j] < 4:
                continue
            ring = abs(_ring_area(coords, ring_offsets[j], ring_offsets[j + 1]))
            areas[i] += ring if j == first else -ring
        areas[i] *= EARTH_RADIUS_M * EARTH_RADIUS_M
    return areas


@numba.njit(cache=True, nogil=True)
def _ring_moments(
    coords: Float64Array, start: int, end: int, x0: float, y0: float
) -> tuple[float, float, float]:
    """Twice the signed area, and six times the first moments about (x0, y0), of a closed ring."""
    area, mx, my = 0.0, 0.0, 0.0
    for k in range(start, end - 1):
        ax, ay = coords[k, 0] - x0, coords[k, 1] - y0
        bx, by = coords[k + 1, 0] - x0, coords[k + 1, 1] - y0
        cross = ax * by - bx * ay
        area += cross
        mx += (ax + bx) * cross
        my += (ay + by) * cross
    return area, mx, my


@numba.njit(cache=True, nogil=True)
def _centroids(
    coords: Float64Array, ring_offsets: Int64Array, polygon_offsets: Int64Array
) -> tuple[Float64Array, int]:
    """Centroids, and the first polygon that has none (or -1)."""
    centroids = np.empty((len(polygon_offsets) - 1, 2))
    for i in range(len(centroids)):
        first, last = polygon_offsets[i], polygon_offsets[i + 1]
        if first == last or ring_offsets[first] == ring_offsets[first + 1]:
            return centroids, i
        x0, y0 = coords[ring_offsets[first], 0], coords[ring_offsets[first], 1]
        area, mx, my = 0.0, 0.0, 0.0
        for j in range(first, last):
            a, x, y = _ring_moments(coords, ring_offsets[j], ring_offsets[j + 1], x0, y0)
            # The shell counts as positive and a hole as negative, whichever way they run.
            sign = 1.0 if (a > 0.0) == (j == first) else -1.0
            area, mx, my = area + sign * a, mx + sign * x, my + sign * y
        if not area > 0.0:
            return centroids, i
        centroids[i, 0] = x0 + mx / (3.0 * area)
        centroids[i, 1] = y0 + my / (3.0 * area)
    return centroids, -1
