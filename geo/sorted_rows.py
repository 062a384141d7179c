"""Rows of many files, read place by place: what lies in an S2 cell, and what lies around it.

Two datasets that are cut into files differently are joined this way: both are asked for the same
cell, one after the other along S2's Hilbert curve, and for the rows nearby. What is kept in memory
is an index of row groups (about 60 bytes each) and the groups that were read last.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from geo.conditions import Condition
from geo.errors import DatasetError
from geo.geoparquet import BBOX_COLUMN, BBOX_FIELDS, Bounds
from geo.geoparquet_reader import row_group_boxes
from geo.grid import unwrap_longitude
from geo.places import ReadPlace, arrow_source
from geo.s2cells import s2_leaf_cells
from geo.shards import count_cells, merge_counts

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]
Float64Array = npt.NDArray[np.float64]

_PLACE_COLUMNS = ["longitude", "latitude"]
_CACHED_BYTES = 64 << 20
_OPEN_FILES = 16
# Boxes are float32 rounded outwards and compared after whole turns: none is missed by so much.
_SLACK_DEG = 1e-4

NEIGHBOURHOOD_DEG = 0.05
"""Around the rows that are wanted: the neighbours of their neighbours are read, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBlock:
    """The rows of a cell and those around it; struct of arrays.

    Attributes:
        table: the columns asked for.
        is_owned: whether the row's centroid lies in the cell, bool, shape (n,).
        s2_cell: leaf cell of each centroid, uint64.
        boxes: (west, south, east, north) in degrees, turned beside the place asked for; float64,
            shape (n, 4).
        turn_deg: what was added to the row's longitudes: 0, 360 or -360.
    """

    table: pa.Table
    is_owned: BoolArray
    s2_cell: UInt64Array
    boxes: Float64Array
    turn_deg: Float64Array

    def __len__(self) -> int:
        return len(self.is_owned)

    def take(self, index: Int64Array) -> "RowBlock":
        """The chosen rows, in the order given."""
        return RowBlock(
            table=self.table.take(pa.array(index)),
            is_owned=self.is_owned[index],
            s2_cell=self.s2_cell[index],
            boxes=self.boxes[index],
            turn_deg=self.turn_deg[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A decoded row group."""

    table: pa.Table
    s2_cell: UInt64Array
    boxes: Float64Array


class SortedRows:
    """Files of rows along the Hilbert curve, with their row groups indexed by place.

    Each file needs the columns `longitude` and `latitude` of the centroids and the struct `bbox`.

    Attributes:
        cells: S2 cells of `COUNT_LEVEL` that hold rows, uint64, ascending.
        counts: rows in each, int64.
        num_rows: all rows.
        bounds: of all row groups, (west, south, east, north), float64, shape (num_groups, 4).
    """

    def __init__(
        self,
        sources: Sequence[ReadPlace],
        schema: pa.Schema,
        conditions: Sequence[Condition] = (),
        on_rows: Callable[[int], None] = lambda num_rows: None,
    ) -> None:
        """Index the files: the places of all rows are read.

        Args:
            sources: the files, along the curve.
            schema: the columns that `block` gives.
            conditions: row groups that hold no row that fits, nor one within `NEIGHBOURHOOD_DEG` of
                where such a row may lie, are left out.
            on_rows: called with the rows indexed so far.

        Raises:
            DatasetError: if a file is missing, damaged or lacks a column.
        """
        self._sources = list(sources)
        self._schema = schema
        self._conditions = tuple(conditions)
        self._opened = functools.lru_cache(_OPEN_FILES)(self._open)
        self._cache: OrderedDict[int, _Group] = OrderedDict()
        self._cached_bytes = 0
        parts = []
        for number in range(len(self._sources)):
            parts.append(self._index_file(number))
            on_rows(sum(int(counts.sum()) for _, (_, counts) in parts))
        self.cells, self.counts = merge_counts([count for _, count in parts])
        groups = [group for found, _ in parts for group in found]
        self.num_rows = int(self.counts.sum())
        self._place = np.array([g[0] for g in groups], np.int64).reshape(-1, 2)
        self._cells = np.array([g[1] for g in groups], np.uint64).reshape(-1, 2)
        self.bounds = np.array([g[2] for g in groups], np.float64).reshape(-1, 4)

    def block(
        self, first: int, last: int, middle_deg: float, around: Bounds | None = None
    ) -> RowBlock:
        """The rows whose centroid lies in a range of S2 cells, and those that meet a box.

        Args:
            first: first leaf cell.
            last: last leaf cell.
            middle_deg: longitude that all boxes are turned beside.
            around: (west, south, east, north) beside `middle_deg`; rows whose box meets it are
                given too. None for the cell's own rows only.
        """
        is_wanted = (self._cells[:, 0] <= np.uint64(last)) & (self._cells[:, 1] >= np.uint64(first))
        if around is not None:
            boxes, _ = _turned(self.bounds, middle_deg)
            # A group may reach round more of the earth than a turn can settle.
            is_wanted |= _meets(boxes, around) | (np.ptp(self.bounds[:, ::2], axis=1) > 180.0)
        parts = [
            self._rows_of(int(group), first, last, middle_deg, around)
            for group in np.flatnonzero(is_wanted)
        ]
        if not parts:
            return _empty_block(self._schema.empty_table())
        return RowBlock(
            table=pa.concat_tables([part.table for part in parts]),
            is_owned=np.concatenate([part.is_owned for part in parts]),
            s2_cell=np.concatenate([part.s2_cell for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
            turn_deg=np.concatenate([part.turn_deg for part in parts]),
        )

    def _rows_of(
        self, number: int, first: int, last: int, middle_deg: float, around: Bounds | None
    ) -> RowBlock:
        group = self._group(number)
        is_owned = (group.s2_cell >= np.uint64(first)) & (group.s2_cell <= np.uint64(last))
        boxes, turn_deg = _turned(group.boxes, middle_deg)
        is_wanted = is_owned if around is None else is_owned | _meets(boxes, around)
        block = RowBlock(
            table=group.table,
            is_owned=is_owned,
            s2_cell=group.s2_cell,
            boxes=boxes,
            turn_deg=turn_deg,
        )
        return block if is_wanted.all() else block.take(np.flatnonzero(is_wanted))

    def _group(self, number: int) -> _Group:
        """A row group, from memory where it was read lately."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        file, index = self._place[number].tolist()
        names = list(dict.fromkeys([*self._schema.names, *_PLACE_COLUMNS, BBOX_COLUMN]))
        table = self._read(file, index, names)
        group = _Group(
            table=table.select(self._schema.names),
            s2_cell=_leaf_cells(table),
            boxes=_boxes_of(table),
        )
        self._cache[number] = group
        self._cached_bytes += group.table.nbytes
        while self._cached_bytes > _CACHED_BYTES and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= oldest.table.nbytes
        return group

    def _index_file(
        self, number: int
    ) -> tuple[
        list[tuple[tuple[int, int], tuple[int, int], list[float]]], tuple[UInt64Array, Int64Array]
    ]:
        """Place, first and last cell and bounds of each row group, and rows per cell."""
        groups, counts = [], []
        for index in self._groups_to_index(number):
            table = self._read(number, index, [*_PLACE_COLUMNS, BBOX_COLUMN])
            if len(table) == 0:
                continue
            # Beside the first one: a group across the antimeridian is no box round the earth.
            cells, boxes = _leaf_cells(table), _boxes_of(table)
            boxes, _ = _turned(boxes, float(boxes[0, 0]))
            counts.append(count_cells(cells))
            bounds = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
            groups.append(((number, index), (int(cells.min()), int(cells.max())), bounds))
        return groups, merge_counts(counts)

    def _groups_to_index(self, number: int) -> list[int]:
        """Row groups that hold, or lie around, rows that fit the conditions, by the footer."""
        boxes = row_group_boxes(self._opened(number).metadata)
        reach = NEIGHBOURHOOD_DEG * np.array([-1.0, -1.0, 1.0, 1.0])
        is_wanted = np.ones(len(boxes), np.bool_)
        for condition in self._conditions:
            is_wanted &= condition.of_boxes(boxes + reach).may
        return np.flatnonzero(is_wanted).tolist()

    def may_hold(self, first: int, last: int) -> bool:
        """Whether a range of S2 cells may hold rows that fit the conditions."""
        is_here = (self._cells[:, 0] <= np.uint64(last)) & (self._cells[:, 1] >= np.uint64(first))
        for condition in self._conditions:
            is_here &= condition.of_boxes(self.bounds).may
        return bool(is_here.any())

    def _read(self, number: int, index: int, names: list[str]) -> pa.Table:
        try:
            table = self._opened(number).read_row_group(index, columns=names)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(
                f"{self._sources[number]} cannot be read: {error}. It is damaged or cut off; "
                "run again to write it"
            ) from error
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise DatasetError(f"{self._sources[number]} has no column {missing[0]!r}")
        return table.replace_schema_metadata(None)

    def _open(self, number: int) -> pq.ParquetFile:
        source = self._sources[number]
        try:
            return pq.ParquetFile(arrow_source(source), page_checksum_verification=True)
        except FileNotFoundError as error:
            raise DatasetError(
                f"{source} is missing, though manifest.json names it; run again to write it"
            ) from error
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(
                f"{source} cannot be read as Parquet: {error}. It is damaged or cut off; run "
                "again to write it"
            ) from error


def bounds_of(boxes: Float64Array) -> Bounds | None:
    """The box around boxes (west, south, east, north), shape (n, 4); None without any."""
    if len(boxes) == 0:
        return None
    west, south = boxes[:, :2].min(axis=0).tolist()
    east, north = boxes[:, 2:].max(axis=0).tolist()
    return west, south, east, north


def _empty_block(table: pa.Table) -> RowBlock:
    return RowBlock(
        table=table,
        is_owned=np.zeros(0, np.bool_),
        s2_cell=np.zeros(0, np.uint64),
        boxes=np.zeros((0, 4)),
        turn_deg=np.zeros(0),
    )


def _leaf_cells(table: pa.Table) -> UInt64Array:
    return s2_leaf_cells(table["latitude"].to_numpy(), table["longitude"].to_numpy())


def _boxes_of(table: pa.Table) -> Float64Array:
    boxes = table[BBOX_COLUMN].combine_chunks()
    sides = [boxes.field(side).to_numpy(zero_copy_only=False) for side in BBOX_FIELDS]
    return np.stack(sides, axis=1).astype(np.float64)


def _turned(boxes: Float64Array, middle_deg: float) -> tuple[Float64Array, Float64Array]:
    """Boxes turned beside a longitude, and the turns."""
    centre = (boxes[:, 0] + boxes[:, 2]) / 2
    turn_deg = np.rint(unwrap_longitude(centre, middle_deg) - centre)
    if not turn_deg.any():
        return boxes, turn_deg
    return boxes + np.stack([turn_deg, 0 * turn_deg, turn_deg, 0 * turn_deg], axis=1), turn_deg


def _meets(boxes: Float64Array, around: Bounds) -> BoolArray:
    west, south, east, north = around
    return np.asarray(
        (boxes[:, 0] <= east + _SLACK_DEG)
        & (boxes[:, 2] >= west - _SLACK_DEG)
        & (boxes[:, 1] <= north + _SLACK_DEG)
        & (boxes[:, 3] >= south - _SLACK_DEG)
    )
