"""Reading of our GeoParquet files: whole, some columns, or only what lies in a bounding box.

A footer tells the least and greatest bbox values of each row group; groups that cannot hold a row
of the box are never read.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from geo.errors import DatasetError
from geo.geoparquet import BBOX_COLUMN, BBOX_FIELDS, GEOMETRY_COLUMN, GEOPARQUET_VERSION, Bounds
from geo.object_path import ObjectPath
from geo.places import ReadPlace, arrow_source, as_place, as_read_place
from geo.web_path import WebPath

BoolArray = npt.NDArray[np.bool_]
Source = str | ReadPlace | BinaryIO
"""A path, an object, or an open binary file that can seek."""

_PLACES = (str, Path, ObjectPath, WebPath)
_TURN_DEG = 360.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a file's footer says.

    Attributes:
        num_rows: number of rows.
        num_row_groups: number of row groups.
        bounds: bounding box of all rows; None for no rows.
        schema: names and types of the columns.
        metadata: key-value pairs of the footer, without `geo`.
    """

    num_rows: int
    num_row_groups: int
    bounds: Bounds | None
    schema: pa.Schema
    metadata: dict[str, str]


def read_info(source: Source) -> FileInfo:
    """Read a file's footer.

    Raises:
        DatasetError: if the file does not exist, is no whole Parquet file, or not one of ours.
    """
    with open_shard(source) as file:
        bounds = read_geometry_metadata(file, source).get("bbox")
        entries = file.metadata.metadata or {}
        return FileInfo(
            num_rows=file.metadata.num_rows,
            num_row_groups=file.metadata.num_row_groups,
            bounds=None if bounds is None else (bounds[0], bounds[1], bounds[2], bounds[3]),
            schema=file.schema_arrow.remove_metadata(),
            metadata={
                key.decode(): value.decode() for key, value in entries.items() if key != b"geo"
            },
        )


def read_shards(
    sources: Source | Sequence[Source],
    *,
    bbox: Bounds | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read files, or those of a folder, into one table.

    Args:
        sources: a folder (its `*.parquet`, sorted by name), a file, or several files.
        bbox: only rows whose bounding box meets this one, edges included; min_x above max_x means a
            box across the antimeridian. Row groups that hold no such row are not read.
        columns: only these columns, in this order; all if None.

    Returns:
        The rows in the order of the files. Bounding boxes are float32 rounded outwards, so that a
        row up to 2e-5 degrees outside of `bbox` may be among them.

    Raises:
        DatasetError: for a folder without files, a file that is damaged or not one of ours, an
            unknown column, or files whose columns differ.
        ValueError: for a bbox that is not finite or upside down.
    """
    if bbox is not None:
        check_bbox(bbox)
    tables = [_read_file(source, bbox, columns) for source in _listed(sources)]
    for table in tables[1:]:
        if table.schema != tables[0].schema:
            raise DatasetError(
                "the files have different columns; read them one by one: "
                f"{tables[0].schema.names} and {table.schema.names}"
            )
    return pa.concat_tables(tables)


def row_groups_in(file: pq.ParquetFile, bbox: Bounds) -> list[int]:
    """Row groups that may hold a row whose bounding box meets `bbox`, by the footer alone."""
    return np.flatnonzero(boxes_meet(list(row_group_boxes(file.metadata).T), bbox)).tolist()


def row_group_boxes(metadata: pq.FileMetaData) -> npt.NDArray[np.float64]:
    """Bounding box of each row group (xmin, ymin, xmax, ymax) by the footer; shape (n, 4)."""
    sides = [column_limits(metadata, f"{BBOX_COLUMN}.{field}") for field in BBOX_FIELDS]
    return np.stack(
        [
            least if field.endswith("min") else most
            for field, (least, most) in zip(BBOX_FIELDS, sides, strict=True)
        ],
        axis=1,
    )


def column_limits(
    metadata: pq.FileMetaData, path: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Least and greatest value of a column of numbers in each row group, infinite where unsaid.

    Args:
        metadata: footer of a file.
        path: dotted name of the column, such as bbox.xmin.
    """
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    index, num = paths.index(path), metadata.num_row_groups
    least, most = np.full(num, -np.inf), np.full(num, np.inf)
    for group in range(num):
        statistics = metadata.row_group(group).column(index).statistics
        if statistics is not None and statistics.has_min_max:
            least[group], most[group] = statistics.min, statistics.max
    return least, most


def _read_file(source: Source, bbox: Bounds | None, columns: Sequence[str] | None) -> pa.Table:
    """The wanted rows and columns of one file."""
    with open_shard(source) as file:
        read_geometry_metadata(file, source)
        names = file.schema_arrow.names if columns is None else list(columns)
        _check_columns(source, file, [*names, *([BBOX_COLUMN] if bbox is not None else [])])
        if bbox is None:
            table = file.read(columns=names)
        else:
            with_box = names if BBOX_COLUMN in names else [*names, BBOX_COLUMN]
            table = file.read_row_groups(row_groups_in(file, bbox), columns=with_box)
            table = table.filter(pa.array(_rows_in(table, bbox)))
        return table.select(names).replace_schema_metadata(None)


def _rows_in(table: pa.Table, bbox: Bounds) -> BoolArray:
    """Which rows' bounding boxes meet the given one."""
    boxes = table[BBOX_COLUMN].combine_chunks()
    # As float64: a comparison in float32 would round the limits.
    return boxes_meet(
        [
            boxes.field(field).to_numpy(zero_copy_only=False).astype(np.float64)
            for field in BBOX_FIELDS
        ],
        bbox,
    )


def boxes_meet(boxes: Sequence[npt.NDArray[np.float64]], bbox: Bounds) -> BoolArray:
    """Which boxes (xmin, ymin, xmax, ymax as arrays) share a point with `bbox`.

    Longitudes of rows lie around [-180, 180), a little beyond where a building crosses the
    antimeridian: a whole turn away they are the same place.
    """
    xmin, ymin, xmax, ymax = boxes
    west, south, east, north = bbox
    if east < west:
        east += _TURN_DEG
    meets_x = np.zeros(len(xmin), np.bool_)
    for turn in (-_TURN_DEG, 0.0, _TURN_DEG):
        meets_x |= (xmin <= east + turn) & (xmax >= west + turn)
    return np.asarray(meets_x & (ymin <= north) & (ymax >= south))


def _listed(sources: Source | Sequence[Source]) -> list[Source]:
    """The single files meant."""
    if isinstance(sources, str | Path | ObjectPath):
        folder = as_place(sources)
        if not folder.is_dir():
            return [sources]
        files = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
        if not files:
            raise DatasetError(f"{folder} holds no .parquet files; is it the folder of footprints?")
        return list(files)
    listed: list[Source] = [*sources] if isinstance(sources, Sequence) else [sources]
    if not listed:
        raise DatasetError("no files to read: the list is empty")
    return listed


@contextlib.contextmanager
def open_shard(source: Source, metadata: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    """An open file; what is wrong with its bytes becomes a DatasetError, in the block too.

    Args:
        source: the file.
        metadata: its footer, where it was read before.

    Raises:
        DatasetError: if it does not exist or is no whole Parquet file.
    """
    try:
        with pq.ParquetFile(
            _arrow_source(source),
            metadata=metadata,
            page_checksum_verification=True,
            pre_buffer=True,
            memory_map=False,
        ) as file:
            yield file
    except FileNotFoundError as error:
        raise DatasetError(f"{_name(source)} does not exist") from error
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            f"{_name(source)} cannot be read as Parquet: {error}. It is damaged, cut off or of "
            "another format; delete it and run again"
        ) from error


def read_geometry_metadata(file: pq.ParquetFile, source: Source) -> dict[str, Any]:
    """The footer's entry on the geometry column.

    Args:
        file: an open file.
        source: what it was opened from, for messages.

    Raises:
        DatasetError: if there is none, or one that this version does not write.
    """
    text = (file.metadata.metadata or {}).get(b"geo")
    if text is None:
        raise DatasetError(
            f"{_name(source)} is Parquet, but not GeoParquet: no `geo` in its footer"
        )
    try:
        geo = json.loads(text)
        column = geo["columns"][GEOMETRY_COLUMN]
        found = (geo["version"], geo["primary_column"], column["encoding"], column.get("crs"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{_name(source)} has `geo` metadata that is malformed") from error
    if found != (GEOPARQUET_VERSION, GEOMETRY_COLUMN, "WKB", None) or "crs" in column:
        raise DatasetError(
            f"{_name(source)} was not written by everyroof: expected GeoParquet "
            f"{GEOPARQUET_VERSION} with WKB in `geometry` and no crs, found {found}"
        )
    return dict(column)


def _check_columns(source: Source, file: pq.ParquetFile, names: Sequence[str]) -> None:
    """Refuse names of columns that the file does not have."""
    missing = [name for name in names if name not in file.schema_arrow.names]
    if missing:
        raise DatasetError(
            f"{_name(source)} has no column {missing[0]!r}; it has {file.schema_arrow.names}"
        )


def check_bbox(bbox: Bounds) -> None:
    """Refuse boxes that mean nothing."""
    west, south, east, north = bbox
    if not np.isfinite(bbox).all() or south > north or max(abs(west), abs(east)) > _TURN_DEG:
        raise ValueError(
            f"bbox = {bbox}: expected (min_x, min_y, max_x, max_y) in degrees, min_y <= max_y"
        )


def _name(source: Source) -> str:
    """What to call a source in a message."""
    return str(source) if isinstance(source, _PLACES) else str(getattr(source, "name", source))


def _arrow_source(source: Source) -> Any:
    """What pyarrow opens."""
    if isinstance(source, _PLACES):
        return arrow_source(as_read_place(source))
    return source
