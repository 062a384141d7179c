"""Counts and density against what numpy counts row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.footprint_index import (
    CELLS_PER_TILE,
    CONFIDENCE_STEPS,
    FootprintIndex,
    View,
    cell_area_km2,
)
from geo.web_mercator import tile_bounds, to_world

EDGES = np.array([0.0, 10.0, 20.0, 40.0, 80.0, np.inf])


def draw(num: int, seed: int = 0, *, around: tuple[float, float] = (32.5, 0.3), spread=0.2):
    random = np.random.default_rng(seed)
    lon = around[0] + random.uniform(-spread, spread, num)
    return {
        "longitude": (lon + 180) % 360 - 180,
        "latitude": around[1] + random.uniform(-spread, spread, num),
        "confidence": np.rint(random.random(num) * CONFIDENCE_STEPS) / CONFIDENCE_STEPS,
        "area_m2": np.rint(random.exponential(40, num) * 2**14) / 2**14,
    }


def fill(columns, block_rows: list[int]) -> FootprintIndex:
    index = FootprintIndex(block_rows, EDGES)
    order = np.argsort(columns["latitude"])  # blocks with bounds of their own
    parts = np.split(order, np.cumsum(block_rows)[:-1])
    for block, rows in enumerate(parts):
        index.fill(block, **{name: column[rows] for name, column in columns.items()})
    return index


LONGITUDES = st.sampled_from([32.5, 179.95, -179.98])


@given(
    middle=LONGITUDES,
    west=st.floats(-0.4, 0.4),
    width=st.floats(0, 0.5),
    south=st.floats(0, 0.5),
    height=st.floats(0, 0.5),
    min_confidence=st.integers(0, 100),
    min_area_m2=st.integers(0, 120),
    turn=st.sampled_from([-360, 0, 360]),
)
def test_counts_are_those_of_a_plain_mask(
    middle, west, width, south, height, min_confidence, min_area_m2, turn
):
    columns = draw(700, around=(middle, 0.3))
    index = fill(columns, [0, 100, 350, 250])
    limits = {"min_confidence": min_confidence / 100, "min_area_m2": float(min_area_m2)}
    left = middle + west + turn
    view = View(west=left, east=left + width, south=south, north=south + height, **limits)
    found = index.summarise(view)

    is_in = (columns["longitude"] - left) % 360 <= width
    is_in &= (columns["latitude"] >= south) & (columns["latitude"] <= south + height)
    is_kept = is_in & (columns["confidence"] >= limits["min_confidence"])
    is_kept &= columns["area_m2"] >= min_area_m2
    assert found.num_all == is_in.sum()
    assert found.num_kept == is_kept.sum()
    assert found.area_kept_m2 == pytest.approx(columns["area_m2"][is_kept].sum(), rel=1e-6)
    assert found.sizes_all.tolist() == np.histogram(columns["area_m2"][is_in], EDGES)[0].tolist()
    assert found.sizes_kept.tolist() == np.histogram(columns["area_m2"][is_kept], EDGES)[0].tolist()
    assert found.num_ready == len(index) == 700


def test_a_view_of_more_than_the_world_holds_everything():
    index = fill(draw(500, around=(179.9, 0)), [500])
    assert index.summarise(View(west=-500, south=-90, east=500, north=90)).num_all == 500


def test_an_area_just_below_a_limit_stays_below():
    """2^20 - 2^-14 is a float32 no more: rounded to nearest it would be the limit."""
    area = np.array([2.0**20 - 2**-14, 2.0**20])
    index = FootprintIndex([2], EDGES)
    index.fill(0, longitude=np.zeros(2), latitude=np.zeros(2), confidence=np.ones(2), area_m2=area)
    view = View(west=-1, south=-1, east=1, north=1, min_area_m2=2.0**20)
    assert index.summarise(view).num_kept == 1


def test_blocks_that_are_not_there_yet_do_not_count():
    columns = draw(300)
    index = FootprintIndex([100, 200], EDGES)
    everything = View(west=-180, south=-85, east=180, north=85)
    assert index.summarise(everything).num_all == index.num_ready == 0
    index.fill(1, **{name: column[100:] for name, column in columns.items()})
    found = index.summarise(everything)
    assert (found.num_all, found.num_ready, index.num_ready) == (200, 200, 200)
    with pytest.raises(ValueError, match="3 rows for block 0; expected 100"):
        index.fill(0, **{name: column[:3] for name, column in columns.items()})


def test_empty_datasets_have_no_counts():
    index = FootprintIndex([], EDGES)
    assert index.summarise(View(west=0, south=0, east=1, north=1)).num_all == 0
    assert len(index.density(0, 0, 0).counts) == 0


@given(z=st.integers(0, 14), min_confidence=st.integers(0, 100), min_area_m2=st.integers(0, 100))
def test_cells_hold_what_lies_in_them(z, min_confidence, min_area_m2):
    columns = draw(400)
    index = fill(columns, [150, 250])
    x, y = to_world(columns["longitude"][:1], columns["latitude"][:1])
    tile = int(x[0]) >> (32 - z), int(y[0]) >> (32 - z)
    cells = index.density(
        z, *tile, min_confidence=min_confidence / 100, min_area_m2=float(min_area_m2)
    )
    west, south, east, north = tile_bounds(z, *tile)
    is_kept = (columns["confidence"] >= min_confidence / 100) & (columns["area_m2"] >= min_area_m2)
    is_kept &= (columns["longitude"] >= west) & (columns["longitude"] < east)
    is_kept &= (columns["latitude"] > south) & (columns["latitude"] <= north)
    assert cells.counts.sum() == is_kept.sum()
    total = float((cells.counts * cells.confidences).sum())
    assert total == pytest.approx(columns["confidence"][is_kept].sum())
    assert ((cells.cols >= 0) & (cells.cols < CELLS_PER_TILE)).all()
    assert ((cells.rows >= 0) & (cells.rows < CELLS_PER_TILE)).all()


def test_the_cell_of_a_point_is_the_one_that_covers_it():
    index = FootprintIndex([1], EDGES)
    one = np.ones(1)
    west, south, east, north = tile_bounds(12, 2417, 2044)
    index.fill(
        0,
        longitude=one * (west + (east - west) * 100.5 / CELLS_PER_TILE),
        latitude=one * (north + (south - north) * 3.5 / CELLS_PER_TILE),
        confidence=one * 0.5,
        area_m2=one,
    )
    cells = index.density(12, 2417, 2044)
    assert (cells.cols.tolist(), cells.rows.tolist()) == ([100], [3])
    assert (cells.counts.tolist(), cells.confidences.tolist()) == ([1], [0.5])


def test_cells_have_their_area_on_the_ground():
    side_km = 40075.017 / 2**10 / CELLS_PER_TILE
    assert cell_area_km2(10, 512) == pytest.approx(side_km**2, rel=1e-4)
    assert cell_area_km2(10, 0) < 0.02 * side_km**2  # the map stretches the north


def test_blocks_near_a_point():
    index = FootprintIndex([1, 1, 1], EDGES)
    one = np.ones(1)
    for block, lon in enumerate((179.99, -179.99, 0.0)):
        index.fill(block, longitude=one * lon, latitude=one, confidence=one, area_m2=one)
    assert index.near(180.0, 1.0, 0.02).tolist() == [0, 1]
    assert index.near(0.01, 1.01, 0.02).tolist() == [2]
    assert index.near(0.01, 2.0, 0.02).tolist() == []


@pytest.mark.parametrize("wrong", [{"west": float("nan")}, {"east": -1.0}, {"north": -2.0}])
def test_views_are_checked(wrong):
    with pytest.raises(ValueError, match="view"):
        View(**{"west": 0.0, "south": 0.0, "east": 1.0, "north": 1.0, **wrong})
