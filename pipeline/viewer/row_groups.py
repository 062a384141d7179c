"""The row groups of a dataset's files: where each lies, and their columns when they are wanted."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from geo.dataset import Dataset, missing_shard
from geo.errors import DatasetError
from geo.geoparquet import BBOX_COLUMN, BBOX_FIELDS
from geo.places import ReadPlace, arrow_source

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_NUM_READERS = 8
"""Footers read at once: of a bucket, waiting is all that it takes."""


@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """All row groups of some files, numbered in the order of the files.

    Attributes:
        sources: the files.
        footers: their metadata, so that they are read once.
        files: file of each row group, int64, shape (n,).
        places: its number in the file.
        starts: number of its first row among all rows, int64, shape (n + 1,).
        bounds: west, south, east and north of its outlines in degrees, shape (4, n); infinite where
            the footer does not say.
    """

    sources: tuple[ReadPlace, ...]
    footers: tuple[pq.FileMetaData, ...]
    files: Int64Array
    places: Int64Array
    starts: Int64Array
    bounds: Float64Array

    def __len__(self) -> int:
        return len(self.files)

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return int(self.starts[-1])

    @property
    def column_names(self) -> frozenset[str]:
        """Names of the columns that all files have."""
        return frozenset.intersection(
            *(frozenset(footer.schema.to_arrow_schema().names) for footer in self.footers)
        )

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Columns of a row group, in this order; safe from several threads.

        Raises:
            DatasetError: if the file has gone, is damaged, or lacks a column.
        """
        file = int(self.files[group])
        source = self.sources[file]
        try:
            with pq.ParquetFile(arrow_source(source), metadata=self.footers[file]) as parquet:
                table = parquet.read_row_group(
                    int(self.places[group]), columns=list(columns), use_threads=False
                )
            return table.select(list(columns))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DatasetError(
                f"{source} cannot be read: {error}; run again to write it"
            ) from error

    def group_of(self, row: int) -> tuple[int, int]:
        """The row group that holds a row, and its place there.

        Raises:
            IndexError: if there is no such row.
        """
        if not 0 <= row < self.num_rows:
            raise IndexError(f"row {row}: expected 0 to {self.num_rows - 1}")
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        return group, row - int(self.starts[group])


def open_footprints(dataset: Dataset) -> RowGroups:
    """The row groups of all shards, by their footers.

    Raises:
        DatasetError: if a shard is missing or damaged, or has other rows than the manifest says.
    """
    places = [dataset.place_of(shard) for shard in dataset.shards]
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        footers = list(pool.map(_footer, places))
    for place, shard, footer in zip(places, dataset.shards, footers, strict=True):
        if footer.num_rows != shard.num_rows:
            raise DatasetError(
                f"{place} has {footer.num_rows} rows, the manifest says {shard.num_rows}; run again"
            )
    return _row_groups(places, footers)


def open_file(place: ReadPlace) -> RowGroups:
    """The row groups of one file with a column `bbox`, such as the ledger.

    Raises:
        DatasetError: if it is missing or damaged.
    """
    return _row_groups([place], [_footer(place)])


def _footer(place: ReadPlace) -> pq.FileMetaData:
    try:
        return pq.read_metadata(arrow_source(place))
    except FileNotFoundError:
        raise missing_shard(place) from None
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{place} is no whole Parquet file ({error}); run again") from error


def _row_groups(places: Sequence[ReadPlace], footers: Sequence[pq.FileMetaData]) -> RowGroups:
    at = [(i, k) for i, footer in enumerate(footers) for k in range(footer.num_row_groups)]
    rows = [footers[i].row_group(k).num_rows for i, k in at]
    files, numbers = np.array(at, np.int64).reshape(-1, 2).T
    return RowGroups(
        sources=tuple(places),
        footers=tuple(footers),
        files=files,
        places=numbers,
        starts=np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]),
        bounds=np.concatenate([np.zeros((0, 4)), *map(_bounds, places, footers)]).T,
    )


def _bounds(place: ReadPlace, footer: pq.FileMetaData) -> Float64Array:
    """Bounds of a file's row groups, shape (n, 4)."""
    index = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    try:
        columns = [index[f"{BBOX_COLUMN}.{field}"] for field in BBOX_FIELDS]
    except KeyError as error:
        raise DatasetError(f"{place} has no column {error}; it is no file of everyroof") from error
    bounds = np.empty((footer.num_row_groups, 4))
    for group in range(len(bounds)):
        for side, column in enumerate(columns):
            said = footer.row_group(group).column(column).statistics
            unknown = -np.inf if side < 2 else np.inf
            value = (said.min if side < 2 else said.max) if said and said.has_min_max else unknown
            bounds[group, side] = value
    return bounds
