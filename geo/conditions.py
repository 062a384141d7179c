"""Conditions on footprints, decided as early as they can be.

Each condition is asked three times: of a whole file by the manifest, of its row groups by the
footer, and of rows. `may` tells which may hold a row that fits, `must` where all rows do; only what
neither decides is read.
"""

import datetime
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
import shapely.affinity
from typing_extensions import override

from geo.dataset import DatasetShard
from geo.geoparquet import BBOX_COLUMN, BBOX_FIELDS, GEOMETRY_COLUMN, Bounds
from geo.geoparquet_reader import boxes_meet, column_limits, row_group_boxes
from geo.plus_code_areas import PlusCodeArea
from geo.s2cells import (
    cell_from_token,
    cell_parent,
    cell_polygon,
    cell_range,
    s2_leaf_cells,
)

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]
UInt64Array = npt.NDArray[np.uint64]

_TURN_DEG = 360.0
# Bounds of S2 cells and codes are rounded: row groups this near are read.
_SLACK_DEG = 1e-6


class Answer(NamedTuple):
    """What is known of several groups of rows before they are read; arrays of one length.

    Attributes:
        may: groups that may hold a row that fits.
        must: groups of which every row fits.
    """

    may: BoolArray
    must: BoolArray


class Condition(ABC):
    """Something that footprints have to fulfil.

    Attributes:
        columns: what has to be read to decide it row by row.
    """

    columns: tuple[str, ...]

    @abstractmethod
    def of_boxes(self, boxes: Float64Array) -> Answer:
        """The answer for groups of which only the bounding boxes are known; shape (n, 4)."""

    def of_shard(self, shard: DatasetShard) -> Answer:
        """The answer for a file, by what the manifest says."""
        return self.of_boxes(np.array([shard.bounds]))

    def of_groups(self, footer: pq.FileMetaData) -> Answer:
        """The answer for each row group of a file."""
        return self.of_boxes(row_group_boxes(footer))

    @abstractmethod
    def of_rows(self, table: pa.Table) -> BoolArray:
        """Which rows fit."""


class CentroidInBox(Condition):
    """The centroid lies in a box, its south and west side included: neighbours share no row."""

    columns = ("longitude", "latitude")

    def __init__(self, bbox: Bounds) -> None:
        self._bbox = bbox

    @override
    def of_boxes(self, boxes: Float64Array) -> Answer:
        west, south, east, north = self._bbox
        turn = _TURN_DEG if east < west else 0.0
        xmin, ymin, xmax, ymax = boxes.T
        is_inside_x = np.zeros(len(boxes), np.bool_)
        for shift in (0.0, _TURN_DEG):
            is_inside_x |= (xmin + shift >= west) & (xmax + shift < east + turn)
        # A box beyond the antimeridian holds centroids on its other side.
        is_plain = (xmin >= -180.0) & (xmax < 180.0)
        must = is_plain & is_inside_x & (ymin >= south) & (ymax < north)
        return Answer(boxes_meet(list(boxes.T), self._bbox), must)

    @override
    def of_rows(self, table: pa.Table) -> BoolArray:
        west, south, east, north = self._bbox
        longitude, latitude = _numbers(table, "longitude"), _numbers(table, "latitude")
        turn = _TURN_DEG if east < west else 0.0
        is_inside = (longitude >= west) & (longitude < east + turn)
        for shift in (-_TURN_DEG, _TURN_DEG):
            is_inside |= (longitude + shift >= west) & (longitude + shift < east + turn)
        return np.asarray(is_inside & (latitude >= south) & (latitude < north))


class _PreparedArea:
    """An area, prepared once for each thread.

    GEOS makes the index of a prepared geometry when it is first asked, and shapely lets go of the
    interpreter's lock meanwhile: two threads that ask one geometry crash the process.
    """

    def __init__(self, area: shapely.Geometry) -> None:
        self._wkb = shapely.to_wkb(area)
        self._mine = threading.local()

    def of_thread(self) -> shapely.Geometry:
        """The area, for the thread that asks."""
        if not hasattr(self._mine, "area"):
            self._mine.area = shapely.from_wkb(self._wkb)
            shapely.prepare(self._mine.area)
        return self._mine.area


class CentroidInArea(Condition):
    """The centroid lies in an area, its border included."""

    columns = ("longitude", "latitude")

    def __init__(self, area: shapely.Geometry) -> None:
        self._area = _PreparedArea(with_turns(area))

    @override
    def of_boxes(self, boxes: Float64Array) -> Answer:
        rectangles = shapely.box(*boxes.T)
        is_plain = (boxes[:, 0] >= -180.0) & (boxes[:, 2] < 180.0)
        area = self._area.of_thread()
        must = is_plain & shapely.contains_properly(area, rectangles)
        return Answer(shapely.intersects(area, rectangles), must)

    @override
    def of_rows(self, table: pa.Table) -> BoolArray:
        longitude, latitude = _numbers(table, "longitude"), _numbers(table, "latitude")
        return np.asarray(shapely.intersects_xy(self._area.of_thread(), longitude, latitude))


class Touching(Condition):
    """The outline shares a point with an area."""

    columns = (GEOMETRY_COLUMN, BBOX_COLUMN)

    def __init__(self, area: shapely.Geometry) -> None:
        self._area = _PreparedArea(with_turns(area))

    @override
    def of_boxes(self, boxes: Float64Array) -> Answer:
        rectangles, area = shapely.box(*boxes.T), self._area.of_thread()
        must = shapely.contains_properly(area, rectangles)
        return Answer(shapely.intersects(area, rectangles), must)

    @override
    def of_rows(self, table: pa.Table) -> BoolArray:
        boxes = table[BBOX_COLUMN].combine_chunks()
        sides = [boxes.field(name).to_numpy().astype(np.float64) for name in BBOX_FIELDS]
        rectangles, area = shapely.box(*sides), self._area.of_thread()
        touches = shapely.contains_properly(area, rectangles)
        rows = np.flatnonzero(shapely.intersects(area, rectangles) & ~touches)
        wkb = table[GEOMETRY_COLUMN].take(pa.array(rows)).to_numpy()
        touches[rows] = shapely.intersects(area, shapely.from_wkb(wkb))
        return np.asarray(touches)


class InPlusCode(Condition):
    """The centroid's Plus Code begins with a prefix."""

    columns = ("full_plus_code",)

    def __init__(self, area: PlusCodeArea) -> None:
        self._prefix, self._bounds = area.prefix, area.bounds

    @override
    def of_boxes(self, boxes: Float64Array) -> Answer:
        return Answer(_may_meet(boxes, self._bounds), np.zeros(len(boxes), np.bool_))

    @override
    def of_rows(self, table: pa.Table) -> BoolArray:
        return _booleans(pc.starts_with(table["full_plus_code"], self._prefix))


class InS2Cells(Condition):
    """The centroid lies in one of some S2 cells."""

    columns = ("longitude", "latitude")

    def __init__(self, cells: Sequence[int]) -> None:
        ranges = sorted(map(cell_range, cells))
        self._first = np.array([first for first, _ in ranges], np.uint64)
        # Of nested cells the inner ones end first: what counts is the last end so far.
        ends = np.array([last for _, last in ranges], np.uint64)
        self._last = np.maximum.accumulate(ends)
        self._bounds = [cell_polygon(cell).bounds for cell in cells]

    @override
    def of_boxes(self, boxes: Float64Array) -> Answer:
        may = np.zeros(len(boxes), np.bool_)
        for bounds in self._bounds:
            may |= _may_meet(boxes, bounds)
        return Answer(may, np.zeros(len(boxes), np.bool_))

    @override
    def of_shard(self, shard: DatasetShard) -> Answer:
        first, last = cell_range(cell_from_token(shard.token))
        meets = (self._first <= np.uint64(last)) & (self._last >= np.uint64(first))
        holds = (self._first <= np.uint64(first)) & (self._last >= np.uint64(last))
        return Answer(np.array([meets.any()]), np.array([holds.any()]))

    @override
    def of_rows(self, table: pa.Table) -> BoolArray:
        leaves = s2_leaf_cells(_numbers(table, "latitude"), _numbers(table, "longitude"))
        at = np.searchsorted(self._first, leaves, side="right") - 1
        return np.asarray((at >= 0) & (leaves <= self._last[np.maximum(at, 0)]))


class InRange(Condition):
    """A number lies between two limits, both included."""

    def __init__(self, column: str, least: float = -np.inf, most: float = np.inf) -> None:
        self.columns = (column,)
        self._column, self._least, self._most = column, least, most

    @override
    def of_boxes(self, boxes: Float64Array) -> Answer:
        return Answer(np.ones(len(boxes), np.bool_), np.zeros(len(boxes), np.bool_))

    @override
    def of_groups(self, footer: pq.FileMetaData) -> Answer:
        low, high = column_limits(footer, self._column)
        return Answer(
            (high >= self._least) & (low <= self._most),
            (low >= self._least) & (high <= self._most),
        )

    @override
    def of_rows(self, table: pa.Table) -> BoolArray:
        values = _numbers(table, self._column)
        return np.asarray((values >= self._least) & (values <= self._most))


class Dated(Condition):
    """The image's date is known and lies between two days, both included."""

    columns = ("image_date",)

    def __init__(self, first: datetime.date | None, last: datetime.date | None) -> None:
        self._first, self._last = first or datetime.date.min, last or datetime.date.max

    @override
    def of_boxes(self, boxes: Float64Array) -> Answer:
        return Answer(np.ones(len(boxes), np.bool_), np.zeros(len(boxes), np.bool_))

    @override
    def of_groups(self, footer: pq.FileMetaData) -> Answer:
        num = footer.num_row_groups
        paths = [footer.schema.column(i).path for i in range(footer.num_columns)]
        answer = Answer(np.ones(num, np.bool_), np.zeros(num, np.bool_))
        for group in range(num):
            found = footer.row_group(group).column(paths.index("image_date")).statistics
            if found is not None and found.has_min_max:
                answer.may[group] = found.max >= self._first and found.min <= self._last
        return answer

    @override
    def of_rows(self, table: pa.Table) -> BoolArray:
        dates = table["image_date"]
        is_within = pc.and_(
            pc.greater_equal(dates, pa.scalar(self._first, pa.date32())),
            pc.less_equal(dates, pa.scalar(self._last, pa.date32())),
        )
        return _booleans(pc.fill_null(is_within, False))


class AboveRegionThreshold(Condition):
    """The confidence reaches the threshold of the region; regions without one hold no row."""

    columns = ("longitude", "latitude", "confidence")

    def __init__(self, cells: UInt64Array, thresholds: Float64Array, level: int) -> None:
        """Thresholds of S2 cells of one level, in any order."""
        order = np.argsort(cells)
        self._cells, self._thresholds, self._level = cells[order], thresholds[order], level

    @override
    def of_boxes(self, boxes: Float64Array) -> Answer:
        return Answer(np.ones(len(boxes), np.bool_), np.zeros(len(boxes), np.bool_))

    @override
    def of_groups(self, footer: pq.FileMetaData) -> Answer:
        _, high = column_limits(footer, "confidence")
        least = self._thresholds.min(initial=np.inf)
        return Answer(high >= least, np.zeros(len(high), np.bool_))

    @override
    def of_rows(self, table: pa.Table) -> BoolArray:
        if len(self._cells) == 0:
            return np.zeros(len(table), np.bool_)
        leaves = s2_leaf_cells(_numbers(table, "latitude"), _numbers(table, "longitude"))
        regions = cell_parent(leaves, self._level)
        at = np.minimum(np.searchsorted(self._cells, regions), len(self._cells) - 1)
        is_known = self._cells[at] == regions
        return np.asarray(is_known & (_numbers(table, "confidence") >= self._thresholds[at]))


def with_turns(area: shapely.Geometry) -> shapely.Geometry:
    """An area with itself a turn east and west, as far as rows have such longitudes.

    Args:
        area: longitude and latitude in degrees.
    """
    near = shapely.box(-_TURN_DEG / 2 - 1.0, -90.0, _TURN_DEG / 2 + 1.0, 90.0)
    turned = [shapely.affinity.translate(area, turn) for turn in (-_TURN_DEG, 0.0, _TURN_DEG)]
    kept = [part for part in turned if shapely.intersects(part, near)]
    return kept[0] if len(kept) == 1 else shapely.union_all(kept)


def _may_meet(boxes: Float64Array, bounds: Bounds) -> BoolArray:
    west, south, east, north = bounds
    if east - west >= _TURN_DEG:
        west, east = -_TURN_DEG / 2, _TURN_DEG / 2
    slack = (west - _SLACK_DEG, south - _SLACK_DEG, east + _SLACK_DEG, north + _SLACK_DEG)
    return boxes_meet(list(boxes.T), slack)


def _numbers(table: pa.Table, column: str) -> Float64Array:
    return np.asarray(table[column].to_numpy(), np.float64)


def _booleans(values: pa.Array | pa.ChunkedArray) -> BoolArray:
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    return np.asarray(chunked.to_numpy(), np.bool_)
