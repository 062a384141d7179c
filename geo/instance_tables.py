"""Instances, open pieces and reports as Arrow tables, for the tile store and for shuffles.

Runs are stored as steps: the row since the run before (mostly 1), the first column since that of
the run before, and the length: 2.0 bytes a run under zstd, 69 a drawn building, a fifth less than
absolute columns. The first run of an instance is absolute, so that each row stands for itself.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.errors import DatasetError
from geo.instances import Instances, Int32Array, Int64Array
from geo.seams import OversizeReport, Pieces

_INT32_LIST = pa.list_(pa.field("item", pa.int32(), nullable=False))
_INT64_LIST = pa.list_(pa.field("item", pa.int64(), nullable=False))
_INT64_PAIR = pa.list_(pa.field("item", pa.int64(), nullable=False), 2)
_INT64_QUAD = pa.list_(pa.field("item", pa.int64(), nullable=False), 4)


def _schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


_INSTANCE_COLUMNS = {
    "row_steps": _INT32_LIST,
    "start_steps": _INT32_LIST,
    "run_lengths": _INT32_LIST,
    "num_pixels": pa.int64(),
    "probability_sum": pa.int64(),
    "rim_sum": pa.int64(),
    "rim_count": pa.int64(),
    "image_index": _INT32_LIST,
    "image_pixels": _INT64_LIST,
}
INSTANCE_SCHEMA = _schema(_INSTANCE_COLUMNS)
PIECE_SCHEMA = _schema(
    _INSTANCE_COLUMNS
    | {"is_oversize": pa.bool_(), "bounds": _INT64_QUAD, "first_pixel": _INT64_PAIR}
)
OVERSIZE_SCHEMA = _schema(
    {"bounds": _INT64_QUAD, "num_pixels": pa.int64(), "first_pixel": _INT64_PAIR}
)


def instances_to_table(instances: Instances) -> pa.Table:
    """One row per instance, of `INSTANCE_SCHEMA`; exact."""
    return pa.Table.from_arrays(_instance_arrays(instances), schema=INSTANCE_SCHEMA)


def instances_from_table(table: pa.Table) -> Instances:
    """The instances of a table, in its order; also of a piece table.

    The arrays are copies: kernels compile once for writable arrays, and Arrow's are read-only.

    Raises:
        DatasetError: if a column is missing or of another type, or a value or run is missing.
    """
    _check_columns(table, INSTANCE_SCHEMA)
    (row_steps, start_steps, lengths), run_offsets = _parallel_lists(
        table, "row_steps", "start_steps", "run_lengths"
    )
    (image_index, image_pixels), image_offsets = _parallel_lists(
        table, "image_index", "image_pixels"
    )
    run_start = _sum_steps(start_steps, run_offsets)
    return Instances(
        run_row=_sum_steps(row_steps, run_offsets),
        run_start=run_start,
        run_end=run_start + lengths,
        run_offsets=run_offsets,
        num_pixels=_numbers(table["num_pixels"]),
        probability_sum=_numbers(table["probability_sum"]),
        rim_sum=_numbers(table["rim_sum"]),
        rim_count=_numbers(table["rim_count"]),
        image_offsets=image_offsets,
        image_index=image_index.copy(),
        image_pixels=image_pixels.copy(),
    )


def pieces_to_table(pieces: Pieces) -> pa.Table:
    """One row per piece, of `PIECE_SCHEMA`; exact."""
    extra = [
        pa.array(pieces.is_oversize),
        _fixed_lists(pieces.bounds, _INT64_QUAD),
        _fixed_lists(pieces.first_pixels, _INT64_PAIR),
    ]
    return pa.Table.from_arrays(_instance_arrays(pieces.instances) + extra, schema=PIECE_SCHEMA)


def pieces_from_table(table: pa.Table) -> Pieces:
    """The pieces of a table, in its order.

    Raises:
        DatasetError: if a column is missing or of another type, or a value is missing.
    """
    _check_columns(table, PIECE_SCHEMA)
    return Pieces(
        instances=instances_from_table(table),
        is_oversize=_numbers(table["is_oversize"]),
        bounds=_fixed_width(table["bounds"], 4),
        first_pixels=_fixed_width(table["first_pixel"], 2),
    )


def oversize_to_table(report: OversizeReport) -> pa.Table:
    """One row per instance that was too large, of `OVERSIZE_SCHEMA`."""
    arrays = [
        _fixed_lists(report.bounds, _INT64_QUAD),
        pa.array(report.num_pixels),
        _fixed_lists(report.first_pixels, _INT64_PAIR),
    ]
    return pa.Table.from_arrays(arrays, schema=OVERSIZE_SCHEMA)


def oversize_from_table(table: pa.Table) -> OversizeReport:
    """The report of a table, in its order.

    Raises:
        DatasetError: if a column is missing or of another type, or a value is missing.
    """
    _check_columns(table, OVERSIZE_SCHEMA)
    return OversizeReport(
        bounds=_fixed_width(table["bounds"], 4),
        num_pixels=_numbers(table["num_pixels"]),
        first_pixels=_fixed_width(table["first_pixel"], 2),
    )


def _instance_arrays(instances: Instances) -> list[pa.Array]:
    runs = instances.run_offsets
    images = instances.image_offsets
    return [
        _list_array(runs, _steps(instances.run_row, runs), _INT32_LIST),
        _list_array(runs, _steps(instances.run_start, runs), _INT32_LIST),
        _list_array(runs, instances.run_end - instances.run_start, _INT32_LIST),
        pa.array(instances.num_pixels),
        pa.array(instances.probability_sum),
        pa.array(instances.rim_sum),
        pa.array(instances.rim_count),
        _list_array(images, instances.image_index, _INT32_LIST),
        _list_array(images, instances.image_pixels, _INT64_LIST),
    ]


def _steps(values: Int32Array, offsets: Int64Array) -> Int32Array:
    """Differences to the value before; the first value of each group stays as it is."""
    steps = np.diff(values, prepend=np.int32(0))
    first = offsets[:-1]
    steps[first] = values[first]
    return np.asarray(steps, np.int32)


def _sum_steps(steps: Int32Array, offsets: Int64Array) -> Int32Array:
    """The values that `_steps` came from."""
    sums = np.cumsum(steps, dtype=np.int64)
    first = offsets[:-1]
    before = np.repeat(sums[first] - steps[first], np.diff(offsets))
    return (sums - before).astype(np.int32)


def _list_array(offsets: Int64Array, values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    # Arrow's list offsets are int32: a table holds at most 2**31 runs, 16 GB of them.
    return pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(values), type=kind)


def _fixed_lists(values: Int64Array, kind: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind)


def _check_columns(table: pa.Table, schema: pa.Schema) -> None:
    for field in schema:
        index = table.schema.get_field_index(field.name)
        if index < 0 or table.schema.field(index).type != field.type:
            found = "no such column" if index < 0 else str(table.schema.field(index).type)
            raise DatasetError(
                f"column {field.name!r} of an instance table: expected {field.type}, got {found}; "
                "the file was written by another version or is no instance table"
            )
        if table.column(index).null_count:
            raise DatasetError(f"column {field.name!r} of an instance table has missing values")


def _lists(column: pa.ChunkedArray) -> tuple[npt.NDArray[Any], Int64Array]:
    """Flat values (read-only) and int64 offsets of a list column, sliced or not."""
    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return lists.flatten().to_numpy(), offsets - offsets[0]


def _parallel_lists(table: pa.Table, *names: str) -> tuple[list[npt.NDArray[Any]], Int64Array]:
    """Flat values of list columns that must be equally long, none empty, and their offsets."""
    values, offsets = zip(*(_lists(table[name]) for name in names), strict=True)
    lengths = np.diff(offsets[0])
    if not lengths.all() or any(not np.array_equal(other, offsets[0]) for other in offsets[1:]):
        raise DatasetError(
            f"columns {', '.join(names)} of an instance table: expected lists of equal length, "
            "none empty; the file is damaged or is no instance table"
        )
    return list(values), offsets[0]


def _fixed_width(column: pa.ChunkedArray, width: int) -> Int64Array:
    return column.combine_chunks().flatten().to_numpy().reshape(-1, width).copy()


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    return column.combine_chunks().to_numpy(zero_copy_only=False).copy()
