import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_drawings import THRESHOLD, assert_same_arrays, masks, probability_of, window_of

from geo.components import find_instances
from geo.errors import DatasetError
from geo.grow import grow_instances
from geo.instance_tables import (
    INSTANCE_SCHEMA,
    OVERSIZE_SCHEMA,
    PIECE_SCHEMA,
    instances_from_table,
    instances_to_table,
    oversize_from_table,
    oversize_to_table,
    pieces_from_table,
    pieces_to_table,
)
from geo.instances import Instances
from geo.rim import Rim
from geo.seams import OversizeReport, Pieces, split_cell
from geo.trace import trace_outlines


def find(mask, seed=0, row_off=-30, col_off=900_000):
    rng = np.random.default_rng(seed)
    return find_instances(
        probability_of(mask, rng),
        threshold=THRESHOLD,
        window=window_of(mask, row_off, col_off),
        image_index=rng.integers(0, 3, mask.shape).astype(np.uint16),
        rim=Rim(
            rng.integers(0, 1021, mask.shape).astype(np.uint16),
            rng.integers(0, 5, mask.shape).astype(np.uint8),
        ),
    )


@settings(deadline=None, max_examples=60)
@given(mask=masks(max_side=24), row_off=st.sampled_from([0, -30, -33_000_000]))
def test_round_trip(mask, row_off):
    found = find(mask, row_off=row_off)
    table = instances_to_table(found)
    table.validate(full=True)
    assert table.schema == INSTANCE_SCHEMA
    assert table.num_rows == len(found)
    assert_same_arrays(instances_from_table(table), found)
    for limit in (1, 5, 100):
        result = split_cell(found, window_of(mask, row_off, 900_000), limit)
        pieces = pieces_to_table(result.open)
        assert pieces.schema == PIECE_SCHEMA
        assert_same_arrays(pieces_from_table(pieces), result.open)
        report = oversize_to_table(result.oversize)
        assert report.schema == OVERSIZE_SCHEMA
        assert_same_arrays(oversize_from_table(report), result.oversize)


def test_each_row_stands_for_itself():
    """Rows may be filtered, sliced, reordered and put together again in chunks."""
    found = find(np.random.default_rng(1).random((40, 40)) < 0.5)
    table = instances_to_table(found)
    index = np.array([7, 3, 3, 20])
    assert_same_arrays(instances_from_table(table.take(index)), found.take(index))
    part = np.arange(5, 11)
    assert_same_arrays(instances_from_table(table.slice(5, 6)), found.take(part))
    chunked = pa.concat_tables([table.slice(4, 2), table.slice(0, 3)])
    assert_same_arrays(instances_from_table(chunked), found.take(np.array([4, 5, 0, 1, 2])))
    pieces = Pieces.from_instances(found)
    sliced = pieces_from_table(pieces_to_table(pieces).slice(5, 6))
    assert_same_arrays(sliced, pieces.take(part))


def test_what_was_read_can_be_worked_on():
    found = find(np.random.default_rng(2).random((40, 40)) < 0.5)
    read = instances_from_table(instances_to_table(found))
    assert_same_arrays(
        trace_outlines(grow_instances(read, 1)), trace_outlines(grow_instances(found, 1))
    )


def test_nothing():
    assert_same_arrays(instances_from_table(INSTANCE_SCHEMA.empty_table()), Instances.empty())
    assert_same_arrays(pieces_from_table(PIECE_SCHEMA.empty_table()), Pieces.empty())
    assert_same_arrays(oversize_from_table(OVERSIZE_SCHEMA.empty_table()), OversizeReport.empty())
    assert instances_to_table(Instances.empty()).num_rows == 0


def test_a_foreign_table_is_refused():
    table = instances_to_table(find(np.ones((3, 3), bool)))
    with pytest.raises(DatasetError, match=r"'row_steps'.*no such column"):
        instances_from_table(table.drop_columns(["row_steps"]))
    text = pa.array(["9"])
    place = table.schema.get_field_index("num_pixels")
    with pytest.raises(DatasetError, match=r"'num_pixels'.*expected int64, got string"):
        instances_from_table(table.set_column(place, "num_pixels", text))
    missing = pa.array([None], pa.int64())
    with pytest.raises(DatasetError, match=r"'num_pixels'.*missing values"):
        instances_from_table(table.set_column(place, "num_pixels", missing))
    with pytest.raises(DatasetError, match="is_oversize"):
        pieces_from_table(table)


@pytest.mark.parametrize(
    ("name", "runs"), [("run_lengths", [[3, 3]]), ("start_steps", [[]]), ("image_pixels", [[4, 5]])]
)
def test_lists_that_do_not_fit_together_are_refused(name, runs):
    table = instances_to_table(find(np.ones((3, 3), bool)))
    place = table.schema.get_field_index(name)
    column = pa.array(runs, table.schema.field(name).type)
    with pytest.raises(DatasetError, match=rf"{name}.* expected lists of equal length"):
        instances_from_table(table.set_column(place, table.schema.field(name), column))
