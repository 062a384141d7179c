"""Maps: ground is shared out exactly, classes are round, and nothing small is hidden."""

import itertools
import re

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pipeline import maps
from pipeline.map_grid import MapGrid, side_by_side

_BOX = r"M(-?\d+\.\d+) (-?\d+\.\d+)h(\d+\.\d+)v(\d+\.\d+)"


def _area_by_colour(drawn: str) -> dict[str, float]:
    paths = re.findall(r'<path d="([^"]*)" fill="(#\w+)"', drawn)
    return {
        colour: sum(float(w) * float(h) for _, _, w, h in re.findall(_BOX, path))
        for path, colour in paths
    }


def _tiles(num: int, step: float = 0.01) -> np.ndarray:
    cols, rows = np.arange(num * num) % num, np.arange(num * num) // num
    return np.stack([cols, rows, cols + 1, rows + 1], axis=1) * step


def test_tiles_on_both_sides_of_the_antimeridian_lie_side_by_side():
    bounds = np.array([[179.90, -17.0, 179.95, -16.9], [-179.95, -17.0, -179.90, -16.9]])
    drawn = maps.coverage_map(bounds, ["ok", "empty"])
    boxes = re.findall(r"M(-?\d+\.\d+) \d+\.\d+h(\d+\.\d+)v", drawn)
    # 0.05 degrees, a gap twice as wide, and 0.05 degrees again.
    empty, ok = [(float(x), float(width)) for x, width in boxes]
    assert ok[1] == empty[1] == pytest.approx(420 / 4, abs=0.1)
    assert empty[0] - ok[0] == pytest.approx(3 * ok[1], abs=0.1)


def test_cells_show_the_shares_of_their_ground():
    bounds = _tiles(96)
    status = np.where(np.arange(len(bounds)) % 3 == 0, "empty", "ok")
    drawn = maps.coverage_map(bounds, status.tolist())
    areas = _area_by_colour(drawn)
    total = sum(areas.values())
    assert areas["#A6CEE3"] / total == pytest.approx(1 / 3, abs=0.01)
    assert areas["#0072B2"] / total == pytest.approx(2 / 3, abs=0.01)
    assert total == pytest.approx(420 * 420, rel=0.01)


def test_one_failed_tile_of_many_is_seen_and_does_not_hide_its_neighbours():
    bounds, status = _tiles(320), ["ok"] * 320**2
    status[50_000] = "failed"
    drawn = maps.coverage_map(bounds, status)
    assert "<title>failed</title>" in drawn
    assert "1 failed" in drawn
    areas = _area_by_colour(drawn)
    cell = (420 / 32) ** 2
    # It may lie in four cells at most, and is drawn 0.18 wide in each.
    assert 0.15 * cell < areas["#D55E00"] < 0.75 * cell
    assert len(drawn) < 10_000


def test_ground_that_was_not_planned_stays_blank():
    bounds = _tiles(96)
    half = bounds[bounds[:, 0] < 0.48]
    apart = np.concatenate([half, bounds[-1:]])
    areas = _area_by_colour(maps.coverage_map(apart, ["ok"] * len(apart)))
    assert areas["#0072B2"] == pytest.approx(420 * 420 / 2, rel=0.02)


_side = st.integers(-50, 350).map(lambda value: value / 100)


@given(st.lists(st.tuples(_side, _side, _side, _side), max_size=8))
def test_covered_area_is_the_area_of_what_lies_in_each_cell(corners):
    grid = MapGrid.over((0.0, 0.0, 3.0, 2.0), 3)
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners])
    found = grid.covered_area(boxes.reshape(-1, 4))
    west, _, _, north = grid.bounds
    step_lon, step_lat = grid.step_deg
    for row, col in itertools.product(range(grid.num_rows), range(grid.num_cols)):
        left, top = west + col * step_lon, north - row * step_lat
        cell = shapely.box(left, top - step_lat, left + step_lon, top)
        expected = sum(cell.intersection(shapely.box(*box)).area for box in boxes) / cell.area
        assert found[row, col] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=8))
def test_classes_are_few_and_hold_every_value(values):
    edges = maps.class_edges(np.array([*values, np.nan]))
    assert 1 <= len(edges) - 1 <= maps.MAX_CLASSES
    assert (np.diff(edges) > 0).all()
    assert edges[0] <= min(values) * (1 + 1e-9)
    assert edges[-1] >= max(values) * (1 - 1e-9)


def test_classes_of_a_narrow_range_are_even_steps():
    assert maps.class_edges(np.array([45.0, 80.0])).tolist() == [40, 50, 60, 70, 80, 90]
    assert maps.class_edges(np.array([0.3, 5300.0])).tolist() == [0.2, 2, 20, 200, 2000, 20000]


def test_a_class_map_draws_each_value_in_its_class():
    grid = MapGrid(bounds=(0.0, 0.0, 3.0, 2.0), num_rows=2, num_cols=3)
    values = np.array([[1.0, np.nan, 3.0], [30.0, 300.0, 3000.0]])
    drawn, key = maps.class_map(grid, values, label="Things", words=lambda value: f"{value:g}")
    told = re.findall(r'<path d="([^"]*)" class="heat"[^>]*><title>([^<]*)</title>', drawn)
    assert [(title, len(re.findall("M", path))) for path, title in told] == [
        ("1 to 5", 2), ("20 to 100", 1), ("100 to 500", 1), ("2000 to 10000", 1)
    ]  # fmt: skip
    assert 'aria-label="Things: from 1 to 3000"' in drawn
    assert key.count("<i") == len(maps.class_edges(values)) - 1
    empty, no_key = maps.class_map(grid, values * np.nan, label="None", words=str)
    assert "heat" not in empty
    assert no_key == ""


def test_boxes_come_side_by_side():
    boxes = np.array([[179.0, 0, 179.5, 1], [-179.5, 0, -179.0, 1], [178.0, 0, 179.0, 1]])
    assert side_by_side(boxes)[1].tolist() == [180.5, 0, 181.0, 1]
    assert side_by_side(np.zeros((0, 4))).shape == (0, 4)
