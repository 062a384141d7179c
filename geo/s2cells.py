"""S2 cells of points, computed on arrays, and what shards need to know about a cell.

`s2_leaf_cells` follows S2's own float operations (s2coords.h, s2cell_id.cc of
https://github.com/google/s2geometry) step by step, so that its ids are those of the library to the
bit; the library is the reference in tests. Cells of any level are their 64-bit ids.
"""

import math

import numba
import numpy as np
import numpy.typing as npt
import shapely

from geo.errors import GeometryError

Float64Array = npt.NDArray[np.float64]
Uint64Array = npt.NDArray[np.uint64]

MAX_LEVEL = 30
"""Level of leaf cells, about 1 cm wide."""

_DEGREE = math.pi / 180.0
_NUM_FACES = 6
_LEAVES_PER_FACE = 1 << MAX_LEVEL
_ONE = np.uint64(1)
# The Hilbert curve, by orientation: where quadrant (2 i + j) comes in the curve's order, and how
# the orientation changes inside the quadrant at that place (1 swaps i and j, 2 inverts both).
_POSITION = np.array([[0, 1, 3, 2], [0, 3, 1, 2], [2, 3, 1, 0], [2, 1, 3, 0]], np.uint8)
_TURN = np.array([1, 0, 0, 3], np.uint8)


def s2_leaf_cells(latitude: npt.ArrayLike, longitude: npt.ArrayLike) -> Uint64Array:
    """Leaf cells of points, equal to `S2CellId(S2LatLng.FromDegrees(lat, lon))`.

    Args:
        latitude: degrees in [-90, 90].
        longitude: degrees; any finite number of turns.

    Returns:
        Cell ids, uint64, shape (n,).

    Raises:
        GeometryError: if a coordinate is not finite or a latitude out of range.
    """
    lat = np.ascontiguousarray(latitude, np.float64)
    lon = np.ascontiguousarray(longitude, np.float64)
    if lat.ndim != 1 or lat.shape != lon.shape:
        raise ValueError(f"expected two arrays of one length, got {lat.shape} and {lon.shape}")
    cells = np.empty(len(lat), np.uint64)
    bad = _leaf_cells(lat, lon, cells)
    if bad >= 0:
        raise GeometryError(
            f"point {bad} at latitude {lat[bad]}, longitude {lon[bad]} lies in no S2 cell"
        )
    return cells


def cell_level(cell: int) -> int:
    """Level of a cell, 0 (a face) to 30 (a leaf).

    Raises:
        ValueError: if the number is no cell id.
    """
    cell = int(cell)
    trailing_zeros = (cell & -cell).bit_length() - 1
    if not 0 < cell < 1 << 64 or cell >> 61 >= _NUM_FACES or trailing_zeros % 2:
        raise ValueError(f"{cell:#x} is no S2 cell id")
    return MAX_LEVEL - trailing_zeros // 2


def cell_parent(cells: Uint64Array, level: int) -> Uint64Array:
    """Cells of a coarser (or the same) level that hold the given cells.

    Args:
        cells: cell ids of `level` or finer, uint64.
        level: 0 to 30.

    Raises:
        ValueError: if the level does not exist, or a cell is coarser than it.
    """
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"level = {level}; S2 levels run from 0 to {MAX_LEVEL}")
    cells = np.asarray(cells, np.uint64)
    lowest = np.uint64(1 << 2 * (MAX_LEVEL - level))
    if np.any((cells & (lowest - _ONE | lowest)) == 0):
        raise ValueError(f"a cell is coarser than level {level}, or 0")
    return (cells & ~(lowest - _ONE | lowest)) | lowest


def cell_token(cell: int) -> str:
    """The cell's id in hexadecimal without trailing zeros: its name in file names."""
    cell_level(cell)
    return f"{int(cell):016x}".rstrip("0")


def cell_from_token(token: str) -> int:
    """The cell of a token.

    Raises:
        ValueError: if the text is no token of a cell.
    """
    if not 1 <= len(token) <= 16 or not set(token) <= set("0123456789abcdef"):
        raise ValueError(f"{token!r} is no S2 token; expected 1 to 16 lower case hex digits")
    cell = int(token.ljust(16, "0"), 16)
    cell_level(cell)
    return cell


def cell_range(cell: int) -> tuple[int, int]:
    """First and last leaf cell inside a cell, both inclusive."""
    cell_level(cell)
    cell = int(cell)
    reach = (cell & -cell) - 1
    return cell - reach, cell + reach


def cell_polygon(cell: int, num_steps: int = 16) -> shapely.Polygon:
    """The cell's outline in longitude and latitude, its curved edges densified.

    Longitudes run on without a jump (values beyond +-180 occur at the antimeridian). A pole on the
    outline becomes an edge along it, and the two faces around a pole become caps of 360 degrees.

    Args:
        cell: cell id.
        num_steps: points per edge.

    Returns:
        A valid polygon, counter-clockwise, EPSG:4326.
    """
    import s2geometry  # kept out of the import: only shards and pictures draw cells

    cell_level(cell)
    s2_cell = s2geometry.S2Cell(s2geometry.S2CellId(int(cell)))
    corners = np.array([[v.x(), v.y(), v.z()] for v in (s2_cell.GetVertex(k) for k in range(4))])
    # Edges are geodesics: points between two corners are normalised chords.
    t = (np.arange(num_steps) / num_steps)[:, np.newaxis]
    edges = [
        a * (1 - t) + b * t for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    x, y, z = np.concatenate(edges).T
    lat = np.degrees(np.arctan2(z, np.hypot(x, y)))
    lon = np.degrees(np.arctan2(y, x))
    return shapely.Polygon(_outline_on_the_map(lon, lat))


def _outline_on_the_map(lon: Float64Array, lat: Float64Array) -> Float64Array:
    """Ring points without jumps of longitude, poles drawn as edges."""
    at_pole = np.abs(lat) > 90.0 - 1e-9
    if at_pole.any():
        pole = int(np.flatnonzero(at_pole)[0])
        lon = np.unwrap(np.roll(lon, -pole)[1:], period=360.0)
        lat = np.roll(lat, -pole)
        lon = np.concatenate([lon[:1], lon, lon[-1:]])
        lat = np.concatenate([lat[:1], lat[1:], lat[:1]])
    else:
        lon = np.unwrap(np.append(lon, lon[0]), period=360.0)
        turn = lon[-1] - lon[0]
        if abs(turn) > 180.0:  # round a pole: close the cap along it
            pole_lat = math.copysign(90.0, lat[0])
            lon = np.concatenate([lon, [lon[-1], lon[0]]])
            lat = np.concatenate([lat, [lat[0], pole_lat, pole_lat]])
        else:
            lon = lon[:-1]
    middle = (lon.min() + lon.max()) / 2
    return np.stack([lon - 360.0 * np.round(middle / 360.0), lat], axis=1)


@numba.njit(cache=True, nogil=True)
def _face_and_uv(x: float, y: float, z: float) -> tuple[int, float, float]:
    """Face of the cube that a direction meets, and where on it (XYZtoFaceUV)."""
    ax, ay, az = abs(x), abs(y), abs(z)
    axis = (0 if ax > az else 2) if ax > ay else (1 if ay > az else 2)
    if axis == 0:
        return (0, y / x, z / x) if x > 0.0 else (3, z / x, y / x)
    if axis == 1:
        return (1, -x / y, z / y) if y > 0.0 else (4, z / y, -x / y)
    return (2, -x / z, -y / z) if z > 0.0 else (5, -y / z, -x / z)


@numba.njit(cache=True, nogil=True)
def _leaf_index(u: float) -> int:
    """Index of a leaf along one axis of a face (UVtoST with S2's quadratic, then STtoIJ).

    Release 0.14 rounds `limit * s - 0.5` with ties upwards, which is the floor of `limit * s`.
    Older sources (FastIntRound) took ties to even: there, points exactly on the edge of two leaves
    could fall into the other one.
    """
    s = 0.5 * math.sqrt(1.0 + 3.0 * u) if u >= 0.0 else 1.0 - 0.5 * math.sqrt(1.0 - 3.0 * u)
    index = int(_LEAVES_PER_FACE * s)
    return max(0, min(_LEAVES_PER_FACE - 1, index))


@numba.njit(cache=True, nogil=True)
def _leaf_cells(lat_deg: Float64Array, lon_deg: Float64Array, cells: Uint64Array) -> int:
    """Fill the leaf cell of each point; returns the first point without one, or -1."""
    for k in range(len(cells)):
        if not (-90.0 <= lat_deg[k] <= 90.0 and math.isfinite(lon_deg[k])):
            return k
        lat, lon = _DEGREE * lat_deg[k], _DEGREE * lon_deg[k]
        cos_lat = math.cos(lat)
        face, u, v = _face_and_uv(math.cos(lon) * cos_lat, math.sin(lon) * cos_lat, math.sin(lat))
        i, j = _leaf_index(u), _leaf_index(v)
        place = np.int64(face)
        orientation = face & 1
        for bit in range(MAX_LEVEL - 1, -1, -1):
            position = _POSITION[orientation, ((i >> bit) & 1) * 2 + ((j >> bit) & 1)]
            place = (place << 2) | np.int64(position)
            orientation ^= np.int64(_TURN[position])
        # place has 63 bits, the shift makes it 64: as unsigned numbers only.
        cells[k] = (np.uint64(place) << _ONE) | _ONE
    return -1
