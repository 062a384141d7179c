"""Metres of a UTM zone to degrees on the lattice: PROJ's, mostly without asking PROJ.

PROJ takes 0.1 us a point. Over the few kilometres of a tile, longitude and latitude are polynomials
of a low degree up to far less than a step of the lattice that they are rounded to afterwards. So
they are fitted to PROJ's own values, checked against it, and PROJ is asked again only about points
that lie so near the middle between two steps that the fit could fall on the other side.
"""

import functools

import numpy as np
import numpy.typing as npt

from geo.grid import WorldGrid, unwrap_longitude, zone_to_lonlat
from geo.kernels import borrowing_njit

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_DEGREE = 4
# Where the fit differs by more from PROJ, in degrees, PROJ does all points: the ground is too wide,
# or too near a pole. Otherwise a point is left to the fit if it lies ten times as far from the
# middle between two steps. The fit is checked where its error is largest; it is smooth in between.
_MAX_MISFIT_DEG = 1e-12
_MARGIN_DEG = 1e-11
# Below this number of points the fit costs more than it saves.
_MIN_POINTS = 500
_MAX_EXTENT_M = 20_000.0
_BLOCK = 256


def zone_to_degrees(coords_m: Float64Array, zone: int) -> Float64Array:
    """Longitude and latitude by PROJ, longitudes within 180 degrees of the zone's middle.

    Args:
        coords_m: metres in the zone's northern CRS (EPSG:326xx), float64, shape (n, 2).
        zone: UTM zone, 1 to 60.

    Returns:
        Degrees, float64, shape (n, 2); not finite where the CRS cannot express the point.
    """
    lon, lat = zone_to_lonlat(zone).transform(coords_m[:, 0], coords_m[:, 1])
    with np.errstate(invalid="ignore"):  # infinite ones become not a number
        lon = unwrap_longitude(lon, WorldGrid(zone, 1000).central_meridian_deg)
    return np.stack([lon, lat], axis=1)


def zone_to_rounded_degrees(coords_m: Float64Array, zone: int, step_deg: float) -> Float64Array:
    """As `zone_to_degrees`, for coordinates that are going to be rounded.

    Args:
        coords_m: metres in the zone's northern CRS, float64, shape (n, 2).
        zone: UTM zone, 1 to 60.
        step_deg: what the degrees will be rounded to multiples of; a power of two, above 1e-9.

    Returns:
        Degrees, within 1e-11 of PROJ's, that round to the same multiples of the step.
    """
    if len(coords_m) < _MIN_POINTS:
        return zone_to_degrees(coords_m, zone)
    bounds = np.array(_bounds(coords_m))
    low, high = bounds[:2], bounds[2:]
    if not (high - low <= _MAX_EXTENT_M).all():
        return zone_to_degrees(coords_m, zone)
    centre, half = (low + high) / 2, np.maximum((high - low) / 2, 1.0)
    fit = _fit(centre, half, zone)
    if fit is None:
        return zone_to_degrees(coords_m, zone)
    degrees, is_near_tie = np.empty_like(coords_m), np.empty(len(coords_m), np.bool_)
    scratch = np.empty((4, _BLOCK))
    _evaluate(coords_m, centre, 1.0 / half, fit, step_deg, degrees, is_near_tie, scratch)
    near_tie = np.flatnonzero(is_near_tie)
    degrees[near_tie] = zone_to_degrees(coords_m[near_tie], zone)
    return degrees


def _fit(centre: Float64Array, half: Float64Array, zone: int) -> Float64Array | None:
    """Coefficients [axis, power of x, power of y] about the centre, or None if they misfit."""
    nodes, checks, solve, predict = _design()
    values = zone_to_degrees(np.concatenate([nodes, checks]) * half + centre, zone)
    if not np.isfinite(values).all():
        return None
    at_nodes, at_checks = values[: len(nodes)], values[len(nodes) :]
    middle = at_nodes.mean(axis=0)  # kept apart, so that no digits are lost
    coefficients = solve @ (at_nodes - middle)
    misfit = np.abs(predict @ coefficients + middle - at_checks).max()
    if misfit > _MAX_MISFIT_DEG:
        return None
    fit = np.zeros((2, _DEGREE + 1, _DEGREE + 1))
    for k, (i, j) in enumerate(_powers()):
        fit[:, i, j] = coefficients[k]
    fit[:, 0, 0] += middle
    return fit


def _powers() -> list[tuple[int, int]]:
    return [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]


@functools.cache
def _design() -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Nodes and checks in [-1, 1]^2; the matrices from node values and to check values.

    The nodes are Chebyshev's, zeros of the polynomial of the next degree, which the error of the
    fit looks like; the checks are where that is largest, the corners included.
    """
    num = _DEGREE + 2
    zeros = np.cos((np.arange(num) + 0.5) * np.pi / num)
    extrema = np.cos(np.arange(num + 1) * np.pi / num)

    def square(values: Float64Array) -> Float64Array:
        return np.asarray(np.stack(np.meshgrid(values, values), axis=-1).reshape(-1, 2))

    def terms(points: Float64Array) -> Float64Array:
        return np.stack([points[:, 0] ** i * points[:, 1] ** j for i, j in _powers()], axis=1)

    nodes, checks = square(zeros), square(extrema)
    return nodes, checks, np.asarray(np.linalg.pinv(terms(nodes))), terms(checks)


@borrowing_njit()
def _evaluate(
    coords: Float64Array,
    centre: Float64Array,
    scale: Float64Array,
    fit: Float64Array,
    step_deg: float,
    degrees: Float64Array,
    is_near_tie: BoolArray,
    scratch: Float64Array,
) -> None:
    """Fill the degrees, and which points PROJ has to decide; scratch of shape (4, _BLOCK)."""
    for begin in range(0, len(coords), _BLOCK):
        block, out = coords[begin : begin + _BLOCK], degrees[begin : begin + _BLOCK]
        near_tie = is_near_tie[begin : begin + _BLOCK]
        x, y, total, part = scratch[0], scratch[1], scratch[2], scratch[3]
        for k in range(len(block)):
            x[k] = (block[k, 0] - centre[0]) * scale[0]
            y[k] = (block[k, 1] - centre[1]) * scale[1]
            near_tie[k] = False
        for axis in range(2):
            _evaluate_block(x, y, fit[axis], len(block), total, part)
            for k in range(len(block)):
                out[k, axis] = total[k]
                steps = total[k] / step_deg
                near_tie[k] |= abs(steps - np.rint(steps)) > 0.5 - _MARGIN_DEG / step_deg


@borrowing_njit()
def _evaluate_block(
    x: Float64Array,
    y: Float64Array,
    coefficients: Float64Array,
    num: int,
    total: Float64Array,
    part: Float64Array,
) -> None:
    """Fill the values of a polynomial; the inner loops run over points, to vectorise."""
    for k in range(num):
        total[k] = 0.0
    for i in range(_DEGREE, -1, -1):
        for k in range(num):
            part[k] = 0.0
        for j in range(_DEGREE - i, -1, -1):
            coefficient = coefficients[i, j]
            for k in range(num):
                part[k] = part[k] * y[k] + coefficient
        for k in range(num):
            total[k] = total[k] * x[k] + part[k]


@borrowing_njit()
def _bounds(coords: Float64Array) -> tuple[float, float, float, float]:
    """Least and greatest of both columns; not numbers where there is one that is not."""
    x_min, y_min, x_max, y_max = np.inf, np.inf, -np.inf, -np.inf
    doubt = 0.0
    for k in range(len(coords)):
        x, y = coords[k, 0], coords[k, 1]
        x_min, x_max = min(x_min, x), max(x_max, x)
        y_min, y_max = min(y_min, y), max(y_max, y)
        doubt += (x - x) + (y - y)  # not a number, if one is not finite
    return x_min + doubt, y_min + doubt, x_max + doubt, y_max + doubt
