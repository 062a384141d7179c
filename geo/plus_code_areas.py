"""Plus Codes as people type them: any length, lower case, padded, or short near a known place.

https://github.com/google/open-location-code/blob/main/Documentation/Specification/specification.md
"""

from dataclasses import dataclass

from geo.errors import GeometryError
from geo.geoparquet import Bounds
from geo.pluscodes import FULL_CODE_LENGTH

_ALPHABET = "23456789CFGHJMPQRVWX"
_SEPARATOR_AT = 8
_PAIR_DIGITS = 10
# The first pair counts steps of 20 degrees: 9 rows and 18 columns cover the earth.
_NUM_FIRST_ROWS, _NUM_FIRST_COLUMNS = 9, 18
# Cells of 12 digits: 8,000 of 10 digits a degree, of 5 x 5 rows and 4 x 4 columns each.
_ROWS_PER_DEG, _COLUMNS_PER_DEG = 8000 * 25, 8000 * 16
_EXAMPLE = "such as 6GGJF, 6GGJFJ58+HX or, with a place near it, JF58+HX"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlusCodeArea:
    """The area of a Plus Code, or of the beginning of one.

    Attributes:
        prefix: what the full code of every point inside begins with, separator included.
        bounds: (min_x, min_y, max_x, max_y) in degrees.
    """

    prefix: str
    bounds: Bounds


def parse_plus_code(text: str, near: tuple[float, float] | None = None) -> PlusCodeArea:
    """The area that a Plus Code names.

    Args:
        text: 1 to 12 digits with or without separator; padding zeros are dropped. A short code
            (fewer than 8 digits before its separator) means the nearest such place to `near`.
        near: (latitude, longitude) in degrees, for short codes.

    Raises:
        GeometryError: if it is no Plus Code, or a short one without a place near it.
    """
    code = text.strip().upper()
    at = code.find("+")
    if 0 <= at < _SEPARATOR_AT and "0" not in code:
        code = _recovered(text, code, near)
    digits = _digits(text, code)
    rows, columns = _ALPHABET.find(digits[0]), _ALPHABET.find(digits[1:2] or "2")
    if rows >= _NUM_FIRST_ROWS or columns >= _NUM_FIRST_COLUMNS:
        raise GeometryError(f"{text!r} is no Plus Code: it lies off the earth; expected {_EXAMPLE}")
    prefix = digits
    if len(digits) > _SEPARATOR_AT:
        prefix = f"{digits[:_SEPARATOR_AT]}+{digits[_SEPARATOR_AT:]}"
    elif len(digits) == _SEPARATOR_AT:
        prefix = digits + "+"
    return PlusCodeArea(prefix=prefix, bounds=_bounds(digits))


def _recovered(text: str, code: str, near: tuple[float, float] | None) -> str:
    """The full code of a short one."""
    from pluscodes import openlocationcode

    if not openlocationcode.isShort(code):
        raise GeometryError(f"{text!r} is no Plus Code; expected one {_EXAMPLE}")
    if near is None:
        raise GeometryError(
            f"{text!r} is a short Plus Code: name a place near it as LATITUDE,LONGITUDE (--near)"
        )
    latitude, longitude = near
    if not (-90.0 <= latitude <= 90.0 and -360.0 <= longitude <= 360.0):
        raise GeometryError(
            f"near = {latitude},{longitude}: expected LATITUDE,LONGITUDE in degrees"
        )
    return str(openlocationcode.recoverNearest(code, latitude, longitude))


def _digits(text: str, code: str) -> str:
    """The digits of a full code or the beginning of one, without separator and padding."""
    head, separator, tail = code.partition("+")
    digits = head.rstrip("0") if separator and not tail else head
    is_padded = len(digits) < len(head)
    digits += tail
    is_whole = not separator or len(head) == _SEPARATOR_AT
    is_well_padded = not is_padded or len(digits) % 2 == 0
    if not (digits and is_whole and is_well_padded and set(digits) <= set(_ALPHABET)):
        raise GeometryError(f"{text!r} is no Plus Code; expected one {_EXAMPLE}")
    if len(digits) > FULL_CODE_LENGTH:
        raise GeometryError(
            f"{text!r} has {len(digits)} digits; footprints have codes of {FULL_CODE_LENGTH}, so "
            "leave the last ones out"
        )
    return digits


def _bounds(digits: str) -> Bounds:
    """Bounds of the cell; an odd number of pair digits names a strip of cells."""
    # In whole units of the finest cell, so that only the last division rounds.
    row, column = -90 * _ROWS_PER_DEG, -180 * _COLUMNS_PER_DEG
    height, width = 400 * _ROWS_PER_DEG, 400 * _COLUMNS_PER_DEG
    for place, digit in enumerate(digits):
        value = _ALPHABET.index(digit)
        if place >= _PAIR_DIGITS:
            height, width = height // 5, width // 4
            row, column = row + value // 4 * height, column + value % 4 * width
        elif place % 2 == 0:
            height //= 20
            row += value * height
        else:
            width //= 20
            column += value * width
    west, south = column / _COLUMNS_PER_DEG, row / _ROWS_PER_DEG
    east, north = (column + width) / _COLUMNS_PER_DEG, (row + height) / _ROWS_PER_DEG
    return west, south, min(east, 180.0), min(north, 90.0)
