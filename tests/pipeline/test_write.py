"""Counts per S2 cell add up alike in any order and grouping, and seldom touch the long sum."""

from hypothesis import given
from hypothesis import strategies as st

from geo.shards import merge_counts
from pipeline import write
from pipeline.write import _SumCountsFn

TILE = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=4)


@given(st.lists(TILE, max_size=40), st.integers(1, 5))
def test_counts_are_those_of_all_tiles(tiles, num_bundles):
    add = _SumCountsFn()
    bundles = []
    for first in range(num_bundles):
        parts = add.create_accumulator()
        for tile in tiles[first::num_bundles]:
            parts = add.add_input(parts, tile)
        bundles.append(add.compact(parts))
    cells, counts = add.extract_output(add.merge_accumulators(bundles))
    expected: dict[int, int] = {}
    for cell, number in (pair for tile in tiles for pair in tile):
        expected[cell] = expected.get(cell, 0) + number
    assert dict(zip(cells.tolist(), counts.tolist(), strict=True)) == expected


def test_work_grows_by_n_log_n(monkeypatch):
    touched = []

    def counted(parts):
        listed = list(parts)
        touched.append(sum(len(cells) for cells, _ in listed))
        return merge_counts(listed)

    monkeypatch.setattr(write, "merge_counts", counted)
    add, parts = _SumCountsFn(), []
    for cell in range(4096):
        parts = add.add_input(parts, [(cell, 1)])
    assert sum(touched) < 3 * 4096 * 12
