"""Degrees by a fitted polynomial against PROJ: the same lattice points, everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geo.zone_degrees
from geo.lonlat import COORDINATE_STEP_DEG as STEP
from geo.zone_degrees import zone_to_degrees, zone_to_rounded_degrees

SCALE = 0.9996 * 111_000


def draw_points(
    seed: int, *, east: float, north: float, width: float, height: float, num: int = 4000
) -> np.ndarray:
    share = np.random.default_rng(seed).random((num, 2))
    return share * (width, height) + (east, north)


def same_lattice_points(coords: np.ndarray, zone: int) -> np.ndarray:
    """Check that all points round alike; the degrees found."""
    exact, found = zone_to_degrees(coords, zone), zone_to_rounded_degrees(coords, zone, STEP)
    np.testing.assert_array_equal(np.rint(found / STEP), np.rint(exact / STEP))
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-11)
    return found


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 1000),
    zone=st.integers(1, 60),
    east=st.floats(100_000, 900_000),
    north=st.floats(-80.5 * SCALE, 84.5 * SCALE),
    width=st.sampled_from([0.0, 1.0, 1_200.0, 4_000.0, 20_000.0, 30_000.0]),
    height=st.sampled_from([0.0, 1.0, 1_200.0, 4_000.0, 20_000.0, 30_000.0]),
)
def test_points_round_as_those_of_proj(
    seed: int, zone: int, east: float, north: float, width: float, height: float
) -> None:
    same_lattice_points(draw_points(seed, east=east, north=north, width=width, height=height), zone)


@pytest.mark.parametrize(("zone", "east"), [(60, 832_000.0), (1, 167_000.0)])
def test_longitudes_run_on_across_the_antimeridian(zone: int, east: float) -> None:
    coords = draw_points(0, east=east - 2000, north=0.0, width=4000, height=4000)
    lon = same_lattice_points(coords, zone)[:, 0]
    assert np.ptp(lon) < 0.1
    assert lon.min() < (180 if zone == 60 else -180) < lon.max()


def test_points_in_the_middle_between_two_steps() -> None:
    """Points made to lie there, as near as PROJ can tell: the fit alone would get some wrong."""
    zone, num = 36, 4000
    near = zone_to_degrees(
        draw_points(1, east=450_000, north=33_000, width=1200, height=1200), zone
    )
    ties = (np.rint(near / STEP) + 0.5) * STEP
    transform = geo.zone_degrees.zone_to_lonlat(zone).transform
    coords = np.stack(transform(ties[:, 0], ties[:, 1], direction="INVERSE"), axis=1)
    assert len(coords) == num
    off = np.abs(zone_to_degrees(coords, zone) - ties)
    assert off.max() < 1e-11  # all of them have to be asked about
    same_lattice_points(coords, zone)


def test_proj_is_asked_about_few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    coords = draw_points(2, east=450_000, north=5_500_000, width=4000, height=4000, num=50_000)
    asked = []

    def counted(points: np.ndarray, zone: int) -> np.ndarray:
        asked.append(len(points))
        return zone_to_degrees(points, zone)

    monkeypatch.setattr(geo.zone_degrees, "zone_to_degrees", counted)
    zone_to_rounded_degrees(coords, 31, STEP)
    assert 0 < sum(asked) < 1000


@pytest.mark.parametrize("num", [0, 3, 600])
def test_points_without_degrees_stay_so(num: int) -> None:
    coords = np.concatenate([np.full((num, 2), 500_000.0), [[1e12, 0.0], [np.nan, 0.0]]])
    assert np.isfinite(zone_to_rounded_degrees(coords, 36, STEP)).all(axis=1).sum() == num
