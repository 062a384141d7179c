"""Plus Codes (Open Location Codes) of points, computed on arrays.

The order of the float operations is that of the package `pluscodes`, so that every code equals the
package's to the last digit, on cell edges too; that package stays the reference in tests.
https://github.com/google/open-location-code/blob/main/Documentation/Specification/specification.md
"""

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.errors import GeometryError

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Uint8Array = npt.NDArray[np.uint8]
BytesArray = npt.NDArray[np.bytes_]

FULL_CODE_LENGTH = 12
"""Digits of the codes that Open Buildings publishes: cells of 0.6 m x 0.9 m at the equator."""

_MAX_LENGTH = 15
_SEPARATOR_AT = 8
_LENGTHS = (2, 4, 6, 8, 10, 11, 12, 13, 14, 15)
_ALPHABET = np.frombuffer(b"23456789CFGHJMPQRVWX", np.uint8)
_SEPARATOR, _PADDING = ord("+"), ord("0")
# Steps per degree of a code of 15 digits: 20^3 from the pairs, then 5 rows and 4 columns a digit.
_LAT_STEPS, _LON_STEPS = 25_000_000.0, 8_192_000.0
# Python rounds to 6 decimals before it truncates: up exactly when less than this is missing.
_ROUNDED_UP = 5e-7


def encode_plus_codes(
    latitude: npt.ArrayLike, longitude: npt.ArrayLike, code_length: int = FULL_CODE_LENGTH
) -> BytesArray:
    """Plus Codes of points.

    Args:
        latitude: degrees in [-90, 90]; 90 is moved into the last cell, as the specification asks.
        longitude: degrees in [-180, 180]; 180 counts as -180.
        code_length: digits without the separator: 2, 4, 6, 8 or 10 to 15.

    Returns:
        ASCII codes, shape (n,), dtype `S{code_length + 1}`; `S9` below 8 digits (padded with 0).

    Raises:
        ValueError: if the code length does not exist.
        GeometryError: if a coordinate is not finite or out of range (wrap longitudes first).
    """
    if code_length not in _LENGTHS:
        raise ValueError(f"code_length = {code_length}; expected one of {_LENGTHS}")
    lat = np.ascontiguousarray(latitude, np.float64)
    lon = np.ascontiguousarray(longitude, np.float64)
    if lat.ndim != 1 or lat.shape != lon.shape:
        raise ValueError(f"expected two arrays of one length, got {lat.shape} and {lon.shape}")
    width = max(code_length, _SEPARATOR_AT) + 1
    codes = np.empty((len(lat), width), np.uint8)
    bad = _encode(lat, lon, 90.0 - _cell_height_deg(code_length), code_length, codes)
    if bad >= 0:
        raise GeometryError(
            f"point {bad} at latitude {lat[bad]}, longitude {lon[bad]} has no Plus Code; expected "
            "[-90, 90] and [-180, 180]: wrap longitudes first"
        )
    return codes.reshape(-1).view(f"S{width}")


def plus_codes_to_arrow(codes: BytesArray) -> pa.StringArray:
    """Codes as an Arrow string column; the bytes are shared, not copied.

    Args:
        codes: what `encode_plus_codes` returned.
    """
    offsets = np.arange(len(codes) + 1, dtype=np.int32) * np.int32(codes.dtype.itemsize)
    buffers = pa.py_buffer(offsets), pa.py_buffer(codes.view(np.uint8))
    return pa.StringArray.from_buffers(len(codes), *buffers)


def _cell_height_deg(code_length: int) -> float:
    """Height of a cell, computed as the package does (its value shows at the north pole)."""
    if code_length <= 10:
        return float(pow(20, code_length // -2 + 2))
    return float(pow(20, -3) / pow(5, code_length - 10))


@numba.njit(cache=True, nogil=True)
def _rounded_floor(value: float) -> int:
    """`int(round(value, 6))` of Python for 0 <= value < 2^33.

    Python's round is decimal and exact: it reaches the next integer when at most 5e-7 is missing.
    There is no tie, since 5e-7 is no binary fraction, and no other way up: below 2^33 doubles lie
    closer than 1e-6, so that the decimal just below an integer never rounds to that integer. The
    differences here are exact.
    """
    whole = np.int64(value)
    is_up = 1.0 - (value - whole) < _ROUNDED_UP
    return int(whole + is_up)


@numba.njit(cache=True, nogil=True)
def _encode(
    lat: Float64Array, lon: Float64Array, below_pole: float, length: int, codes: Uint8Array
) -> int:
    """Fill one code a row; returns the first point without a code, or -1."""
    digits = np.empty(_MAX_LENGTH, np.uint8)
    for i in range(len(lat)):
        y, x = lat[i], lon[i]
        if not (-90.0 <= y <= 90.0 and -180.0 <= x <= 180.0):
            return i
        row = _rounded_floor(((below_pole if y == 90.0 else y) + 90.0) * _LAT_STEPS)
        col = _rounded_floor(((-180.0 if x == 180.0 else x) + 180.0) * _LON_STEPS)
        _write_digits(row, col, digits)
        for k in range(codes.shape[1]):
            if k == _SEPARATOR_AT:
                codes[i, k] = _SEPARATOR
            else:
                at = k if k < _SEPARATOR_AT else k - 1
                codes[i, k] = digits[at] if at < length else _PADDING
    return -1


@numba.njit(cache=True, nogil=True)
def _write_digits(row: int, col: int, digits: Uint8Array) -> None:
    """The 15 digits of a cell: five pairs in base 20, then five grid digits of 5 x 4."""
    for k in range(14, 9, -1):
        digits[k] = _ALPHABET[(row % 5) * 4 + col % 4]
        row //= 5
        col //= 4
    for k in range(8, -1, -2):
        digits[k + 1] = _ALPHABET[col % 20]
        digits[k] = _ALPHABET[row % 20]
        row //= 20
        col //= 20
