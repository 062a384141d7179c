"""Tiles travel in runs."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan import to_runs


@given(
    st.sets(st.tuples(st.integers(35, 36), st.integers(-2, 2), st.integers(-20, 20))),
    st.integers(1, 16),
)
def test_runs_hold_every_tile_once_and_are_short(keys, max_length):
    runs = to_runs(sorted(keys), max_length)
    unrolled = [(z, r, c) for z, r, first, n in runs for c in range(first, first + n)]
    assert unrolled == sorted(keys)
    assert all(1 <= length <= max_length for *_, length in runs)


def test_neighbours_share_a_run():
    assert to_runs([(1, 0, 0), (1, 0, 1), (1, 0, 3), (1, 1, 4)], 16) == [
        (1, 0, 0, 2),
        (1, 0, 3, 1),
        (1, 1, 4, 1),
    ]
