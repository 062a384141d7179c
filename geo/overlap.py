"""One owner for every place: overlaps between finished footprints are resolved.

Growing back, simplifying and squaring change each outline alone, so that neighbours may end up
overlapping by a sliver; and where two UTM zones meet, both saw the same building. The rules look
only at outlines as they came in, never at what became of a neighbour. Whichever task asks, and
however the rows are split into tasks, each row's fate is the same:

1. Twins. Rows of different zones are twins when they share more than `twin_overlap` of the smaller
   one's area. Rows are ranked: centroid in its own zone's six degrees first, then confidence
   (descending), then id. In this order each row is kept unless a kept row before it is its twin, so
   that no building is dropped in favour of one that is dropped itself.
2. Slivers. Where two remaining rows overlap, the better one (confidence descending, then id) keeps
   the place. The other one loses the union of the untrimmed outlines of all better rows that it
   overlaps. If it falls apart, its largest part stays. What remains of it is dropped, and counted,
   when it has less than `min_kept_share` of its area or less than `min_area_m2`: that is a
   remnant between buildings, and not a building.

An overlap counts when a disc of 1 cm diameter fits into it; anything narrower is rounding. Trimming
happens on the coordinate step (snap rounding), so that results are valid and stay on the step.

A footprint within a courtyard overlaps nothing and stays as it is.

Plain outlines, nearly all, are judged and cut by compiled kernels (`geo.overlap_room`,
`geo.cut_kernel`), which give what GEOS gives, to the bit; what they refuse goes to GEOS.
"""

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import shapely

from geo.cut_kernel import cut_rings
from geo.footprints import COORDINATE_STEP_DEG, with_geometry
from geo.instances import ragged_take
from geo.overlap_pairs import (
    BoolArray,
    Float64Array,
    Int64Array,
    OverlapRows,
    PolygonObjects,
    RowPairs,
    find_candidates,
    find_overlaps,
    gather_rows,
    shared_areas_deg2,
    turned_outlines,
    turns_in_steps,
)
from geo.polygons import PolygonArray

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapConfig:
    """How overlaps between footprints are resolved."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    min_area_m2: float = 4.0
    """A trimmed footprint below this area is dropped; at least 0. Others stay as they are."""

    min_kept_share: float = 0.5
    """A trimmed footprint that keeps less than this share of its area is dropped; 0 to 1."""

    twin_overlap: float = 0.5
    """Footprints of two zones that share more than this part of the smaller one are the same; 0 to
    1, and 1 finds no twins."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.min_area_m2 < np.inf:
            raise ValueError(f"min_area_m2 = {self.min_area_m2}; expected 0 or a positive number")
        for name in ("min_kept_share", "twin_overlap"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} = {value}; expected a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapResult:
    """What became of the owned rows.

    Attributes:
        table: the rows that remain, in their order; rows without overlap are the same to the byte.
        num_trimmed: rows that remain with less area.
        num_dropped_twins: rows dropped in favour of the same building seen by another zone.
        num_dropped_small: rows dropped because trimming left a remnant only.
        num_dropped_parts: parts cut off the rows that remain, their largest part excepted.
    """

    table: pa.Table
    num_trimmed: int
    num_dropped_twins: int
    num_dropped_small: int
    num_dropped_parts: int


def resolve_overlaps(
    table: pa.Table, context: pa.Table, config: OverlapConfig, *, by_geos: bool = False
) -> OverlapResult:
    """Resolve overlaps of the rows that a task owns.

    Args:
        table: the task's own rows, in the internal footprint schema of `geo.footprints`.
        context: rows of other tasks, same schema, of this zone and its neighbours. It must hold
            every row whose bbox meets an owned row's; near a zone's edge also the rows of the
            other zone that meet those, and so on: a chain of twins decides together. More does
            not hurt. Rows of the table must not stand in it again.
        config: the limits.
        by_geos: leave nothing to the compiled kernels. Slower, and the result is the same: what
            tests compare with.

    Returns:
        What remains of the owned rows, and counts. Neither input is changed.

    Raises:
        DatasetError: if an id occurs twice among the rows that touch.
        GeometryError: if an overlapping outline is not valid.
    """
    unchanged = OverlapResult(
        table=table, num_trimmed=0, num_dropped_twins=0, num_dropped_small=0, num_dropped_parts=0
    )
    candidates = find_candidates(table, context)
    if len(candidates) == 0:
        return unchanged
    rows, candidates = gather_rows(table, context, candidates, by_geos=by_geos)
    overlaps = find_overlaps(rows, candidates)
    if len(overlaps) == 0:
        return unchanged
    is_dropped = _find_twins_to_drop(rows, _find_twins(rows, overlaps, config.twin_overlap))
    is_kept = ~(is_dropped[overlaps.first] | is_dropped[overlaps.second])
    losers, remains = _trim_losers(rows, overlaps.take(is_kept))
    return _assemble(table, rows, is_dropped, losers, remains, config)


def _find_twins(rows: OverlapRows, overlaps: RowPairs, twin_overlap: float) -> RowPairs:
    """The overlaps that are so large that both rows are the same building."""
    pairs = overlaps.take(rows.zone[overlaps.first] != rows.zone[overlaps.second])
    smaller_deg2 = np.minimum(rows.area_deg2[pairs.first], rows.area_deg2[pairs.second])
    return pairs.take(shared_areas_deg2(rows, pairs) > twin_overlap * smaller_deg2)


def _find_twins_to_drop(rows: OverlapRows, twins: RowPairs) -> BoolArray:
    """Greedy in rank order: a row is dropped by a better twin that is not dropped itself."""
    is_dropped = np.zeros(len(rows.position), bool)
    by_id = np.arange(len(rows.position))
    rank = _ranks(np.lexsort((by_id, -rows.confidence, ~rows.is_in_own_zone)))
    twins = twins.ordered(rank)
    # Sorted by the better row's rank: whatever could drop that one has had its turn before.
    for better, worse in zip(twins.first.tolist(), twins.second.tolist(), strict=True):
        if not is_dropped[better]:
            is_dropped[worse] = True
    return is_dropped


def _ranks(order: Int64Array) -> Int64Array:
    """Place of each row in an order."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remains:
    """What is left of rows that lost something; struct of arrays.

    Attributes:
        outlines: their largest parts, in canonical form; no rings where nothing remains.
        area_deg2: areas of these, float64.
        num_parts: number of all parts, int64.
    """

    outlines: PolygonArray
    area_deg2: Float64Array
    num_parts: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cuts:
    """Which rows lose to which others.

    Attributes:
        losers: rows that lose something, ascending, int64, shape (n,).
        winners: rows that take it, one loser's after the other's.
        turn_deg: what brings each winner's longitudes beside the loser's.
        offsets: loser i loses to winners[offsets[i]:offsets[i + 1]]; int64, shape (n + 1,).
    """

    losers: Int64Array
    winners: Int64Array
    turn_deg: Float64Array
    offsets: Int64Array


def _trim_losers(rows: OverlapRows, overlaps: RowPairs) -> tuple[Int64Array, _Remains]:
    """Take from the owned rows what better rows cover: who loses, ascending, and what remains."""
    by_id = np.arange(len(rows.position))
    ranked = overlaps.ordered(_ranks(np.lexsort((by_id, -rows.confidence))))
    ranked = ranked.take(rows.is_owned[ranked.second])
    ranked = ranked.take(np.lexsort((ranked.first, ranked.second)))
    losers, start = np.unique(ranked.second, return_index=True)
    cuts = _Cuts(
        losers=losers,
        winners=ranked.first,
        # The turn brings the second (the loser) beside the first (the winner); here it goes back.
        turn_deg=-ranked.turn_deg,
        offsets=np.append(start, len(ranked)),
    )
    remains = _cut_plain(rows, cuts)
    refused = np.flatnonzero(remains.num_parts < 0)
    return losers, _replaced(remains, refused, _cut_by_geos(rows, cuts, refused))


def _cut_plain(rows: OverlapRows, cuts: _Cuts) -> _Remains:
    """What the compiled kernel cuts; the number of parts is negative where it refuses to."""
    turns = turns_in_steps(cuts.turn_deg)
    found = cut_rings(rows.rings, cuts.losers, cuts.winners, turns, cuts.offsets)
    has_ring = found.num_parts > 0
    return _Remains(
        outlines=PolygonArray(
            coords=np.asarray(found.points * COORDINATE_STEP_DEG, np.float64),
            ring_offsets=np.append(found.offsets[:-1][has_ring], found.offsets[-1]),
            polygon_offsets=np.append(0, np.cumsum(has_ring)),
        ),
        area_deg2=np.asarray(found.twice_area * (COORDINATE_STEP_DEG**2 / 2), np.float64),
        num_parts=found.num_parts,
    )


def _cut_by_geos(rows: OverlapRows, cuts: _Cuts, index: Int64Array) -> _Remains:
    """What GEOS cuts, of the chosen losers."""
    picked, offsets = ragged_take(cuts.offsets, index)
    winners = turned_outlines(rows.outlines(cuts.winners[picked]), cuts.turn_deg[picked])
    covers = winners[offsets[:-1]]
    for k in np.flatnonzero(np.diff(offsets) > 1):
        group = winners[offsets[k] : offsets[k + 1]]
        covers[k] = shapely.union_all(group, grid_size=COORDINATE_STEP_DEG)
    losers = rows.outlines(cuts.losers[index])
    left = shapely.difference(losers, covers, grid_size=COORDINATE_STEP_DEG)
    largest, num_parts = _largest_parts(left)
    return _Remains(
        outlines=PolygonArray.from_shapely(largest),
        area_deg2=shapely.area(largest),
        num_parts=num_parts,
    )


def _replaced(remains: _Remains, index: Int64Array, others: _Remains) -> _Remains:
    """The same with others in some places."""
    area_deg2, num_parts = remains.area_deg2.copy(), remains.num_parts.copy()
    area_deg2[index], num_parts[index] = others.area_deg2, others.num_parts
    source = np.arange(len(num_parts))
    source[index] = len(num_parts) + np.arange(len(index))
    outlines = remains.outlines.followed_by(others.outlines).take(source)
    return _Remains(outlines=outlines, area_deg2=area_deg2, num_parts=num_parts)


def _largest_parts(shapes: PolygonObjects) -> tuple[PolygonObjects, Int64Array]:
    """The largest polygon of each shape in canonical form, and the number of its polygons."""
    parts, index = shapely.get_parts(shapes, return_index=True)
    is_polygon = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    parts = shapely.orient_polygons(shapely.normalize(parts[is_polygon]))
    index = index[is_polygon]
    order = np.lexsort((-shapely.area(parts), index))
    found, first, counts = np.unique(index[order], return_index=True, return_counts=True)
    largest = np.full(len(shapes), shapely.Polygon(), object)
    num_parts = np.zeros(len(shapes), np.int64)
    largest[found], num_parts[found] = parts[order][first], counts
    return largest, num_parts


def _assemble(
    table: pa.Table,
    rows: OverlapRows,
    is_dropped: BoolArray,
    losers: Int64Array,
    remains: _Remains,
    config: OverlapConfig,
) -> OverlapResult:
    """The table without the dropped rows and with the trimmed ones in their places."""
    share = remains.area_deg2 / rows.area_deg2[losers]
    replaced = np.flatnonzero((share >= config.min_kept_share) & (share > 0))
    outlines = remains.outlines.take(replaced)
    new_rows = with_geometry(table.take(rows.position[losers[replaced]]), outlines)
    is_building = new_rows["area_in_meters"].to_numpy() >= config.min_area_m2
    new_rows, replaced = new_rows.filter(pa.array(is_building)), replaced[is_building]
    source = np.arange(table.num_rows)
    source[rows.position[losers]] = -1
    source[rows.position[losers[replaced]]] = table.num_rows + np.arange(len(replaced))
    twins = rows.position[is_dropped & rows.is_owned]
    source[twins] = -1
    _LOGGER.debug("%d of %d rows trimmed, %d twins", len(replaced), table.num_rows, len(twins))
    return OverlapResult(
        table=pa.concat_tables([table, new_rows]).take(source[source >= 0]),
        num_trimmed=len(replaced),
        num_dropped_twins=len(twins),
        num_dropped_small=len(losers) - len(replaced),
        num_dropped_parts=int((remains.num_parts[replaced] - 1).sum()),
    )
