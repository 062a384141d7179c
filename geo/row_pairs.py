"""Pairs of rows of two datasets that overlap, found cell by cell, with all that they depend on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from geo.box_pairs import meeting_boxes
from geo.geoparquet import Bounds
from geo.overlap_pairs import turned_outlines
from geo.s2cells import cell_range
from geo.sorted_rows import RowBlock, SortedRows, bounds_of

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
PolygonObjects = npt.NDArray[np.object_]

# Around the rows of a cell: what a building's neighbours reach, so that one look is mostly enough.
_MARGIN_DEG = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedBlocks:
    """The rows of a cell in two datasets, with those that they depend on, and who meets whom.

    Attributes:
        first: rows of the first dataset.
        second: rows of the second.
        index_first: row of the first for each pair whose boxes meet, int64, shape (num_pairs,).
        index_second: row of the second.
    """

    first: RowBlock
    second: RowBlock
    index_first: Int64Array
    index_second: Int64Array


def pair_blocks(first: SortedRows, second: SortedRows, cell: int, num_hops: int) -> PairedBlocks:
    """The rows of an S2 cell and all within some steps from box to meeting box, to and fro.

    Args:
        first: a dataset.
        second: another one.
        cell: S2 cell id; rows whose centroid lies in it are owned.
        num_hops: steps. All neighbours of rows up to one step less are complete.
    """
    start, end = cell_range(cell)
    middle_deg = _middle_longitude(cell)
    owned = [rows.block(start, end, middle_deg) for rows in (first, second)]
    needed = bounds_of(np.concatenate([block.boxes for block in owned]))
    if needed is None:
        none = np.zeros(0, np.int64)
        return PairedBlocks(first=owned[0], second=owned[1], index_first=none, index_second=none)
    while True:
        region = _widened(needed)
        blocks = [rows.block(start, end, middle_deg, region) for rows in (first, second)]
        a, b = meeting_boxes(blocks[0].boxes, blocks[1].boxes)
        reached, inner = _reached(blocks[0], blocks[1], a, b, num_hops)
        found = bounds_of(
            np.concatenate([block.boxes[rows] for block, rows in zip(blocks, inner, strict=True)])
        )
        assert found is not None
        if _holds(region, found):
            return _kept(blocks, reached, a, b)
        needed = found


def shared_area_deg2(
    first: RowBlock, second: RowBlock, index_first: Int64Array, index_second: Int64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Areas of the outlines of pairs and of what they share, in square degrees.

    Degrees of neighbours are stretched alike, so that ratios of these areas are those in metres.

    Args:
        first: rows with the column `geometry`, WKB of valid polygons.
        second: the same.
        index_first: row of the first for each pair.
        index_second: row of the second.

    Returns:
        Area of the first, of the second, and shared, float64, shape (num_pairs,) each.
    """
    turn_deg = second.turn_deg[index_second] - first.turn_deg[index_first]
    outline_a, row_a = _outlines(first, index_first)
    outline_b, row_b = _outlines(second, index_second)
    area_a, area_b = shapely.area(outline_a)[row_a], shapely.area(outline_b)[row_b]
    is_equal = _is_equal(first, second, index_first, index_second) & (turn_deg == 0)
    shared = np.where(is_equal, area_a, 0.0)
    shapely.prepare(outline_a)
    rest = np.flatnonzero(~is_equal)
    other = turned_outlines(outline_b[row_b[rest]], turn_deg[rest])
    meets = shapely.intersects(outline_a[row_a[rest]], other)
    rest = rest[meets]
    shared[rest] = shapely.area(shapely.intersection(outline_a[row_a[rest]], other[meets]))
    return area_a, area_b, shared


def paired_outlines(
    first: RowBlock, second: RowBlock, index_first: Int64Array, index_second: Int64Array
) -> tuple[PolygonObjects, PolygonObjects, Float64Array]:
    """The geometries of pairs, and what brings the second's longitudes beside the first's.

    Args:
        first: rows with the column `geometry`, WKB.
        second: the same.
        index_first: row of the first for each pair.
        index_second: row of the second.
    """
    turn_deg = second.turn_deg[index_second] - first.turn_deg[index_first]
    a, row_a = _outlines(first, index_first)
    b, row_b = _outlines(second, index_second)
    return a[row_a], b[row_b], turn_deg


def _outlines(block: RowBlock, index: Int64Array) -> tuple[PolygonObjects, Int64Array]:
    """The outlines that pairs need, each parsed once, and which one each pair has."""
    used, row = np.unique(index, return_inverse=True)
    column = block.table["geometry"].take(pa.array(used))
    return shapely.from_wkb(column.to_numpy()), row.astype(np.int64)


def _is_equal(
    first: RowBlock, second: RowBlock, index_first: Int64Array, index_second: Int64Array
) -> BoolArray:
    """Which pairs have the same outline to the byte."""
    a = first.table["geometry"].take(pa.array(index_first))
    b = second.table["geometry"].take(pa.array(index_second))
    return np.asarray(pc.equal(a, b).to_numpy(), np.bool_)


def _middle_longitude(cell: int) -> float:
    import s2geometry  # kept out of the import, as in geo.s2cells

    return float(s2geometry.S2CellId(int(cell)).ToLatLng().lng().degrees())


def _widened(bounds: Bounds) -> Bounds:
    west, south, east, north = bounds
    return west - _MARGIN_DEG, south - _MARGIN_DEG, east + _MARGIN_DEG, north + _MARGIN_DEG


def _holds(region: Bounds, bounds: Bounds) -> bool:
    return (
        region[0] <= bounds[0]
        and region[1] <= bounds[1]
        and region[2] >= bounds[2]
        and region[3] >= bounds[3]
    )


def _reached(
    first: RowBlock, second: RowBlock, a: Int64Array, b: Int64Array, num_hops: int
) -> tuple[tuple[BoolArray, BoolArray], tuple[BoolArray, BoolArray]]:
    """Rows within all steps of an owned one, and within all but the last."""
    reach_a, reach_b = first.is_owned.copy(), second.is_owned.copy()
    inner = reach_a.copy(), reach_b.copy()
    for _ in range(num_hops):
        inner = reach_a.copy(), reach_b.copy()
        to_b, to_a = b[inner[0][a]], a[inner[1][b]]
        reach_a[to_a], reach_b[to_b] = True, True
    return (reach_a, reach_b), inner


def _kept(
    blocks: list[RowBlock],
    reached: tuple[BoolArray, BoolArray],
    a: Int64Array,
    b: Int64Array,
) -> PairedBlocks:
    """The reached rows and the pairs among them, numbered anew."""
    rows = [np.flatnonzero(mask) for mask in reached]
    number = [np.cumsum(mask) - 1 for mask in reached]
    is_kept = reached[0][a] & reached[1][b]
    return PairedBlocks(
        first=blocks[0].take(rows[0]),
        second=blocks[1].take(rows[1]),
        index_first=number[0][a[is_kept]],
        index_second=number[1][b[is_kept]],
    )
