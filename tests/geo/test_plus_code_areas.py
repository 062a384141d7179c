"""Plus Codes as typed, against the package `pluscodes`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pluscodes import openlocationcode

from geo.errors import GeometryError
from geo.plus_code_areas import parse_plus_code
from geo.pluscodes import encode_plus_codes

LATITUDES = st.floats(-90, 89.99)
LONGITUDES = st.floats(-180, 179.99)


@given(lat=LATITUDES, lon=LONGITUDES, length=st.sampled_from([2, 4, 6, 8, 10, 11, 12]))
def test_bounds_are_those_of_the_package(lat, lon, length):
    code = encode_plus_codes([lat], [lon], length)[0].decode()
    area, expected = parse_plus_code(code), openlocationcode.decode(code)
    sides = (expected.longitudeLo, expected.latitudeLo, expected.longitudeHi, expected.latitudeHi)
    assert area.bounds == pytest.approx(sides, abs=1e-12)


@given(lat=LATITUDES, lon=LONGITUDES, length=st.integers(1, 12), lower=st.booleans())
def test_a_beginning_holds_the_point_it_was_cut_from(lat, lon, length, lower):
    digits = encode_plus_codes([lat], [lon], 12)[0].decode().replace("+", "")[:length]
    area = parse_plus_code(digits.lower() if lower else digits)
    full = encode_plus_codes([lat], [lon], 12)[0].decode()
    assert full.startswith(area.prefix)
    west, south, east, north = area.bounds
    slack = 1e-9 + 1e-6 / 8.192  # the package rounds to 6 decimals of the finest cell
    assert west - slack <= lon <= east + slack
    assert south - slack <= lat <= north + slack


@given(lat=st.floats(-80, 80), lon=LONGITUDES, turn=st.integers(0, 360))
def test_short_codes_mean_the_nearest_place(lat, lon, turn):
    full = encode_plus_codes([lat], [lon], 10)[0].decode()
    near = (lat + 0.3 * np.sin(turn), lon + 0.3 * np.cos(turn))
    expected = openlocationcode.recoverNearest(full[4:], *near)
    assert parse_plus_code(full[4:], near).prefix == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (bad, "is no Plus Code")
            for bad in ("", "+", "ABC", "6GGJF000+", "0000+", "6GGJ0000+22")
        ),
        ("XX22", "it lies off the earth"),
        ("F2CCCCCC+", "it lies off the earth"),
        ("6GGJFJ58+HXWFXX", "has 14 digits"),
        ("JF58+HX", r"is a short Plus Code: name a place near it .*--near"),
    ],
)
def test_what_is_no_code(text, message):
    with pytest.raises(GeometryError, match=message):
        parse_plus_code(text)


def test_a_place_near_that_is_none():
    with pytest.raises(GeometryError, match=r"near = 91.0,0.0"):
        parse_plus_code("JF58+HX", (91.0, 0.0))
