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
"""

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from geo.errors import DatasetError, GeometryError
from geo.footprints import COORDINATE_STEP_DEG, with_geometry
from geo.grid import METRES_PER_DEGREE, NUM_ZONES, ZONE_WIDTH_DEG
from geo.polygons import PolygonArray

_LOGGER = logging.getLogger(__name__)

OVERLAP_TOLERANCE_M = 0.01
"""An overlap into which no disc of this diameter fits is rounding."""

_TURN_DEG = 360.0
_USED_COLUMNS = ["id", "confidence", "longitude", "geometry"]
# Rows this near the antimeridian are also compared with those on its other side.
_ANTIMERIDIAN_REACH_DEG = 1.0

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
PolygonObjects = npt.NDArray[np.object_]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The rows that may overlap another one, ordered by id; struct of arrays.

    Attributes:
        position: row of the owned table, or -1 for context, int64, shape (n,).
        zone: UTM zone of the id, int64.
        is_in_own_zone: whether the centroid lies in the six degrees of that zone.
        confidence: float64.
        outline: shapely polygons in degrees.
        area_deg2: their areas in square degrees; compared between neighbours only.
    """

    position: Int64Array
    zone: Int64Array
    is_in_own_zone: BoolArray
    confidence: Float64Array
    outline: PolygonObjects
    area_deg2: Float64Array

    @property
    def is_owned(self) -> BoolArray:
        """Whether the row belongs to the table rather than to the context."""
        return self.position >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """Pairs of rows, first < second; struct of arrays.

    Attributes:
        first: index of a row, int64, shape (num_pairs,).
        second: index of the other row.
        turn_deg: what brings the second row's longitudes beside the first's: 0 or 360 or -360.
    """

    first: Int64Array
    second: Int64Array
    turn_deg: Float64Array

    def __len__(self) -> int:
        return len(self.first)

    def take(self, index: BoolArray | Int64Array) -> "_Pairs":
        """The chosen pairs, in the order given."""
        return _Pairs(
            first=self.first[index], second=self.second[index], turn_deg=self.turn_deg[index]
        )

    def ordered(self, rank: Int64Array) -> "_Pairs":
        """The same pairs, the row of better (smaller) rank first; sorted by first, then second."""
        swap = rank[self.first] > rank[self.second]
        first = np.where(swap, self.second, self.first)
        second = np.where(swap, self.first, self.second)
        order = np.lexsort((rank[second], rank[first]))
        turned = np.where(swap, -self.turn_deg, self.turn_deg)
        return _Pairs(first=first, second=second, turn_deg=turned).take(order)


def resolve_overlaps(table: pa.Table, context: pa.Table, config: OverlapConfig) -> OverlapResult:
    """Resolve overlaps of the rows that a task owns.

    Args:
        table: the task's own rows, in the internal footprint schema of `geo.footprints`.
        context: rows of other tasks, same schema, of this zone and its neighbours. It must hold
            every row whose bbox meets an owned row's; near a zone's edge also the rows of the
            other zone that meet those, and so on: a chain of twins decides together. More does
            not hurt. Rows of the table must not stand in it again.
        config: the limits.

    Returns:
        What remains of the owned rows, and counts. Neither input is changed.

    Raises:
        DatasetError: if an id occurs twice among the rows that touch.
        GeometryError: if an overlapping outline is not valid.
    """
    unchanged = OverlapResult(
        table=table, num_trimmed=0, num_dropped_twins=0, num_dropped_small=0, num_dropped_parts=0
    )
    candidates = _find_candidates(table, context)
    if len(candidates) == 0:
        return unchanged
    rows, candidates = _gather_rows(table, context, candidates)
    overlaps, is_twin = _measure_overlaps(rows, candidates, config)
    if len(overlaps) == 0:
        return unchanged
    is_dropped = _find_twins_to_drop(rows, overlaps.take(is_twin))
    is_kept = ~(is_dropped[overlaps.first] | is_dropped[overlaps.second])
    losers, trimmed, num_parts = _trim_losers(rows, overlaps.take(is_kept))
    return _assemble(table, rows, is_dropped, losers, trimmed, num_parts, config)


# ----------------------------------------------------------------------------- who may overlap


def _find_candidates(table: pa.Table, context: pa.Table) -> _Pairs:
    """Pairs of rows whose bboxes meet: at least one row owned, or the two of different zones.

    Indices count through the table, then the context. Pairs within the context matter for twins
    only: they decide who is left to trim or drop an owned row. No geometry is parsed here.
    """
    num_owned = table.num_rows
    bounds = np.concatenate([_bounds(table), _bounds(context)])
    zone = np.concatenate([_zones(table), _zones(context)])
    is_one_zone = len(zone) == 0 or bool((zone == zone[0]).all())
    asking = np.arange(num_owned if is_one_zone else len(zone))
    boxes = shapely.box(*bounds.T)
    first, second = shapely.STRtree(boxes).query(boxes[asking])
    once = first < second  # an owned row comes before any context row
    # The same place on both sides of the antimeridian: eastern rows meet the western ones turned.
    east = np.flatnonzero(bounds[:, 2] > 180 - _ANTIMERIDIAN_REACH_DEG)
    west = np.flatnonzero(bounds[:, 0] < -180 + _ANTIMERIDIAN_REACH_DEG)
    turned = shapely.box(*(bounds[west] + [_TURN_DEG, 0, _TURN_DEG, 0]).T)
    from_east, from_west = shapely.STRtree(turned).query(boxes[east])
    pairs = _Pairs(
        first=np.concatenate([first[once], east[from_east]]),
        second=np.concatenate([second[once], west[from_west]]),
        turn_deg=np.repeat([0.0, _TURN_DEG], [int(once.sum()), len(from_east)]),
    )
    is_owned = (pairs.first < num_owned) | (pairs.second < num_owned)
    return pairs.take(is_owned | (zone[pairs.first] != zone[pairs.second]))


def _bounds(table: pa.Table) -> Float64Array:
    """(xmin, ymin, xmax, ymax) of each row in degrees, float64, shape (n, 4)."""
    bbox = table["bbox"]
    sides = [pc.struct_field(bbox, side).to_numpy() for side in ("xmin", "ymin", "xmax", "ymax")]
    return np.stack(sides, axis=1).astype(np.float64)


def _gather_rows(table: pa.Table, context: pa.Table, candidates: _Pairs) -> tuple[_Rows, _Pairs]:
    """Parse the rows of the pairs; they are numbered anew, by id, so that nothing depends on order.

    Raises:
        DatasetError: if an id occurs twice.
    """
    used = np.unique(np.concatenate([candidates.first, candidates.second]))
    narrow = [part.select(_USED_COLUMNS) for part in (table, context)]
    taken = pa.concat_tables(narrow).take(used)
    by_id = pc.sort_indices(taken["id"]).to_numpy()
    taken, used = taken.take(by_id), used[by_id]
    _check_ids(taken["id"])
    number = np.empty(table.num_rows + context.num_rows, np.int64)
    number[used] = np.arange(len(used))
    zone = _zones(taken)
    outline = shapely.from_wkb(taken["geometry"].to_numpy(zero_copy_only=False))
    index_zone = np.floor((taken["longitude"].to_numpy() + 180.0) % 360.0 / ZONE_WIDTH_DEG) + 1
    rows = _Rows(
        position=np.where(used < table.num_rows, used, -1),
        zone=zone,
        is_in_own_zone=index_zone == zone,
        confidence=taken["confidence"].to_numpy().astype(np.float64),
        outline=outline,
        area_deg2=shapely.area(outline),
    )
    pairs = _Pairs(
        first=number[candidates.first],
        second=number[candidates.second],
        turn_deg=candidates.turn_deg,
    )
    return rows, pairs.ordered(np.arange(len(used)))


def _zones(table: pa.Table) -> Int64Array:
    """UTM zone of each row, from its id (see `geo.footprint_ids`)."""
    try:
        zones = pc.utf8_slice_codeunits(table["id"], 1, 3).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise DatasetError(f"a footprint's id has no UTM zone in it: {error}") from error
    if len(zones) and not (zones.min() >= 1 and zones.max() <= NUM_ZONES):
        raise DatasetError("a footprint's id names a UTM zone beyond 1 to 60")
    return zones


def _check_ids(ids: pa.ChunkedArray) -> None:
    """Refuse ids (sorted) that occur twice."""
    is_again = pc.equal(ids[1:], ids[:-1]).to_numpy() if len(ids) else np.zeros(0, bool)
    if is_again.any():
        again = ids[1:].filter(pa.array(is_again))[0].as_py()
        raise DatasetError(
            f"footprint {again} occurs twice among the rows and their context; each task must own "
            "its rows alone and leave them out of its context"
        )


# --------------------------------------------------------------------------- who does overlap


def _measure_overlaps(
    rows: _Rows, pairs: _Pairs, config: OverlapConfig
) -> tuple[_Pairs, BoolArray]:
    """The pairs that overlap by more than rounding, and whether they are twins."""
    first = rows.outline[pairs.first]
    shapely.prepare(first)
    meets = shapely.intersects(first, _turned(rows.outline[pairs.second], pairs.turn_deg))
    pairs = pairs.take(meets)
    _check_outlines(rows, pairs)
    second = _turned(rows.outline[pairs.second], pairs.turn_deg)
    shared = shapely.intersection(rows.outline[pairs.first], second, grid_size=COORDINATE_STEP_DEG)
    counts = _has_room(shared, OVERLAP_TOLERANCE_M / 2)
    pairs, shared = pairs.take(counts), shared[counts]
    smaller_deg2 = np.minimum(rows.area_deg2[pairs.first], rows.area_deg2[pairs.second])
    is_twin = (rows.zone[pairs.first] != rows.zone[pairs.second]) & (
        shapely.area(shared) > config.twin_overlap * smaller_deg2
    )
    return pairs, is_twin


def _check_outlines(rows: _Rows, pairs: _Pairs) -> None:
    outlines = rows.outline[np.unique(np.concatenate([pairs.first, pairs.second]))]
    is_polygon = shapely.get_type_id(outlines) == shapely.GeometryType.POLYGON
    wrong = outlines[~(is_polygon & shapely.is_valid(outlines))]
    if len(wrong):
        raise GeometryError(
            f"{len(wrong)} overlapping footprints are no valid polygons, the first at "
            f"{shapely.get_coordinates(wrong[0])[:1].tolist()}: {shapely.is_valid_reason(wrong[0])}"
        )


def _turned(outlines: PolygonObjects, turn_deg: Float64Array) -> PolygonObjects:
    """Outlines with whole turns added to their longitudes; exact, the step divides a turn."""
    moved = np.flatnonzero(turn_deg)
    if len(moved) == 0:
        return outlines
    coords, index = shapely.get_coordinates(outlines[moved], return_index=True)
    coords[:, 0] += turn_deg[moved][index]
    turned = outlines.copy()
    turned[moved] = shapely.set_coordinates(outlines[moved], coords)
    return turned


def _has_room(shapes: PolygonObjects, radius_m: float) -> BoolArray:
    """Whether a disc fits into a shape (degrees), asked of the cheap bounds first.

    Unlike an area limit this keeps its answer when the shape loses some of its length, so that an
    overlap that does not count now does not count later.
    """
    coords, index = shapely.get_coordinates(shapes, return_index=True)
    latitude = shapely.bounds(shapes)[:, 1]
    metres = METRES_PER_DEGREE * np.stack(
        [np.cos(np.radians(latitude)), np.ones(len(shapes))], axis=1
    )
    in_metres = shapely.set_coordinates(shapes.copy(), coords * metres[index])
    area_m2, length_m = shapely.area(in_metres), shapely.length(in_metres)
    # Inner parallels are not longer than the outline, so radius >= area / length; twice for holes.
    has_room = area_m2 > 2 * radius_m * length_m
    unclear = np.flatnonzero(~has_room & (area_m2 >= np.pi * radius_m**2))
    has_room[unclear] = ~shapely.is_empty(shapely.buffer(in_metres[unclear], -radius_m))
    return has_room


# --------------------------------------------------------------------------------- the verdicts


def _find_twins_to_drop(rows: _Rows, twins: _Pairs) -> BoolArray:
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


def _trim_losers(rows: _Rows, overlaps: _Pairs) -> tuple[Int64Array, PolygonObjects, Int64Array]:
    """Take from the owned rows what better rows cover.

    Returns:
        The rows that lose something, ascending; their largest remaining parts (empty polygons where
        nothing remains); their numbers of remaining parts.
    """
    by_id = np.arange(len(rows.position))
    ranked = overlaps.ordered(_ranks(np.lexsort((by_id, -rows.confidence))))
    ranked = ranked.take(rows.is_owned[ranked.second])
    ranked = ranked.take(np.lexsort((ranked.first, ranked.second)))
    losers, start, num_winners = np.unique(ranked.second, return_index=True, return_counts=True)
    # The turn brings the second (the loser) beside the first (the winner); here it goes back.
    winners = _turned(rows.outline[ranked.first], -ranked.turn_deg)
    covers = winners[start]
    for index in np.flatnonzero(num_winners > 1):
        group = winners[start[index] : start[index] + num_winners[index]]
        covers[index] = shapely.union_all(group, grid_size=COORDINATE_STEP_DEG)
    left = shapely.difference(rows.outline[losers], covers, grid_size=COORDINATE_STEP_DEG)
    return losers, *_largest_parts(left)


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
    rows: _Rows,
    is_dropped: BoolArray,
    losers: Int64Array,
    trimmed: PolygonObjects,
    num_parts: Int64Array,
    config: OverlapConfig,
) -> OverlapResult:
    """The table without the dropped rows and with the trimmed ones in their places."""
    share = shapely.area(trimmed) / rows.area_deg2[losers]
    replaced = np.flatnonzero((share >= config.min_kept_share) & (share > 0))
    outlines = PolygonArray.from_shapely(trimmed[replaced])
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
        num_dropped_parts=int((num_parts[replaced] - 1).sum()),
    )
