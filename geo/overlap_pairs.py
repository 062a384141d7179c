"""Which footprints overlap: from tables to measured pairs of outlines.

Bounding boxes are compared before any geometry is parsed, since most footprints meet no other one.
Across the antimeridian the same place has longitudes that differ by a whole turn; pairs carry it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from geo.errors import DatasetError, GeometryError
from geo.grid import METRES_PER_DEGREE, NUM_ZONES, ZONE_WIDTH_DEG
from geo.lattice_rings import STEPS_PER_DEGREE, LatticeRings, no_rings, rings_from_wkb
from geo.lonlat import COORDINATE_STEP_DEG
from geo.overlap_room import OVERLAPS, UNCLEAR, judge_pairs

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
PolygonObjects = npt.NDArray[np.object_]

OVERLAP_TOLERANCE_M = 0.01
"""An overlap into which no disc of this diameter fits is rounding."""

_TURN_DEG = 360.0
_USED_COLUMNS = ["id", "confidence", "longitude", "geometry"]
# Rows this near the antimeridian are also compared with those on its other side.
_ANTIMERIDIAN_REACH_DEG = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapRows:
    """The rows that may overlap another one, ordered by id; struct of arrays.

    Attributes:
        position: row of the owned table, or -1 for context, int64, shape (n,).
        zone: UTM zone of the id, int64.
        is_in_own_zone: whether the centroid lies in the six degrees of that zone.
        confidence: float64.
        geometry: the outlines in degrees, WKB.
        rings: the outlines on the lattice, where they are plain.
        area_deg2: their areas in square degrees; compared between neighbours only.
    """

    position: Int64Array
    zone: Int64Array
    is_in_own_zone: BoolArray
    confidence: Float64Array
    geometry: pa.ChunkedArray
    rings: LatticeRings
    area_deg2: Float64Array

    def outlines(self, index: Int64Array) -> PolygonObjects:
        """Shapely polygons of the chosen rows."""
        return _shapes(self.geometry.take(pa.array(index)))

    @property
    def is_owned(self) -> BoolArray:
        """Whether the row belongs to the table rather than to the context."""
        return self.position >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPairs:
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

    def take(self, index: BoolArray | Int64Array) -> "RowPairs":
        """The chosen pairs, in the order given."""
        return RowPairs(
            first=self.first[index], second=self.second[index], turn_deg=self.turn_deg[index]
        )

    def ordered(self, rank: Int64Array) -> "RowPairs":
        """The same pairs, the row of better (smaller) rank first; sorted by first, then second."""
        swap = rank[self.first] > rank[self.second]
        first = np.where(swap, self.second, self.first)
        second = np.where(swap, self.first, self.second)
        order = np.lexsort((rank[second], rank[first]))
        turned = np.where(swap, -self.turn_deg, self.turn_deg)
        return RowPairs(first=first, second=second, turn_deg=turned).take(order)


def find_candidates(table: pa.Table, context: pa.Table) -> RowPairs:
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
    pairs = RowPairs(
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


def gather_rows(
    table: pa.Table, context: pa.Table, candidates: RowPairs, *, by_geos: bool = False
) -> tuple[OverlapRows, RowPairs]:
    """Parse the rows of the pairs; they are numbered anew, by id, so that nothing depends on order.

    Args:
        table: the owned rows.
        context: rows of other tasks.
        candidates: from `find_candidates`.
        by_geos: take no outline as plain.

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
    geometry = taken["geometry"]
    rings = no_rings(len(used)) if by_geos else rings_from_wkb(geometry)
    index_zone = np.floor((taken["longitude"].to_numpy() + 180.0) % 360.0 / ZONE_WIDTH_DEG) + 1
    rows = OverlapRows(
        position=np.where(used < table.num_rows, used, -1),
        zone=zone,
        is_in_own_zone=index_zone == zone,
        confidence=taken["confidence"].to_numpy().astype(np.float64),
        geometry=geometry,
        rings=rings,
        area_deg2=_areas_deg2(geometry, rings),
    )
    pairs = RowPairs(
        first=number[candidates.first],
        second=number[candidates.second],
        turn_deg=candidates.turn_deg,
    )
    return rows, pairs.ordered(np.arange(len(used)))


def _shapes(geometry: pa.ChunkedArray) -> PolygonObjects:
    shapes: PolygonObjects = shapely.from_wkb(geometry.to_numpy(zero_copy_only=False))
    return shapes


def _areas_deg2(geometry: pa.ChunkedArray, rings: LatticeRings) -> Float64Array:
    """Areas of outlines in square degrees; those of plain ones are exact, as GEOS finds them."""
    area_deg2 = np.asarray(rings.twice_area * (COORDINATE_STEP_DEG**2 / 2), np.float64)
    others = np.flatnonzero(~rings.is_plain)
    area_deg2[others] = shapely.area(_shapes(geometry.take(pa.array(others))))
    return area_deg2


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


def find_overlaps(rows: OverlapRows, pairs: RowPairs) -> RowPairs:
    """The pairs that overlap by more than rounding.

    Raises:
        GeometryError: if an outline that meets another one is not valid.
    """
    verdicts = judge_pairs(
        rows.rings,
        pairs.first,
        pairs.second,
        turns_in_steps(pairs.turn_deg),
        OVERLAP_TOLERANCE_M / 2,
    )
    is_overlap = verdicts == OVERLAPS
    unclear = np.flatnonzero(verdicts == UNCLEAR)
    is_overlap[unclear] = _ask_geos(rows, pairs.take(unclear))
    return pairs.take(is_overlap)


def _ask_geos(rows: OverlapRows, pairs: RowPairs) -> BoolArray:
    """Which pairs overlap by more than rounding; see `find_overlaps`."""
    is_overlap = np.zeros(len(pairs), np.bool_)
    # Prepared once a row, however many pairs it is in.
    used, row = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    outlines = rows.outlines(used)
    first, second = outlines[row[: len(pairs)]], outlines[row[len(pairs) :]]
    second = turned_outlines(second, pairs.turn_deg)
    shapely.prepare(first)
    meets = np.flatnonzero(shapely.intersects(first, second))
    _check_outlines(outlines[np.unique(np.concatenate([row[meets], row[len(pairs) + meets]]))])
    shared = shapely.intersection(first[meets], second[meets])
    is_overlap[meets] = _has_room(shared, OVERLAP_TOLERANCE_M / 2)
    return is_overlap


def shared_areas_deg2(rows: OverlapRows, pairs: RowPairs) -> Float64Array:
    """What the outlines of pairs share, in square degrees, float64, shape (num_pairs,)."""
    second = turned_outlines(rows.outlines(pairs.second), pairs.turn_deg)
    return np.asarray(shapely.area(shapely.intersection(rows.outlines(pairs.first), second)))


def turns_in_steps(turn_deg: Float64Array) -> Int64Array:
    """Whole turns in steps of the lattice, which divides them."""
    return np.asarray(turn_deg * STEPS_PER_DEGREE, np.int64)


def _check_outlines(outlines: PolygonObjects) -> None:
    is_polygon = shapely.get_type_id(outlines) == shapely.GeometryType.POLYGON
    wrong = outlines[~(is_polygon & shapely.is_valid(outlines))]
    if len(wrong):
        raise GeometryError(
            f"{len(wrong)} overlapping footprints are no valid polygons, the first at "
            f"{shapely.get_coordinates(wrong[0])[:1].tolist()}: {shapely.is_valid_reason(wrong[0])}"
        )


def turned_outlines(outlines: PolygonObjects, turn_deg: Float64Array) -> PolygonObjects:
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
