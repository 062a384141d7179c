"""Queries: the footprints of a dataset that fulfil some conditions, reading only what it must.

The manifest tells which files may hold such footprints, their footers which row groups; of those
only the columns that are asked for, or that a condition needs, are fetched. Rows come a few row
groups at a time, so that memory is bounded at any size. The engine was chosen by measurement
(benchmarks/query.py).

    frame = read_footprints("out", plus_code="6GGJF", min_confidence=0.7)
    for batch in read_batches(open_dataset("s3://bucket/out"), Query(bbox=(32.5, 0.3, 32.6, 0.4))):
        ...
"""

import collections
import dataclasses
import datetime
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geo.conditions import (
    AboveRegionThreshold,
    CentroidInArea,
    CentroidInBox,
    Condition,
    Dated,
    InPlusCode,
    InRange,
    InS2Cells,
    Touching,
)
from geo.dataset import MANIFEST_NAME, Dataset, DatasetShard, missing_shard, open_dataset
from geo.errors import DatasetError
from geo.footprints import PUBLIC_SCHEMA
from geo.geoparquet import BBOX_COLUMN, GEOMETRY_COLUMN, Bounds
from geo.geoparquet_reader import check_bbox, open_shard, read_geometry_metadata
from geo.object_path import RangeFile
from geo.places import ReadPlace
from geo.plus_code_areas import parse_plus_code
from geo.s2cells import cell_from_token
from geo.score_thresholds import ScoreThresholds, dataset_thresholds

if TYPE_CHECKING:
    import geopandas

MAX_THREADS_LOCAL = 4
MAX_THREADS_REMOTE = 16
"""Requests of a server are mostly waiting."""
_ROWS_AT_ONCE = 40_000
"""Rows of the row groups that one thread reads at a time: some 4 MB."""
_TURN_DEG = 360.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What footprints are wanted; everything that is given must hold.

    Attributes:
        bbox: (min_x, min_y, max_x, max_y) in degrees; min_x above max_x crosses the antimeridian.
        area: in longitude and latitude; parts on both sides of the antimeridian may lie anywhere.
        is_touching: for `bbox` and `area`: whether the outline must share a point with them. Else
            the centroid must lie inside, so that the counts of neighbouring areas add up.
        plus_code: a Plus Code or the beginning of one; see `parse_plus_code`.
        near: (latitude, longitude) for short Plus Codes.
        s2_tokens: the centroid lies in one of these S2 cells.
        min_confidence: least confidence, 0 to 1.
        precision: least precision, 0 to 1, by the thresholds of each region.
        thresholds: the thresholds to use; those of the dataset if None.
        min_area_m2: least area in square metres.
        max_area_m2: greatest area.
        dates: first and last day of the image, either may be None; images without a date do not
            fit.
        columns: columns to return, in this order; all if None.
        limit: most rows to return.

    Raises:
        ValueError: for values out of range.
        GeometryError: for a Plus Code that is none.
    """

    bbox: Bounds | None = None
    area: shapely.Geometry | None = None
    is_touching: bool = False
    plus_code: str | None = None
    near: tuple[float, float] | None = None
    s2_tokens: tuple[str, ...] | None = None
    min_confidence: float | None = None
    precision: float | None = None
    thresholds: ScoreThresholds | None = None
    min_area_m2: float | None = None
    max_area_m2: float | None = None
    dates: tuple[datetime.date | None, datetime.date | None] | None = None
    columns: tuple[str, ...] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.bbox is not None:
            check_bbox(self.bbox)
        if self.area is not None and not shapely.is_valid(self.area):
            raise ValueError(
                f"area: {shapely.is_valid_reason(self.area)}; repair it, for instance with "
                "shapely.make_valid"
            )
        if self.plus_code is not None:
            parse_plus_code(self.plus_code, self.near)
        for token in self.s2_tokens or ():
            cell_from_token(token)
        for name in ("min_confidence", "precision"):
            share = getattr(self, name)
            if share is not None and not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} = {share}: expected a number from 0 to 1")
        least, most = self.min_area_m2 or 0.0, self.max_area_m2
        if not 0.0 <= least < np.inf or (most is not None and not most >= least):
            raise ValueError(
                f"areas from {self.min_area_m2} to {most}: expected rising numbers of at least 0"
            )
        if self.dates is not None and None not in self.dates and self.dates[0] > self.dates[1]:  # type: ignore[operator]
            raise ValueError(f"dates from {self.dates[0]} to {self.dates[1]}: the first is later")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit = {self.limit}: expected a number of at least 0")

    @property
    def is_everything(self) -> bool:
        """Whether every footprint fits."""
        plain = dataclasses.replace(self, columns=None, limit=None)
        return plain == Query(is_touching=self.is_touching, near=self.near)


def read_footprints(
    out: str | os.PathLike[str] | Dataset, query: Query | None = None, **limits: Any
) -> "geopandas.GeoDataFrame":
    """Footprints as a GeoDataFrame in EPSG:4326; `bbox` is left out unless it is asked for.

    Args:
        out: the output folder of a run (a path, s3://, gs:// or http(s)://), or an open dataset.
        query: what is wanted; everything if None.
        limits: attributes of a `Query`, in place of one.

    Raises:
        DatasetError: if the dataset cannot be read.
        ValueError: for limits that mean nothing.
    """
    import geopandas

    dataset = out if isinstance(out, Dataset) else open_dataset(out)
    query = Query(**limits) if query is None else dataclasses.replace(query, **limits)
    if query.columns is None:
        names = tuple(name for name in PUBLIC_SCHEMA.names if name != BBOX_COLUMN)
        query = dataclasses.replace(query, columns=names)
    schema = result_schema(query)
    table = pa.Table.from_batches(read_batches(dataset, query), schema=schema)
    frame = table.drop_columns([GEOMETRY_COLUMN] * (GEOMETRY_COLUMN in schema.names)).to_pandas()
    if GEOMETRY_COLUMN not in schema.names:
        raise ValueError(
            f"columns = {query.columns}: a GeoDataFrame needs `geometry`; use read_batches without"
        )
    outlines = shapely.from_wkb(table[GEOMETRY_COLUMN].to_numpy())
    frame.insert(schema.names.index(GEOMETRY_COLUMN), GEOMETRY_COLUMN, outlines)
    return geopandas.GeoDataFrame(frame, geometry=GEOMETRY_COLUMN, crs="EPSG:4326")


def read_batches(
    dataset: Dataset,
    query: Query | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Footprints as Arrow record batches, in the order of the files, in bounded memory.

    Args:
        dataset: an open dataset.
        query: what is wanted; everything if None.
        on_progress: told how many rows of `touched_shards` have been dealt with so far.

    Yields:
        Batches of at least one row with the columns of `result_schema`.

    Raises:
        DatasetError: if a file is missing, damaged, or of another version than this program's.
    """
    query = query or Query()
    wanted, left = result_schema(query).names, query.limit
    tasks = _tasks(dataset, conditions_of(dataset, query))
    num_threads = MAX_THREADS_LOCAL if isinstance(dataset.place, Path) else MAX_THREADS_REMOTE
    waiting: collections.deque[tuple[_Task, Future[pa.Table]]] = collections.deque()
    with ThreadPoolExecutor(num_threads, "query") as pool:
        try:
            while left is None or left > 0:
                for task in itertools.islice(tasks, num_threads + 1 - len(waiting)):
                    waiting.append((task, pool.submit(_read_task, dataset, task, wanted)))
                if not waiting:
                    return
                task, future = waiting.popleft()
                table = future.result().slice(0, left)
                if on_progress is not None:
                    on_progress(task.position)
                left = None if left is None else left - len(table)
                # One chunk: a filter leaves as many as there were row groups.
                yield from (batch for batch in table.combine_chunks().to_batches() if len(batch))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def count_footprints(dataset: Dataset, query: Query | None = None) -> int:
    """How many footprints fit; what manifest and footers decide is not read.

    Raises:
        DatasetError: as for `read_batches`.
    """
    query = query or Query()
    conditions = conditions_of(dataset, query)
    total = 0
    for task in _tasks(dataset, conditions, with_known=False):
        if task.conditions:
            total += len(_read_task(dataset, task, ()))
        else:
            total += task.num_rows
        if query.limit is not None and total >= query.limit:
            return query.limit
    return total


def touched_shards(dataset: Dataset, query: Query | None = None) -> list[DatasetShard]:
    """Files that may hold such footprints, by the manifest alone."""
    conditions = conditions_of(dataset, query or Query())
    return [shard for shard in dataset.shards if _asked(conditions, shard) is not None]


def result_schema(query: Query | None = None) -> pa.Schema:
    """Columns of a query's rows.

    Raises:
        ValueError: for a column that footprints do not have.
    """
    if query is None or query.columns is None:
        return PUBLIC_SCHEMA
    unknown = [name for name in query.columns if name not in PUBLIC_SCHEMA.names]
    if unknown or not query.columns or len(set(query.columns)) < len(query.columns):
        raise ValueError(
            f"columns = {', '.join(query.columns)}: expected some of "
            f"{', '.join(PUBLIC_SCHEMA.names)}, each once"
        )
    return pa.schema([PUBLIC_SCHEMA.field(name) for name in query.columns])


class _Task(NamedTuple):
    """Some row groups of one file, and what is still to be asked of each of their rows.

    `position` counts the rows of touched files up to the end of these groups.
    """

    shard: DatasetShard
    groups: list[int]
    num_rows: int
    position: int
    conditions: tuple[Condition, ...]


def conditions_of(dataset: Dataset, query: Query) -> list[Condition]:
    """What footprints of a dataset have to fulfil.

    Raises:
        DatasetError: if a precision is asked for and there are no thresholds.
    """
    found: list[Condition] = []
    areas = [query.area] if query.area is not None else []
    if query.bbox is not None and not query.is_touching:
        found.append(CentroidInBox(query.bbox))
    elif query.bbox is not None:
        areas.append(_box(query.bbox))
    kind = Touching if query.is_touching else CentroidInArea
    found += [kind(area) for area in areas]
    if query.s2_tokens is not None:
        found.append(InS2Cells([cell_from_token(token) for token in query.s2_tokens]))
    if query.plus_code is not None:
        found.append(InPlusCode(parse_plus_code(query.plus_code, query.near)))
    if query.min_confidence is not None:
        found.append(InRange("confidence", least=query.min_confidence))
    if query.min_area_m2 is not None or query.max_area_m2 is not None:
        most = np.inf if query.max_area_m2 is None else query.max_area_m2
        found.append(InRange("area_in_meters", query.min_area_m2 or 0.0, most))
    if query.dates is not None:
        found.append(Dated(*query.dates))
    if query.precision is not None:
        table = query.thresholds or dataset_thresholds(dataset)
        values = table.at(query.precision)
        is_reached = ~np.isnan(values)
        found.append(AboveRegionThreshold(table.cells[is_reached], values[is_reached], table.level))
    return found


def _box(bbox: Bounds) -> shapely.Geometry:
    west, south, east, north = bbox
    east += _TURN_DEG if east < west else 0.0
    if west < east and south < north:
        return shapely.box(west, south, east, north)
    # A polygon without area would vanish where it is united with itself a turn away.
    corners = dict.fromkeys([(west, south), (east, north)])
    return shapely.LineString(corners) if len(corners) == 2 else shapely.Point(*corners)


def _asked(conditions: Sequence[Condition], shard: DatasetShard) -> list[Condition] | None:
    """What a file's row groups are still to be asked; None where no row can fit."""
    answers = [condition.of_shard(shard) for condition in conditions]
    if shard.num_rows == 0 or not all(answer.may[0] for answer in answers):
        return None
    return [one for one, answer in zip(conditions, answers, strict=True) if not answer.must[0]]


def _tasks(
    dataset: Dataset, conditions: Sequence[Condition], *, with_known: bool = True
) -> Iterator[_Task]:
    """Row groups to read, file by file.

    Args:
        dataset: the dataset.
        conditions: what rows have to fulfil.
        with_known: open files, too, of which every row fits.
    """
    position = 0
    for shard in dataset.shards:
        asked = _asked(conditions, shard)
        if asked is None:
            continue
        if asked or with_known:
            yield from _tasks_of_shard(dataset, shard, asked, position)
        else:
            yield _Task(shard, [], shard.num_rows, position + shard.num_rows, ())
        position += shard.num_rows


def _tasks_of_shard(
    dataset: Dataset, shard: DatasetShard, asked: Sequence[Condition], position: int
) -> Iterator[_Task]:
    """Row groups that may hold a row that fits; groups of which every row fits stay apart."""
    footer = _footer(dataset, shard)
    answers = [condition.of_groups(footer) for condition in asked]
    ends = np.cumsum([footer.row_group(k).num_rows for k in range(footer.num_row_groups)])
    may = np.ones(len(ends), np.bool_)
    for answer in answers:
        may &= answer.may
    is_open = ~np.array([answer.must for answer in answers], np.bool_).reshape(-1, len(ends))
    for groups in _runs(np.flatnonzero(may), is_open, np.diff(ends, prepend=0)):
        left = tuple(
            one for one, open_here in zip(asked, is_open[:, groups[0]], strict=True) if open_here
        )
        size = sum(footer.row_group(group).num_rows for group in groups)
        yield _Task(shard, groups, size, position + int(ends[groups[-1]]), left)


def _runs(
    groups: npt.NDArray[np.intp], is_open: npt.NDArray[np.bool_], sizes: npt.NDArray[np.int64]
) -> Iterator[list[int]]:
    """Row groups that are asked the same, together up to `_ROWS_AT_ONCE`."""
    run: list[int] = []
    for group in groups.tolist():
        is_same = bool(run) and bool((is_open[:, group] == is_open[:, run[0]]).all())
        if run and (not is_same or sizes[run].sum() + sizes[group] > _ROWS_AT_ONCE):
            yield run
            run = []
        run.append(group)
    if run:
        yield run


def _read_task(dataset: Dataset, task: _Task, wanted: Sequence[str]) -> pa.Table:
    """The rows of a task's groups that fit, with the wanted columns."""
    needed = {name for condition in task.conditions for name in condition.columns}
    names = [*wanted, *sorted(needed - set(wanted))]
    source = _source(dataset.place_of(task.shard), task.shard)
    with open_shard(source, _footer(dataset, task.shard)) as file:
        table = file.read_row_groups(task.groups, columns=names)
    if task.conditions:
        fits = np.ones(len(table), np.bool_)
        for condition in task.conditions:
            fits &= condition.of_rows(table)
        table = table.filter(pa.array(fits))
    if not wanted:
        return table
    return table.select(list(wanted)).cast(pa.schema([PUBLIC_SCHEMA.field(n) for n in wanted]))


def _footer(dataset: Dataset, shard: DatasetShard) -> pq.FileMetaData:
    """The footer of a file that is what the manifest says it is."""
    return _checked_footer(dataset.place_of(shard), shard, str(dataset.manifest.get("everyroof")))


@functools.lru_cache(maxsize=64)
def _checked_footer(place: ReadPlace, shard: DatasetShard, version: str) -> pq.FileMetaData:
    try:
        size = place.stat().st_size if isinstance(place, Path) else place.state()["size"]
    except FileNotFoundError:
        raise missing_shard(place) from None
    if size != shard.num_bytes:
        raise DatasetError(
            f"{place} has {size:,} bytes and not {shard.num_bytes:,}, as {MANIFEST_NAME} says: it "
            "was cut off or replaced; run again to write it, or copy the whole dataset again"
        )
    with open_shard(_source(place, shard)) as file:
        read_geometry_metadata(file, place)
        _check_schema(place, file.schema_arrow, version)
        return file.metadata


def _check_schema(place: ReadPlace, schema: pa.Schema, version: str) -> None:
    for field in PUBLIC_SCHEMA:
        found = schema.field(field.name).type if field.name in schema.names else None
        if found != field.type:
            raise DatasetError(
                f"{place} has {field.name} as {found or 'no column'} where {field.type} is "
                f"expected: it is of another version of the format (its {MANIFEST_NAME} is of "
                f"everyroof {version}); run again to write all files with this version"
            )


def _source(place: ReadPlace, shard: DatasetShard) -> Any:
    """What the reader opens; the size is known, so that no server is asked for it."""
    return place if isinstance(place, Path) else RangeFile(place, shard.num_bytes)
