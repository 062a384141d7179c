"""Cuts of sorted rows into row groups."""

import itertools

import numpy as np
import s2geometry as s2
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.row_groups import cut_row_groups
from geo.s2cells import s2_leaf_cells


def town(num_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sorted cells and boxes of a square town."""
    random = np.random.default_rng(seed)
    lon, lat = random.uniform(32.5, 32.6, num_rows), random.uniform(0.3, 0.4, num_rows)
    cells = s2_leaf_cells(lat, lon)
    order = np.argsort(cells)
    sides = np.stack([lon - 5e-5, lat - 5e-5, lon + 5e-5, lat + 5e-5]).astype(np.float32)
    return cells[order], sides[:, order]


def border_level(before: int, after: int) -> int:
    """Level of the finest cell around two leaves, by s2geometry; -1 on different faces."""
    one, other = s2.S2CellId(before), s2.S2CellId(after)
    for level in range(30, -1, -1):
        if one.parent(level) == other.parent(level):
            return level
    return -1


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), max_size=120),
    st.integers(1, 12),
)
def test_cuts_are_even_ones_moved_to_the_coarsest_border_nearby(points, mean_rows):
    lat, lon = np.array(points).reshape(-1, 2).T
    cells = np.sort(s2_leaf_cells(lat, lon))
    cuts = cut_row_groups(cells, None, mean_rows)
    num_rows, num_groups = len(cells), max(1, len(cuts) - 1)
    assert cuts[0] == 0
    assert cuts[-1] == num_rows
    assert all(a < b for a, b in itertools.pairwise(cuts))
    if num_rows < 3 * mean_rows:
        assert num_groups == 1
        return
    assert num_groups == num_rows // mean_rows
    size = num_rows / num_groups
    reach = int(0.4 * size)
    ids = cells.tolist()
    for index, cut in enumerate(cuts[1:-1], 1):
        middle = round(index * size)
        nearby = range(middle - reach, middle + reach + 1)
        assert cut in nearby
        levels = {row: border_level(ids[row - 1], ids[row]) for row in nearby}
        assert levels[cut] <= min(levels.values()) + 1  # one level for float64's rounding


def test_the_nearest_of_equal_borders_is_taken():
    cells = np.full(100, 5, np.uint64)
    assert cut_row_groups(cells, None, 20) == [0, 20, 40, 60, 80, 100]


def test_tables_too_small_to_gain_stay_whole():
    for num_rows in (0, 1, 10, 29):
        cells, boxes = town(num_rows)
        assert cut_row_groups(cells, boxes, 10) == sorted({0, num_rows})


def test_large_tables_are_cut_and_small_reads_skip_most_groups():
    cells, boxes = town(30_000)
    cuts = cut_row_groups(cells, boxes, 1_000)
    assert len(cuts) == 31
    limits = [
        (boxes[:2, a:b].min(axis=1), boxes[2:, a:b].max(axis=1))
        for a, b in itertools.pairwise(cuts)
    ]
    random = np.random.default_rng(1)
    rows_read = []
    for corner in random.uniform((32.5, 0.3), (32.598, 0.398), (200, 2)):
        hits = [((low <= corner + 0.002) & (high >= corner)).all() for low, high in limits]
        rows_read.append(np.diff(cuts)[hits].sum())
    even = 2 * 30_000 / 30
    assert np.mean(rows_read) < even


def test_groups_that_overlap_are_not_made():
    """Rows whose order says nothing about their place."""
    cells, boxes = town(10_000)
    shuffled = boxes[:, np.random.default_rng(2).permutation(10_000)]
    assert cut_row_groups(cells, shuffled, 1_000) == [0, 10_000]


def test_rows_of_one_point_and_of_one_line_are_cut_without_an_error():
    cells = np.sort(s2_leaf_cells(np.full(100, 0.3), np.full(100, 32.5)))
    assert cut_row_groups(cells, np.ones((4, 100), np.float32), 10) == [0, 100]
    lat = np.linspace(1, 2, 100)
    cells = s2_leaf_cells(lat, np.full(100, 32.5))
    order = np.argsort(cells)
    boxes = np.stack([np.full(100, 32.5), lat, np.full(100, 32.5), lat])[:, order]
    assert cut_row_groups(cells[order], boxes.astype(np.float32), 10)[-1] == 100
