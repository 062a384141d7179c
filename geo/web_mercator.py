"""Web Mercator, as maps in browsers use it: the world as a square, and its tiles.

x runs east from the antimeridian and y south from 85.05 degrees north; both are 0 to 1 in the
square ("unit"), or integers of 32 bits ("world": steps of 1 cm at the equator), in which a tile of
zoom z is the top z bits.
"""

import math

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
Uint32Array = npt.NDArray[np.uint32]

MAX_LATITUDE_DEG = math.degrees(math.atan(math.sinh(math.pi)))
"""The square's northern edge; what lies beyond is drawn on it."""
WORLD_SIDE = 2**32
"""Steps of the world from side to side."""
CIRCUMFERENCE_M = 2 * math.pi * 6378137.0
"""The world's side in the metres of EPSG:3857."""


def to_unit(longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> tuple[Float64Array, Float64Array]:
    """Points in the unit square.

    Args:
        longitude: degrees; beyond +-180 gives x beyond 0 to 1.
        latitude: degrees; clipped to `MAX_LATITUDE_DEG`.

    Returns:
        x and y, float64, the inputs' shape.
    """
    lat = np.clip(np.asarray(latitude, np.float64), -MAX_LATITUDE_DEG, MAX_LATITUDE_DEG)
    y = 0.5 - np.arcsinh(np.tan(np.radians(lat))) / (2 * math.pi)
    return np.asarray(longitude, np.float64) / 360.0 + 0.5, np.clip(y, 0.0, 1.0)


def to_world(longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> tuple[Uint32Array, Uint32Array]:
    """Points as whole steps of the world, rounded down; longitudes are wrapped.

    Args:
        longitude: degrees, of any turn.
        latitude: degrees; clipped to `MAX_LATITUDE_DEG`.

    Returns:
        x and y, uint32, the inputs' shape.
    """
    unit_x, unit_y = to_unit(longitude, latitude)
    x = np.floor(unit_x * WORLD_SIDE).astype(np.int64) % WORLD_SIDE
    y = np.clip(np.floor(unit_y * WORLD_SIDE), 0, WORLD_SIDE - 1)
    return x.astype(np.uint32), y.astype(np.uint32)


def latitude_of(unit_y: float) -> float:
    """Latitude in degrees of a y in the unit square."""
    return math.degrees(math.atan(math.sinh(math.pi * (1.0 - 2.0 * unit_y))))


def tile_bounds(z: int, x: int, y: int) -> tuple[float, float, float, float]:
    """West, south, east and north of a tile in degrees."""
    side = 2.0**-z
    west, east = x * side * 360.0 - 180.0, (x + 1) * side * 360.0 - 180.0
    return west, latitude_of((y + 1) * side), east, latitude_of(y * side)
