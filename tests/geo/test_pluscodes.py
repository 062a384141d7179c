import numpy as np
import pluscodes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import GeometryError
from geo.pluscodes import _rounded_floor, encode_plus_codes, plus_codes_to_arrow

LENGTHS = (2, 4, 6, 8, 10, 11, 12, 13, 14, 15)

# Two rows of Open Buildings v1 (CC BY 4.0, Google).
PUBLISHED = [
    (2.96283507, 30.87489292, "6GJGXV7F+4XJG"),
    (0.45898762, 32.61744969, "6GGJFJ58+HXWF"),
]


def reference_codes(lat, lon, code_length=12):
    encoder = pluscodes.Encoder(code_length)
    return [encoder.encode(y, x) for y, x in zip(lat.tolist(), lon.tolist(), strict=True)]


def neighbours(values, low, high):
    """The values and the next doubles on both sides, where they stay within the range."""
    both = np.concatenate([np.nextafter(values, -np.inf), values, np.nextafter(values, np.inf)])
    return both[(both >= low) & (both <= high)]


def test_published_rows_reproduce():
    lat, lon, codes = zip(*PUBLISHED, strict=True)
    assert encode_plus_codes(lat, lon).astype(str).tolist() == list(codes)


def test_equals_the_package_on_random_points():
    rng = np.random.default_rng(1)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 100_000)))
    lon = rng.uniform(-180, 180, 100_000)
    assert encode_plus_codes(lat, lon).astype(str).tolist() == reference_codes(lat, lon)


def test_equals_the_package_on_cell_edges():
    rng = np.random.default_rng(2)
    lat_steps = rng.choice([25e6, 5e6, 1e6, 2e5, 4e4, 8e3, 400, 20, 1], 20_000)
    lon_steps = rng.choice([8.192e6, 2.048e6, 512e3, 128e3, 32e3, 8e3, 400, 20, 1], 20_000)
    lat = np.floor(rng.uniform(-90, 90, 20_000) * lat_steps) / lat_steps
    lon = np.floor(rng.uniform(-180, 180, 20_000) * lon_steps) / lon_steps
    lat, lon = neighbours(lat, -90, 90), neighbours(lon, -180, 180)
    size = max(len(lat), len(lon), 100_000)
    lat, lon = np.resize(lat, size), rng.permutation(np.resize(lon, size))
    assert encode_plus_codes(lat, lon).astype(str).tolist() == reference_codes(lat, lon)


@pytest.mark.parametrize("code_length", LENGTHS)
def test_every_length_at_poles_and_antimeridian(code_length):
    ends = np.array([-90.0, 90.0, 0.0, -0.0, 89.99999999, 47.365590])
    lat = neighbours(ends, -90, 90)
    lon = neighbours(np.array([-180.0, 180.0, 0.0, 179.99999999, 8.524997]), -180, 180)
    lat, lon = (grid.ravel() for grid in np.meshgrid(lat, lon))
    codes = encode_plus_codes(lat, lon, code_length)
    assert codes.astype(str).tolist() == reference_codes(lat, lon, code_length)


@settings(deadline=None, max_examples=500)
@given(st.integers(0, 4_500_000_000), st.floats(-1e-6, 1e-6), st.integers(-3, 3))
def test_rounding_is_pythons(whole, offset, num_ulps):
    value = max(whole + offset, 0.0)
    for _ in range(abs(num_ulps)):
        value = max(float(np.nextafter(value, np.inf * num_ulps)), 0.0)
    assert _rounded_floor(value) == int(round(value, 6))


@settings(deadline=None, max_examples=200)
@given(st.floats(-90, 89.9999), st.floats(-180, 179.9999))
def test_decoding_gives_the_point_back(lat, lon):
    area = pluscodes.decode(encode_plus_codes([lat], [lon]).astype(str)[0])
    assert area.sw.lat - 1e-9 <= lat <= area.ne.lat + 1e-9
    assert area.sw.lon - 1e-9 <= lon <= area.ne.lon + 1e-9


def test_arrow_column_shares_the_bytes():
    codes = encode_plus_codes([0.45898762, 2.96283507], [32.61744969, 30.87489292])
    column = plus_codes_to_arrow(codes)
    column.validate(full=True)
    assert column.to_pylist() == ["6GGJFJ58+HXWF", "6GJGXV7F+4XJG"]
    assert column.buffers()[2].address == codes.ctypes.data


def test_no_points_give_no_codes():
    codes = encode_plus_codes([], [])
    assert codes.dtype == "S13"
    assert codes.shape == (0,)
    assert plus_codes_to_arrow(codes).to_pylist() == []


@pytest.mark.parametrize(
    ("lat", "lon"),
    [(90.1, 0.0), (-90.1, 0.0), (0.0, 180.1), (0.0, -180.1), (np.nan, 0.0), (0.0, np.nan)],
)
def test_points_out_of_range_are_refused(lat, lon):
    with pytest.raises(GeometryError, match="point 1 at latitude"):
        encode_plus_codes([0.0, lat], [0.0, lon])


@pytest.mark.parametrize("code_length", [0, 1, 3, 9, 16])
def test_lengths_that_do_not_exist_are_refused(code_length):
    with pytest.raises(ValueError, match=f"code_length = {code_length}"):
        encode_plus_codes([0.0], [0.0], code_length)


def test_lengths_must_match():
    with pytest.raises(ValueError, match="one length"):
        encode_plus_codes([0.0, 1.0], [0.0])
