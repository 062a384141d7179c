"""Balanced shards, against s2geometry and a slow recursive plan."""

import logging
import random
import tracemalloc

import numpy as np
import pytest
import s2geometry as s2
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import DatasetError
from geo.s2cells import cell_token
from geo.shards import (
    COUNT_LEVEL,
    Shard,
    ShardConfig,
    ShardPlan,
    count_cells,
    merge_counts,
    plan_shards,
)


def leaf(lat: float, lon: float) -> int:
    return s2.S2CellId(s2.S2LatLng.FromDegrees(lat, lon)).id()


def parent(cell: int, level: int) -> int:
    return s2.S2CellId(cell).parent(level).id()


def oracle_plan(rows: dict[int, int], max_rows: int, level: int) -> list[tuple[int, int]]:
    """Split recursively from the faces with s2geometry; shrink by walking down to the rows."""

    def inside(cell: s2.S2CellId) -> dict[int, int]:
        return {row: count for row, count in rows.items() if cell.contains(s2.S2CellId(row))}

    def shrink(cell: s2.S2CellId, held: dict[int, int]) -> s2.S2CellId:
        while cell.level() < level:
            fitting = [
                child
                for child in map(cell.child, range(4))
                if all(child.contains(s2.S2CellId(row)) for row in held)
            ]
            if not fitting:
                break
            cell = fitting[0]
        return cell

    def split(cell: s2.S2CellId) -> list[tuple[int, int]]:
        held = inside(cell)
        if not held:
            return []
        if sum(held.values()) <= max_rows or cell.level() == level:
            return [(shrink(cell, held).id(), sum(held.values()))]
        return [shard for index in range(4) for shard in split(cell.child(index))]

    return [shard for face in range(6) for shard in split(s2.S2CellId.FromFacePosLevel(face, 0, 0))]


# Points all over the sphere, and bunches around a few places, the antimeridian and poles included.
anywhere = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
centres = st.sampled_from([(0.31, 32.58), (-17.5, 179.99), (0.0, 0.0), (89.99, 10.0), (35.3, 45.0)])
nearby = st.tuples(centres, st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)).map(
    lambda drawn: (max(-90.0, min(90.0, drawn[0][0] + drawn[1])), drawn[0][1] + drawn[2])
)
places = st.lists(st.one_of(anywhere, nearby), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(places, st.integers(1, 30), st.integers(0, 14), st.randoms())
def test_the_plan_equals_the_oracle_in_any_order(points, max_rows, level, shuffler):
    counted = {}
    for lat, lon in points:
        cell = parent(leaf(lat, lon), level)
        counted[cell] = counted.get(cell, 0) + shuffler.randint(1, 9)
    rows = list(counted.items())
    shuffler.shuffle(rows)
    cells = np.array([cell for cell, _ in rows], np.uint64)
    counts = np.array([count for _, count in rows])

    shards = plan_shards(cells, counts, max_rows)

    assert [(shard.cell, shard.num_rows) for shard in shards] == oracle_plan(
        counted, max_rows, level
    )
    for shard in shards:
        assert shard.token == s2.S2CellId(shard.cell).ToToken()
        assert shard.num_rows <= max_rows or s2.S2CellId(shard.cell).level() == level


@settings(max_examples=60, deadline=None)
@given(places, st.integers(1, 20))
def test_every_row_belongs_to_exactly_one_shard(points, max_rows):
    leaves = np.array([leaf(lat, lon) for lat, lon in points], np.uint64)
    cells, counts = count_cells(leaves)
    shards = plan_shards(cells, counts, max_rows)
    shuffled = random.Random(len(points)).sample(shards, len(shards))

    index = ShardPlan(shuffled).assign(leaves)

    for row, cell in enumerate(leaves.tolist()):
        holders = [s for s in shuffled if s2.S2CellId(s.cell).contains(s2.S2CellId(cell))]
        assert holders == [shuffled[index[row]]]
    assert np.bincount(index, minlength=len(shards)).tolist() == [s.num_rows for s in shuffled]


@settings(max_examples=50, deadline=None)
@given(places, st.integers(0, 30), st.integers(1, 5))
def test_counts_equal_s2geometry_however_they_are_merged(points, level, num_parts):
    leaves = np.array([leaf(lat, lon) for lat, lon in points] * 2, np.uint64)
    expected = {}
    for cell in leaves.tolist():
        expected[parent(cell, level)] = expected.get(parent(cell, level), 0) + 1

    cells, counts = count_cells(leaves, level)
    assert dict(zip(cells.tolist(), counts.tolist(), strict=True)) == expected
    assert cells.tolist() == sorted(expected)
    assert cells.dtype == np.uint64
    assert counts.dtype == np.int64

    parts = [count_cells(part, level) for part in np.array_split(leaves, num_parts)]
    merged = merge_counts(iter(parts[::-1]))
    assert merged[0].tolist() == cells.tolist()
    assert merged[1].tolist() == counts.tolist()
    assert merged[0].dtype == np.uint64
    assert merged[1].dtype == np.int64


def test_few_rows_make_one_shard_as_small_as_they_are():
    leaves = np.array([leaf(0.31, 32.58), leaf(0.3101, 32.5801)], np.uint64)
    shards = plan_shards(*count_cells(leaves), 500_000)
    assert shards == [
        Shard(parent(int(leaves[0]), 12), s2.S2CellId(parent(int(leaves[0]), 12)).ToToken(), 2)
    ]


def test_rows_of_two_faces_are_two_shards():
    leaves = np.array([leaf(0, 0), leaf(0, 90), leaf(0, 91)], np.uint64)
    shards = plan_shards(*count_cells(leaves), 500_000)
    assert [shard.num_rows for shard in shards] == [1, 2]
    assert [s2.S2CellId(shard.cell).face() for shard in shards] == [0, 1]


def test_no_rows_make_no_shards():
    none = np.zeros(0, np.uint64)
    assert plan_shards(none, np.zeros(0, np.int64), 10) == []
    cell = np.array([parent(leaf(0, 0), 12)], np.uint64)
    assert plan_shards(cell, np.array([0]), 10) == []
    assert [part.tolist() for part in merge_counts([])] == [[], []]
    assert [part.tolist() for part in count_cells(none)] == [[], []]
    assert ShardPlan([]).assign(none).tolist() == []


def test_a_cell_over_the_limit_stays_and_is_said(caplog):
    cell = parent(leaf(0.31, 32.58), COUNT_LEVEL)
    with caplog.at_level(logging.WARNING, "geo.shards"):
        shards = plan_shards(np.array([cell], np.uint64), np.array([11]), 10)
    assert shards == [Shard(cell, cell_token(cell), 11)]
    assert (
        "1 shards hold more than max_rows_per_shard = 10 rows, "
        f"the largest is s2={cell_token(cell)} with 11" in caplog.text
    )


def test_a_row_outside_the_plan_is_an_error():
    inside, outside = leaf(0.31, 32.58), leaf(10.0, 10.0)
    shards = plan_shards(*count_cells(np.array([inside], np.uint64)), 10)
    with pytest.raises(
        DatasetError, match=r"1 rows, one in S2 cell .* lie in none of the 1 planned"
    ):
        ShardPlan(shards).assign(np.array([inside, outside], np.uint64))
    with pytest.raises(DatasetError, match="none of the 0 planned"):
        ShardPlan([]).assign(np.array([inside], np.uint64))


def test_bad_input_is_refused():
    good = np.array([parent(leaf(0, 0), 12)], np.uint64)
    mixed = np.array([parent(leaf(0, 0), 12), parent(leaf(5, 5), 11)], np.uint64)
    with pytest.raises(ValueError, match="several levels"):
        plan_shards(mixed, np.array([1, 1]), 10)
    for number in (2, 0, 0xFFFFFFFFFFFFFFFF):
        with pytest.raises(ValueError, match="is no S2 cell"):
            plan_shards(np.array([number], np.uint64), np.array([1]), 10)
    with pytest.raises(ValueError, match="max_rows = 0"):
        plan_shards(good, np.array([1]), 0)
    with pytest.raises(ValueError, match="counts holds -1"):
        plan_shards(good, np.array([-1]), 10)
    with pytest.raises(ValueError, match="level = 31"):
        count_cells(good, 31)
    with pytest.raises(ValueError, match="max_rows_per_shard = 0"):
        ShardConfig(max_rows_per_shard=0)


def test_a_continent_takes_linear_memory():
    """Four million cells of level 12; a plan that made objects per cell would need far more."""
    generator = np.random.default_rng(2)
    num_cells = 4_000_000
    bit = np.uint64(1 << 36)
    span = np.uint64(1 << 37)
    first = np.uint64(parent(leaf(0, 20), 2)) // span
    cells = (first + np.arange(num_cells, dtype=np.uint64)) * span + bit
    counts = (generator.pareto(1.0, num_cells) * 20).astype(np.int64) + 1
    order = generator.permutation(num_cells)
    cells, counts = cells[order], counts[order]
    tracemalloc.start()
    shards = plan_shards(cells, counts, 500_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 8 * num_cells
    assert sum(shard.num_rows for shard in shards) == counts.sum()
    assert len(shards) < 20 * counts.sum() / 500_000
    assert (
        np.bincount(ShardPlan(shards).assign(cells), counts) == [s.num_rows for s in shards]
    ).all()
