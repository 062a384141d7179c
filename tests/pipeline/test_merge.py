"""Levels of MergeSeams."""

from pipeline.merge import level_sizes


def test_levels_grow_by_four_until_one_cell_holds_all():
    assert level_sizes([(0, 0, 0, 0)]) == [None]
    assert level_sizes([(0, 3, -2, 1)]) == [None]
    assert level_sizes([(0, 4, 0, 0)]) == [4, None]
    assert level_sizes([(0, 15, 0, 3), (-20, 10, 0, 0)]) == [4, 16, None]
    assert level_sizes([]) == [None]
