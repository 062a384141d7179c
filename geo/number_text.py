"""Numbers and rings as text, a column at a time: what the text formats print.

Values are printed from the double as it is, digit by digit in integers, so that the text is the
correctly rounded one. Python's own formatting is the reference in tests.
"""

import math
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.polygons import PolygonArray

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Uint8Array = npt.NDArray[np.uint8]

SIGNIFICANT_DIGITS = 15
"""Of `%.15g`: any decimal of up to 15 digits comes back, and a double to half of the last digit."""

_ZERO, _MINUS, _POINT = ord("0"), ord("-"), ord(".")
_SPACE, _COMMA, _OPEN, _CLOSE = ord(" "), ord(","), ord("("), ord(")")
_SQUARE_OPEN, _SQUARE_CLOSE = ord("["), ord("]")
_E = ord("e")
# Bits of a fraction that is printed digit by digit: ten times it still fits 64 bits.
_FRACTION_BITS = 60
_LONGEST_NUMBER = 26
_MAX_BYTES = 2**31 - 1


def fixed_text(values: npt.ArrayLike, decimals: int, *, strip: bool = False) -> pa.StringArray:
    """Numbers with a fixed number of decimals.

    Args:
        values: finite numbers below 2^53 / 10^decimals, shape (n,).
        decimals: digits after the point, 0 to 9.
        strip: leave out zeros at the end, and a point that nothing follows.
    """
    numbers = np.ascontiguousarray(values, np.float64)
    limit = 2.0**53 / 10**decimals
    if len(numbers) and not (np.abs(numbers) < limit).all():
        worst = numbers[int(np.argmax(~(np.abs(numbers) < limit)))]
        raise ValueError(f"{worst} cannot be printed with {decimals} decimals")
    offsets = np.zeros(len(numbers) + 1, np.int32)
    data = np.empty(len(numbers) * _LONGEST_NUMBER, np.uint8)
    length = _print_fixed(numbers, decimals, strip, offsets, data)
    return _strings(offsets, data[:length])


def ring_text(
    polygons: PolygonArray, style: Literal["wkt", "geojson"], *, decimals: int = 9
) -> pa.StringArray:
    """The outlines as text, rings in the order and direction they have.

    Args:
        polygons: longitude and latitude in degrees.
        style: `wkt` gives `POLYGON((x y, x y), (...))` with 15 significant digits, as Open
            Buildings prints it; `geojson` the value of `coordinates`, with so many decimals.
        decimals: for `geojson`; 9 (0.1 mm) tell the coordinates of footprints apart.

    Raises:
        ValueError: if the text is longer than the 2 GiB of an Arrow column.
    """
    points = len(polygons.coords)
    size = points * (2 * _LONGEST_NUMBER + 4) + len(polygons.ring_offsets) * 4 + 16 * len(polygons)
    if size > _MAX_BYTES:
        raise ValueError(f"{len(polygons)} outlines are too many for one column; print fewer")
    offsets = np.zeros(len(polygons) + 1, np.int32)
    data = np.empty(size, np.uint8)
    print_rings = _print_wkt if style == "wkt" else _print_geojson
    length = print_rings(
        polygons.coords, polygons.ring_offsets, polygons.polygon_offsets, decimals, offsets, data
    )
    return _strings(offsets, data[:length])


def _strings(offsets: Int32Array, data: Uint8Array) -> pa.StringArray:
    """An Arrow column; a copy, since the room was for the longest texts."""
    buffers = pa.py_buffer(offsets), pa.py_buffer(data.copy())
    return pa.StringArray.from_buffers(len(offsets) - 1, *buffers)


@numba.njit(cache=True, nogil=True)
def _put_whole(data: Uint8Array, at: int, number: int) -> int:
    """The digits of a number of at least 0."""
    num_digits, rest = 1, number // 10
    while rest > 0:
        num_digits += 1
        rest //= 10
    for k in range(num_digits - 1, -1, -1):
        data[at + k] = _ZERO + number % 10
        number //= 10
    return at + num_digits


@numba.njit(cache=True, nogil=True)
def _put_fixed(data: Uint8Array, at: int, value: float, decimals: int, strip: bool) -> int:
    """`%.{decimals}f`, for values that lie not within a rounding error of a tie."""
    power = 10**decimals
    scaled = np.int64(np.rint(abs(value) * power))
    if value < 0.0 and scaled > 0:
        data[at] = _MINUS
        at += 1
    at = _put_whole(data, at, scaled // power)
    rest = scaled % power
    if decimals == 0 or (strip and rest == 0):
        return at
    data[at] = _POINT
    for k in range(decimals, 0, -1):
        data[at + k] = _ZERO + rest % 10
        rest //= 10
    at += decimals
    while strip and data[at] == _ZERO:
        at -= 1
    return at + 1


@numba.njit(cache=True, nogil=True)
def _put_significant(data: Uint8Array, at: int, value: float) -> int:
    """`%.15g`; exact for multiples of 2^-60, such as all numbers from 0.004 to 2^50."""
    if value < 0.0:
        data[at] = _MINUS
        at += 1
        value = -value
    if value == 0.0:
        data[at] = _ZERO
        return at + 1
    digits = np.empty(_LONGEST_NUMBER + 20, np.uint8)
    num, exponent = _significant_digits(value, digits)
    if exponent < -4:
        return _put_scientific(data, at, digits, num, exponent)
    if exponent < 0:
        data[at], data[at + 1] = _ZERO, _POINT
        at += 2
        for _ in range(-1 - exponent):
            data[at] = _ZERO
            at += 1
    for k in range(max(num, exponent + 1)):
        if k == exponent + 1 and exponent >= 0:
            data[at] = _POINT
            at += 1
        data[at] = _ZERO + (digits[k] if k < num else 0)
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _put_scientific(data: Uint8Array, at: int, digits: Uint8Array, num: int, exponent: int) -> int:
    """d.ddde-XX."""
    for k in range(num):
        if k == 1:
            data[at] = _POINT
            at += 1
        data[at] = _ZERO + digits[k]
        at += 1
    data[at], data[at + 1] = _E, _MINUS
    if -exponent < 10:
        data[at + 2] = _ZERO
        at += 1
    return _put_whole(data, at + 2, -exponent)


@numba.njit(cache=True, nogil=True)
def _significant_digits(value: float, digits: Uint8Array) -> tuple[int, int]:
    """Up to 15 digits, without zeros at the end, and the exponent of the first one.

    The whole part is printed as an integer; of the fraction, in units of 2^-60, each digit is the
    carry of ten times it. What is left decides the rounding, ties to even.
    """
    whole = np.int64(math.floor(value))
    fraction = np.int64((value - whole) * 2.0**_FRACTION_BITS)
    mask = (np.int64(1) << _FRACTION_BITS) - 1
    num, exponent = 0, -1
    if whole > 0:
        num = _put_whole(digits, 0, whole)
        for k in range(num):
            digits[k] -= _ZERO
        exponent = num - 1
    while num < SIGNIFICANT_DIGITS:
        # As unsigned: ten times 2^60 is more than 2^63.
        tenfold = np.uint64(fraction) * np.uint64(10)
        digit = np.int64(tenfold >> np.uint64(_FRACTION_BITS))
        fraction = np.int64(tenfold & np.uint64(mask))
        if num == 0 and digit == 0:
            exponent -= 1
            continue
        digits[num] = digit
        num += 1
    half = np.int64(1) << (_FRACTION_BITS - 1)
    if fraction > half or (fraction == half and digits[num - 1] % 2 == 1):
        k = num - 1
        while k >= 0 and digits[k] == 9:
            digits[k] = 0
            k -= 1
        if k >= 0:
            digits[k] += 1
        else:
            digits[0] = 1
            exponent += 1
    while num > 1 and digits[num - 1] == 0:
        num -= 1
    return num, exponent


@numba.njit(cache=True, nogil=True)
def _print_fixed(
    values: Float64Array, decimals: int, strip: bool, offsets: Int32Array, data: Uint8Array
) -> int:
    at = 0
    for i in range(len(values)):
        at = _put_fixed(data, at, values[i], decimals, strip)
        offsets[i + 1] = at
    return at


@numba.njit(cache=True, nogil=True)
def _print_wkt(
    coords: Float64Array,
    ring_offsets: Int64Array,
    polygon_offsets: Int64Array,
    decimals: int,
    offsets: Int32Array,
    data: Uint8Array,
) -> int:
    """POLYGON((x y, x y), (x y, x y)): a blank after each comma."""
    at = 0
    for i in range(len(polygon_offsets) - 1):
        for letter in (80, 79, 76, 89, 71, 79, 78, _OPEN):
            data[at] = letter
            at += 1
        for j in range(polygon_offsets[i], polygon_offsets[i + 1]):
            if j > polygon_offsets[i]:
                data[at], data[at + 1] = _COMMA, _SPACE
                at += 2
            data[at] = _OPEN
            at += 1
            for k in range(ring_offsets[j], ring_offsets[j + 1]):
                if k > ring_offsets[j]:
                    data[at], data[at + 1] = _COMMA, _SPACE
                    at += 2
                at = _put_significant(data, at, coords[k, 0])
                data[at] = _SPACE
                at = _put_significant(data, at + 1, coords[k, 1])
            data[at] = _CLOSE
            at += 1
        data[at] = _CLOSE
        at += 1
        offsets[i + 1] = at
    return at


@numba.njit(cache=True, nogil=True)
def _print_geojson(
    coords: Float64Array,
    ring_offsets: Int64Array,
    polygon_offsets: Int64Array,
    decimals: int,
    offsets: Int32Array,
    data: Uint8Array,
) -> int:
    """[[[x,y],[x,y]],[[x,y],[x,y]]]."""
    at = 0
    for i in range(len(polygon_offsets) - 1):
        data[at] = _SQUARE_OPEN
        at += 1
        for j in range(polygon_offsets[i], polygon_offsets[i + 1]):
            if j > polygon_offsets[i]:
                data[at] = _COMMA
                at += 1
            data[at] = _SQUARE_OPEN
            at += 1
            for k in range(ring_offsets[j], ring_offsets[j + 1]):
                if k > ring_offsets[j]:
                    data[at] = _COMMA
                    at += 1
                data[at] = _SQUARE_OPEN
                at = _put_fixed(data, at + 1, coords[k, 0], decimals, True)
                data[at] = _COMMA
                at = _put_fixed(data, at + 1, coords[k, 1], decimals, True)
                data[at] = _SQUARE_CLOSE
                at += 1
            data[at] = _SQUARE_CLOSE
            at += 1
        data[at] = _SQUARE_CLOSE
        at += 1
        offsets[i + 1] = at
    return at
