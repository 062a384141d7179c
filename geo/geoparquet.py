"""GeoParquet 1.1 files: written in Hilbert order, pruned by bounding box when read.

The order of the rows and the row groups follow S2's Hilbert curve of the sphere, and each row group
has the least and greatest bbox values in the file's footer: a read of a small area touches the few
row groups that it needs. Encodings were chosen by measurement (benchmarks/geoparquet.py).
Specification: https://geoparquet.org/releases/v1.1.0/
"""

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geo.atomic_files import atomic_path
from geo.errors import DatasetError
from geo.places import Place, as_place
from geo.row_groups import cut_row_groups

logger = logging.getLogger(__name__)

Float32Array = npt.NDArray[np.float32]
UInt64Array = npt.NDArray[np.uint64]
Bounds = tuple[float, float, float, float]
"""(min_x, min_y, max_x, max_y): longitudes and latitudes in degrees."""

GEOPARQUET_VERSION = "1.1.0"
GEOMETRY_COLUMN = "geometry"
BBOX_COLUMN = "bbox"
SORT_COLUMN = "s2_cell"
"""uint64 S2 leaf cell that rows are sorted by; not written."""

BBOX_FIELDS = ("xmin", "ymin", "xmax", "ymax")
# Strings that differ in nearly every row: a dictionary of them is larger than they are.
_UNIQUE_STRINGS = ("id", "full_plus_code")
# A page is compressed alone: at this size level 3 makes less than larger pages at level 6.
_PAGE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteConfig:
    """How GeoParquet files are laid out."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    row_group_rows: int = 10_000
    """Fewest rows of a row group, the unit that a reader skips, on average. Files too small to gain
    by several groups have one. 10,000 (some 600 kB) is the least that `gpio check` likes; at least
    1."""

    compression_level: int = 3
    """zstd level, 1 to 19. Level 9 saves half a percent and takes three times as long."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.row_group_rows < 1:
            raise ValueError(
                f"row_group_rows = {self.row_group_rows}: expected a number of at least 1"
            )
        if not 1 <= self.compression_level <= 19:
            raise ValueError(
                f"compression_level = {self.compression_level}: expected a number from 1 to 19"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """What was written.

    Attributes:
        num_rows: number of rows.
        num_row_groups: number of row groups.
        num_bytes: size of the file.
        bounds: bounding box of all rows, float32 values rounded outwards; None for no rows.
        sha256: checksum of the file, hexadecimal.
    """

    num_rows: int
    num_row_groups: int
    num_bytes: int
    bounds: Bounds | None
    sha256: str


def write_shard(
    path: str | Place,
    batches: Iterable[pa.RecordBatch | pa.Table],
    *,
    schema: pa.Schema,
    metadata: Mapping[str, str] | None = None,
    config: WriteConfig | None = None,
) -> ShardInfo:
    """Write one GeoParquet file; it appears whole or not at all.

    The same rows give the same bytes (with one version of pyarrow), however they are divided into
    batches and in whatever order they come. All rows are held in memory at once.

    Args:
        path: the file or object; replaced if it exists.
        batches: rows with the columns of `schema` in any order, WKB polygons in `geometry`, the
            struct `bbox` of xmin, ymin, xmax and ymax. Rows are sorted by the columns `s2_cell`
            (uint64 S2 leaf cell) and `id`, where the batches have them, else they keep their order.
        schema: columns to write, in this order; `s2_cell` is left out.
        metadata: further key-value pairs for the file's footer.
        config: layout; the default if None.

    Raises:
        DatasetError: if a column is missing, of another type or null where it must not be, or if
            one id occurs twice.
        OSError: if the file cannot be written.
    """
    config = config or WriteConfig()
    table, order, s2_cells = _rows_in_order(path, batches, schema)
    boxes = _boxes_of(table)
    if boxes is not None:
        boxes = boxes.take(order.to_numpy(), axis=1)
    bounds = _bounds_of(boxes)
    footer = {**(metadata or {}), "geo": json.dumps(geo_metadata(bounds, schema))}
    cuts = cut_row_groups(s2_cells, boxes, config.row_group_rows)
    # A group at a time, so that the rows are not in memory twice.
    groups = (table.take(order[start:end]) for start, end in itertools.pairwise(cuts))
    sha256, num_bytes = _write_file(path, groups, table.schema, footer, config)
    return ShardInfo(
        num_rows=len(table),
        num_row_groups=len(cuts) - 1,
        num_bytes=num_bytes,
        bounds=bounds,
        sha256=sha256,
    )


def write_ordered(
    path: str | Place,
    tables: Sequence[Callable[[], pa.Table]],
    *,
    schema: pa.Schema,
    config: WriteConfig | None = None,
    geometry_types: Sequence[str] = ("Polygon",),
) -> ShardInfo:
    """Write rows that are in order already, a row group at a time; the file appears whole.

    The same bytes as `write_shard` makes of the same rows without `s2_cell` and `id`, in little
    memory: one table, one row group and 16 bytes a row.

    Args:
        path: the file; replaced if it exists.
        tables: each gives some of the rows, with exactly the columns of `schema`, among them
            `bbox`; asked twice.
        schema: columns to write.
        config: layout; the default if None.
        geometry_types: what the geometries are, in GeoParquet's words.

    Raises:
        OSError: if the file cannot be written.
    """
    config = config or WriteConfig()
    boxes = np.concatenate([_boxes_of(table().select([BBOX_COLUMN])) for table in tables], axis=1)
    num_rows, bounds = boxes.shape[1], _bounds_of(boxes)
    cuts = cut_row_groups(np.zeros(num_rows, np.uint64), boxes, config.row_group_rows)
    footer = {"geo": json.dumps(geo_metadata(bounds, schema, geometry_types))}
    sha256, num_bytes = _write_file(path, _regroup(tables, cuts), schema, footer, config)
    return ShardInfo(
        num_rows=num_rows,
        num_row_groups=len(cuts) - 1,
        num_bytes=num_bytes,
        bounds=bounds,
        sha256=sha256,
    )


def write_stream(
    path: str | Place,
    batches: Iterable[pa.RecordBatch],
    *,
    schema: pa.Schema,
    config: WriteConfig | None = None,
    geometry_types: Sequence[str] = ("Polygon",),
) -> ShardInfo:
    """Write rows that come once and in order, a row group at a time; the file appears whole.

    Args:
        path: the file; replaced if it exists.
        batches: with exactly the columns of `schema`; held in memory until they fill a row group.
        schema: columns to write, `geometry` (WKB polygons) among them.
        config: layout; the default if None.
        geometry_types: kinds of shape in `geometry`.

    Raises:
        DatasetError: if the schema has no column `geometry`.
        OSError: if the file cannot be written.
    """
    if GEOMETRY_COLUMN not in schema.names:
        raise DatasetError(f"cannot write {path}: GeoParquet needs the column {GEOMETRY_COLUMN!r}")
    config = config or WriteConfig()
    seen = _Seen()
    footer: dict[str, str] = {}

    def groups() -> Iterator[pa.Table]:
        for table in _gathered(batches, schema, config.row_group_rows):
            seen.add(table)
            yield table
        footer["geo"] = json.dumps(geo_metadata(seen.bounds, schema, geometry_types))

    sha256, num_bytes = _write_file(path, groups(), schema, footer, config)
    return ShardInfo(
        num_rows=seen.num_rows,
        num_row_groups=seen.num_groups,
        num_bytes=num_bytes,
        bounds=seen.bounds,
        sha256=sha256,
    )


class _Seen:
    """What went into a file so far."""

    def __init__(self) -> None:
        self.num_rows = self.num_groups = 0
        self.bounds: Bounds | None = None

    def add(self, table: pa.Table) -> None:
        self.num_rows += len(table)
        self.num_groups += 1
        new, old = _bounds_of(_boxes_of(table)), self.bounds
        if new is not None and old is not None:
            new = (*map(min, new[:2], old[:2]), *map(max, new[2:], old[2:]))  # type: ignore[assignment]
        self.bounds = new or old


def _gathered(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, num_rows: int
) -> Iterator[pa.Table]:
    """Tables of at least so many rows each, the last of what is left."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= num_rows:
            yield pa.Table.from_batches(waiting).cast(schema).combine_chunks()
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).cast(schema).combine_chunks()


def _regroup(tables: Sequence[Callable[[], pa.Table]], cuts: list[int]) -> Iterator[pa.Table]:
    """The rows of all tables, one table from each cut to the next."""
    lengths = [end - start for start, end in itertools.pairwise(cuts)]
    waiting: list[pa.Table] = []
    for make in tables:
        waiting.append(make())
        while lengths and sum(map(len, waiting)) >= lengths[0]:
            # One chunk: where a page ends would else depend on where a table did.
            rows = pa.concat_tables(waiting).combine_chunks()
            size = lengths.pop(0)
            yield rows.slice(0, size)
            waiting = [rows.slice(size)]


def geo_metadata(
    bounds: Bounds | None, schema: pa.Schema, geometry_types: Sequence[str] = ("Polygon",)
) -> dict[str, Any]:
    """The `geo` entry of a GeoParquet 1.1 footer for a column of WKB.

    The CRS is left out, which means OGC:CRS84: longitude and latitude on WGS 84.

    Args:
        bounds: bounding box of the rows; left out if None.
        schema: columns of the file; with `bbox` among them it is declared as the covering.
        geometry_types: what the geometries are.
    """
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": list(geometry_types),
        "edges": "planar",
        "orientation": "counterclockwise",
    }
    if bounds is not None:
        column["bbox"] = list(bounds)
    if BBOX_COLUMN in schema.names:
        column["covering"] = {"bbox": {field: [BBOX_COLUMN, field] for field in BBOX_FIELDS}}
    return {
        "version": GEOPARQUET_VERSION,
        "primary_column": GEOMETRY_COLUMN,
        "columns": {GEOMETRY_COLUMN: column},
    }


def _rows_in_order(
    path: str | Place, batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema
) -> tuple[pa.Table, pa.Array, UInt64Array]:
    """All rows as they came, with exactly the columns to write; their order; S2 cells in order."""
    wanted = pa.schema([field.remove_metadata() for field in schema if field.name != SORT_COLUMN])
    tables = [pa.table(batch) for batch in batches] or [schema.empty_table()]
    try:
        table = pa.concat_tables(tables).combine_chunks()
        written = table.select(wanted.names).cast(wanted)
        keys = [name for name in (SORT_COLUMN, "id") if name in table.column_names]
        order = pa.array(np.arange(len(table), dtype=np.uint64))
        if keys:
            order = pc.sort_indices(table, [(name, "ascending") for name in keys])
    except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DatasetError(f"cannot write {path}: rows do not fit the schema: {error}") from error
    ordered = table.select(keys).take(order)
    _check_no_twins(path, ordered)
    if SORT_COLUMN not in keys:
        return written, order, np.zeros(len(written), np.uint64)
    return written, order, ordered[SORT_COLUMN].to_numpy().astype(np.uint64)


def _check_no_twins(path: str | Place, keys: pa.Table) -> None:
    """Refuse rows whose order their keys do not settle: the bytes would depend on the input's."""
    if "id" not in keys.column_names or len(keys) < 2:
        return
    is_same = np.ones(len(keys) - 1, np.bool_)
    for column in keys.columns:
        values = column.combine_chunks()
        is_same &= pc.equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    if is_same.any():
        name = keys["id"][int(np.argmax(is_same))].as_py()
        raise DatasetError(
            f"cannot write {path}: {np.count_nonzero(is_same)} rows have the id and place of "
            f"another row, one is {name!r}; the same building was delivered twice"
        )


def _boxes_of(table: pa.Table) -> Float32Array | None:
    """The bbox column as an array (xmin, ymin, xmax, ymax), shape (4, n); None without one."""
    if BBOX_COLUMN not in table.column_names:
        return None
    boxes = table[BBOX_COLUMN].combine_chunks()
    sides = [boxes.field(field).to_numpy(zero_copy_only=False) for field in BBOX_FIELDS]
    return np.stack(sides).astype(np.float32, copy=False)


def _bounds_of(boxes: Float32Array | None) -> Bounds | None:
    """Bounding box of all rows that lie somewhere; None without any."""
    if boxes is None:
        return None
    # Rows without a place, such as an image in the ledger that could not be opened.
    is_nowhere = np.isnan(boxes)
    if is_nowhere.any():
        boxes = boxes[:, ~is_nowhere.any(axis=0)]
    if boxes.shape[1] == 0:
        return None
    west, south = boxes[:2].min(axis=1).tolist()
    east, north = boxes[2:].max(axis=1).tolist()
    return (west, south, east, north)


def _write_file(
    path: str | Place,
    groups: Iterable[pa.Table],
    schema: pa.Schema,
    footer: Mapping[str, str],
    config: WriteConfig,
) -> tuple[str, int]:
    """Write tables as row groups of a file that appears whole; its SHA-256 and size."""
    with atomic_path(as_place(path)) as temporary:
        _write_groups(temporary, groups, schema, footer, config)
        with temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return sha256, temporary.stat().st_size


def _write_groups(
    path: Path,
    groups: Iterable[pa.Table],
    schema: pa.Schema,
    footer: Mapping[str, str],
    config: WriteConfig,
) -> None:
    """Write each table as one row group."""
    options = _column_options(schema)
    writer = pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=config.compression_level,
        data_page_size=_PAGE_BYTES,
        # A footer for Arrow alone would only repeat the types.
        store_schema=False,
        # Readers that check it notice damaged files; 6 bytes a column and group.
        write_page_checksum=True,
        **options,
    )
    with writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(len(group), 1))
        writer.add_key_value_metadata(dict(sorted(footer.items())))


def _column_options(schema: pa.Schema) -> dict[str, Any]:
    """Encodings and statistics by column: the arguments of ParquetWriter.

    Floating point numbers are split into streams of their bytes (all exponents, then all next
    bytes, ...), of which zstd makes most. Names that differ in every row but share beginnings with
    their neighbours say how much they share. WKB is stored plainly: zstd finds its repeats best
    when nothing stands in between. What repeats otherwise gets a dictionary.
    """
    encodings: dict[str, str] = {}
    dictionaries: list[str] = []
    statistics: list[str] = []
    for name, kind in _leaf_types(schema):
        if pa.types.is_floating(kind):
            encodings[name] = "BYTE_STREAM_SPLIT"
        elif name in _UNIQUE_STRINGS:
            encodings[name] = "DELTA_BYTE_ARRAY"
        elif pa.types.is_binary(kind):
            encodings[name] = "PLAIN"
        else:
            dictionaries.append(name)
        # Least and greatest WKB mean nothing and are long.
        if not pa.types.is_binary(kind):
            statistics.append(name)
    return {
        "column_encoding": encodings,
        "use_dictionary": dictionaries,
        "write_statistics": statistics,
    }


def _leaf_types(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Dotted names and types of the columns that Parquet stores; structs are taken apart."""
    leaves: list[tuple[str, pa.DataType]] = []
    for field in schema:
        if pa.types.is_struct(field.type):
            inner = pa.schema(list(field.type))
            leaves += [(f"{field.name}.{name}", kind) for name, kind in _leaf_types(inner)]
        else:
            leaves.append((field.name, field.type))
    return leaves
