import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_drawings import (
    THRESHOLD,
    assert_invariants,
    assert_same_arrays,
    masks,
    probability_of,
    rasterize,
    window_of,
)

from geo.components import find_instances
from geo.instances import Instances, concat_instances, ragged_take


def find(mask, seed=0, row_off=0, col_off=0):
    rng = np.random.default_rng(seed)
    return find_instances(
        probability_of(mask, rng),
        threshold=THRESHOLD,
        window=window_of(mask, row_off, col_off),
        image_index=rng.integers(0, 3, mask.shape).astype(np.uint16),
    )


def test_no_instances():
    empty = Instances.empty()
    assert len(empty) == 0
    assert_invariants(empty)
    assert empty.bounds().shape == (0, 4)
    assert empty.first_pixels().shape == (0, 2)
    assert_same_arrays(empty.take(np.zeros(0, np.int64)), empty)
    assert_same_arrays(empty.take(np.zeros(0, bool)), empty)
    assert len(concat_instances([])) == len(concat_instances([empty, empty])) == 0


@settings(deadline=None, max_examples=60)
@given(mask=masks(max_side=24), row_off=st.sampled_from([0, -9]))
def test_bounds_and_first_pixels_are_those_of_the_pixels(mask, row_off):
    found = find(mask, row_off=row_off, col_off=-4)
    raster = rasterize(found, window_of(mask, row_off, -4))
    for index, (bounds, first) in enumerate(zip(found.bounds(), found.first_pixels(), strict=True)):
        rows, cols = np.nonzero(raster == index + 1)
        rows, cols = rows + row_off, cols - 4
        assert bounds.tolist() == [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]
        assert first.tolist() == [rows[0], cols[0]]


@settings(deadline=None, max_examples=60)
@given(mask=masks(max_side=24), seed=st.integers(0, 1000))
def test_take_keeps_everything_of_the_chosen(mask, seed):
    found = find(mask, seed)
    rng = np.random.default_rng(seed)
    flags = rng.random(len(found)) < 0.5
    taken = found.take(flags)
    assert_invariants(taken)
    assert_same_arrays(taken, found.take(np.flatnonzero(flags)))
    order = rng.permutation(len(found))
    assert_same_arrays(found.take(order).take(np.argsort(order)), found)
    for place, index in enumerate(order):
        one = found.take(order).take(np.array([place]))
        assert_same_arrays(one, found.take(np.array([index])))
        assert one.num_pixels[0] == found.num_pixels[index]


@settings(deadline=None, max_examples=60)
@given(mask=masks(max_side=24), seed=st.integers(0, 1000))
def test_concat_undoes_any_partition(mask, seed):
    found = find(mask, seed)
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, 4, len(found))
    parts = [found.take(owner == part) for part in rng.permutation(4)]
    assert_same_arrays(concat_instances(parts), found)


@pytest.mark.parametrize("index", [[], [2], [0, 0], [2, 1, 0]])
def test_ragged_take(index):
    groups = [[10, 11], [], [12, 13, 14]]
    items, offsets = ragged_take(np.array([0, 2, 2, 5]), np.array(index, np.int64))
    values = np.arange(10, 15)[items].tolist()
    assert values == [value for group in index for value in groups[group]]
    assert np.diff(offsets).tolist() == [len(groups[group]) for group in index]
