"""Which footprints an existing map has already, and what the map has that no footprint shows.

A footprint is *mapped* when a polygon of the map overlaps it with an IoU of at least `min_iou`,
when polygons of the map together cover at least `min_covered_share` of it (one footprint over a row
of mapped houses, or half of a mapped block), or when a point of the map lies in it. A polygon of
the map is *found* by the same rule the other way round, a point when it lies in a footprint. What
is not found is *missing* only on ground that the run has seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from geo.covered_ground import SEEN, CoveredGround
from geo.footprints import PUBLIC_SCHEMA
from geo.map_rows import MAP_SCHEMA
from geo.overlap_pairs import turned_outlines
from geo.row_pairs import PairedBlocks, pair_blocks, paired_outlines
from geo.shards import merge_counts, plan_shards
from geo.sorted_rows import RowBlock, SortedRows

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
PolygonObjects = npt.NDArray[np.object_]

NONE = -1
MAPPED_SCHEMA = pa.schema(
    [
        *PUBLIC_SCHEMA,
        pa.field("is_mapped", pa.bool_(), nullable=False),
        pa.field("map_iou", pa.float64()),
        pa.field("map_covered_share", pa.float64(), nullable=False),
        pa.field("map_id", pa.string()),
    ]
)
"""Columns of marked footprints: `map_iou` and `map_id` are of the polygon with the greatest IoU,
else `map_id` is of a point inside; `map_covered_share` is what the map's polygons cover."""
MAX_BLOCK_ROWS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflateConfig:
    """When a footprint counts as mapped."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    min_iou: float = 0.3
    """Least IoU with one polygon of the map; above 0, at most 1."""

    min_covered_share: float = 0.5
    """Least share of a footprint that the map's polygons cover together; above 0, at most 1."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("min_iou", "min_covered_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(
                    f"{name} = {getattr(self, name)}: expected a number above 0, at most 1"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflatedBlock:
    """What was found in one S2 cell.

    Attributes:
        footprints: its footprints with the columns of `MAPPED_SCHEMA`.
        missing: rows of the map without a footprint on ground that was seen, `MAP_SCHEMA`.
        num_found: rows of the map that footprints show.
        num_not_covered: rows of the map without a footprint on ground that was not seen.
        num_by_point: footprints that are mapped by a point alone.
    """

    footprints: pa.Table
    missing: pa.Table
    num_found: int
    num_not_covered: int
    num_by_point: int


def conflate(
    footprints: SortedRows,
    map_rows: SortedRows,
    ground: CoveredGround,
    *,
    config: ConflateConfig | None = None,
    max_block_rows: int = MAX_BLOCK_ROWS,
    on_rows: Callable[[int, int], None] | None = None,
) -> Iterator[ConflatedBlock]:
    """Mark footprints that a map has, an S2 cell at a time along the Hilbert curve.

    Args:
        footprints: rows with the columns of `PUBLIC_SCHEMA`.
        map_rows: rows with the columns of `MAP_SCHEMA`.
        ground: what the run has seen.
        config: when a footprint counts as mapped; the defaults if None.
        max_block_rows: rows of both that are held at once, roughly.
        on_rows: called after every cell with the rows done and all rows.
    """
    config = config or ConflateConfig()
    cells, counts = merge_counts(
        [(footprints.cells, footprints.counts), (map_rows.cells, map_rows.counts)]
    )
    total, num_done = footprints.num_rows + map_rows.num_rows, 0
    for block in plan_shards(cells, counts, max_block_rows):
        yield _conflated(pair_blocks(footprints, map_rows, block.cell, 1), ground, config)
        num_done += block.num_rows
        if on_rows is not None:
            on_rows(num_done, total)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cover:
    """What the other side has to say about each row of one side.

    Attributes:
        best: row of the other side with the greatest IoU, or `NONE`.
        iou: that IoU.
        covered: share covered by the other side's polygons.
        point: row of the first point of the other side that lies in it, or `NONE`.
    """

    best: Int64Array
    iou: Float64Array
    covered: Float64Array
    point: Int64Array


def _conflated(
    pairs: PairedBlocks, ground: CoveredGround, config: ConflateConfig
) -> ConflatedBlock:
    prints, mapped = pairs.first, pairs.second
    of_prints, of_map = _covers(pairs)
    is_mapped = _counts(of_prints, config)
    is_found = _counts(of_map, config)
    owned = np.flatnonzero(prints.is_owned)
    lost = np.flatnonzero(mapped.is_owned & ~is_found)
    place = [mapped.table[name].to_numpy()[lost] for name in ("longitude", "latitude")]
    is_seen = ground.look_up(*place) == SEEN
    by_point = (of_prints.point != NONE) & ~_counts(_without_points(of_prints), config)
    return ConflatedBlock(
        footprints=_marked(prints, mapped, of_prints, is_mapped, owned),
        missing=mapped.table.take(pa.array(lost[is_seen])).select(MAP_SCHEMA.names),
        num_found=int((mapped.is_owned & is_found).sum()),
        num_not_covered=int((~is_seen).sum()),
        num_by_point=int(by_point[owned].sum()),
    )


def _counts(cover: _Cover, config: ConflateConfig) -> BoolArray:
    return np.asarray(
        (cover.iou >= config.min_iou)
        | (cover.covered >= config.min_covered_share)
        | (cover.point != NONE)
    )


def _without_points(cover: _Cover) -> _Cover:
    return _Cover(
        best=cover.best,
        iou=cover.iou,
        covered=cover.covered,
        point=np.full(len(cover.point), NONE, np.int64),
    )


def _covers(pairs: PairedBlocks) -> tuple[_Cover, _Cover]:
    """What the map says about each footprint, and the footprints about each row of the map."""
    prints, mapped = pairs.first, pairs.second
    a, b = pairs.index_first, pairs.index_second
    outlines, shapes, turn_deg = paired_outlines(prints, mapped, a, b)
    is_point = mapped.table["area_in_meters"].to_numpy()[b] == 0
    others = turned_outlines(shapes, turn_deg)
    shapely.prepare(outlines)
    meets = shapely.intersects(outlines, others)
    points = np.flatnonzero(meets & is_point)
    areal = np.flatnonzero(meets & ~is_point)
    shared = shapely.intersection(outlines[areal], others[areal])
    areas = shapely.area(outlines[areal]), shapely.area(others[areal])
    # Square degrees of neighbours are stretched alike: ratios are those of metres.
    iou = np.round(shapely.area(shared) / (areas[0] + areas[1] - shapely.area(shared)), 9)
    of_prints = _cover(len(prints), a[areal], b[areal], iou, shared, areas[0])
    of_map = _cover(len(mapped), b[areal], a[areal], iou, shared, areas[1])
    _add_points(of_prints, a[points], b[points])
    _add_points(of_map, b[points], a[points])
    return of_prints, of_map


def _cover(
    num: int,
    row: Int64Array,
    other: Int64Array,
    iou: Float64Array,
    shared: PolygonObjects,
    area: Float64Array,
) -> _Cover:
    """Best partner and covered share of each of `num` rows, from its pairs."""
    best, best_iou = np.full(num, NONE, np.int64), np.zeros(num)
    covered = np.zeros(num)
    order = np.lexsort((other, -iou, row))
    order = order[iou[order] > 0]
    rows, start, counts = np.unique(row[order], return_index=True, return_counts=True)
    best[rows], best_iou[rows] = other[order[start]], iou[order[start]]
    for num_pairs in np.unique(counts).tolist():
        # Rows with equally many partners at once: their shared areas side by side.
        these = np.flatnonzero(counts == num_pairs)
        members = order[start[these, np.newaxis] + np.arange(num_pairs)]
        union = shared[members[:, 0]]
        if num_pairs > 1:
            union = shapely.union_all(shared[members], axis=1)
        covered[rows[these]] = np.round(shapely.area(union) / area[members[:, 0]], 9)
    return _Cover(best=best, iou=best_iou, covered=covered, point=np.full(num, NONE, np.int64))


def _add_points(cover: _Cover, row: Int64Array, other: Int64Array) -> None:
    """Note the first of the points that meet each row."""
    order = np.lexsort((other, row))
    rows, start = np.unique(row[order], return_index=True)
    cover.point[rows] = other[order][start]


def _marked(
    prints: RowBlock, mapped: RowBlock, cover: _Cover, is_mapped: BoolArray, owned: Int64Array
) -> pa.Table:
    named = np.where(cover.best != NONE, cover.best, cover.point)[owned]
    iou = cover.iou[owned]
    table = prints.table.take(pa.array(owned)).select(PUBLIC_SCHEMA.names)
    more = {
        "is_mapped": pa.array(is_mapped[owned]),
        "map_iou": pa.array(iou, mask=iou == 0),
        "map_covered_share": pa.array(np.minimum(cover.covered[owned], 1.0)),
        "map_id": mapped.table["map_id"].take(pa.array(named, mask=named == NONE)),
    }
    columns = [*(table[name] for name in PUBLIC_SCHEMA.names), *more.values()]
    return pa.table(columns, schema=MAPPED_SCHEMA)
