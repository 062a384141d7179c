"""The changes between two datasets, building by building, found cell by cell in bounded memory.

Both are read along S2's Hilbert curve, a cell at a time with the neighbours that the fate of its
buildings depends on (`geo.row_pairs`); `geo.change` says who is who. How either dataset is cut into
files, at which pixel size and in which zones it was made, does not matter.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from geo.change import HOPS as NUM_HOPS
from geo.change import MIN_PARTS, NONE, ChangeConfig, Kinship, find_kin, shared_areas
from geo.conditions import Condition
from geo.covered_ground import GROUND_WORDS, SEEN, CoveredGround
from geo.footprints import PUBLIC_SCHEMA
from geo.grid import METRES_PER_DEGREE
from geo.row_pairs import PairedBlocks, pair_blocks, shared_area_deg2
from geo.s2cells import cell_range
from geo.shards import merge_counts, plan_shards
from geo.sorted_rows import RowBlock, SortedRows

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]
Float64Array = npt.NDArray[np.float64]

CHANGE_STATUSES = (
    "unchanged",
    "changed",
    "split",
    "merged",
    "added",
    "removed",
    "not_covered_in_new",
    "not_covered_in_old",
)
"""What became of a building, in the order of tables and legends."""
_UNCHANGED, _CHANGED, _SPLIT, _MERGED, _ADDED, _REMOVED, _NOT_IN_NEW, _NOT_IN_OLD = range(8)

_COMPARED_NAMES = (
    *("id", "latitude", "longitude", "area_in_meters", "confidence", "geometry", "bbox"),
)
CHANGE_SCHEMA = pa.schema(
    [
        pa.field("status", pa.string(), nullable=False),
        pa.field("id_old", pa.string()),
        pa.field("id_new", pa.string()),
        pa.field("iou", pa.float64()),
        pa.field("area_old_m2", pa.float64()),
        pa.field("area_new_m2", pa.float64()),
        pa.field("shift_m", pa.float64()),
        pa.field("confidence_old", pa.float64()),
        pa.field("confidence_new", pa.float64()),
        pa.field("num_parts_old", pa.int32(), nullable=False),
        pa.field("num_parts_new", pa.int32(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("latitude", pa.float64(), nullable=False),
        pa.field("longitude", pa.float64(), nullable=False),
        PUBLIC_SCHEMA.field("geometry"),
        PUBLIC_SCHEMA.field("bbox"),
    ]
)
"""Columns of a change log. Every old building has exactly one row with `area_old_m2`, every new one
exactly one with `area_new_m2`, a pair has both. A piece of a split or merged building names the
whole by its id; `num_parts_new` counts the new buildings that are parts of the row's old one,
`num_parts_old` the old ones that are parts of its new one. `reason` says why ground was not
covered. Place and geometry are the new building's or, without one, the old one's."""

MAX_BLOCK_ROWS = 50_000


def compared_schema(conditions: Sequence[Condition] = ()) -> pa.Schema:
    """Columns of a footprint that a comparison reads, with those that conditions need."""
    more = [name for condition in conditions for name in condition.columns]
    names = dict.fromkeys([*_COMPARED_NAMES, *more])
    return pa.schema([PUBLIC_SCHEMA.field(name) for name in names])


def find_changes(
    old: SortedRows,
    new: SortedRows,
    *,
    ground_old: CoveredGround,
    ground_new: CoveredGround,
    config: ChangeConfig | None = None,
    wanted: tuple[Sequence[Condition], Sequence[Condition]] = ((), ()),
    max_block_rows: int = MAX_BLOCK_ROWS,
    on_rows: Callable[[int, int], None] | None = None,
) -> Iterator[pa.Table]:
    """The change log, a table of `CHANGE_SCHEMA` for each S2 cell along the Hilbert curve.

    The rows and their order do not depend on how the datasets are cut into files. A pair is told of
    when either of its two buildings is wanted: one whose confidence fell from 0.71 to 0.69 is not
    removed where 0.7 is asked for.

    Args:
        old: rows with the columns of `compared_schema`.
        new: the same.
        ground_old: what OLD has seen.
        ground_new: what NEW has seen.
        config: what counts as the same building; the defaults if None.
        wanted: conditions on old and on new buildings (`geo.query.conditions_of`); both must have
            been indexed with them.
        max_block_rows: rows of both that are held at once, roughly.
        on_rows: called after every cell with the rows done and all rows.
    """
    config = config or ChangeConfig()
    cells, counts = merge_counts([(old.cells, old.counts), (new.cells, new.counts)])
    total, num_done = old.num_rows + new.num_rows, 0
    for block in plan_shards(cells, counts, max_block_rows):
        if any(rows.may_hold(*cell_range(block.cell)) for rows in (old, new)):
            pairs = pair_blocks(old, new, block.cell, NUM_HOPS)
            yield _changes_of(pairs, (ground_old, ground_new), config, wanted)
        num_done += block.num_rows
        if on_rows is not None:
            on_rows(num_done, total)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LogRows:
    """Rows of a log before they are looked up; struct of arrays.

    Attributes:
        old: row of the old building accounted for, or `NONE`; int64, shape (n,).
        new: row of the new one.
        named_old: row of the old building named, which may be a whole only.
        named_new: row of the new building named.
        status: index into `CHANGE_STATUSES`, uint8.
        ground: index into `GROUND_WORDS`, uint8.
        iou: with whom it is named together.
    """

    old: Int64Array
    new: Int64Array
    named_old: Int64Array
    named_new: Int64Array
    status: UInt8Array
    ground: UInt8Array
    iou: Float64Array


def _changes_of(
    pairs: PairedBlocks,
    grounds: tuple[CoveredGround, CoveredGround],
    config: ChangeConfig,
    wanted: tuple[Sequence[Condition], Sequence[Condition]],
) -> pa.Table:
    old, new = pairs.first, pairs.second
    kin_old, kin_new = _kin(pairs, config)
    paired = np.flatnonzero(old.is_owned & (kin_old.partner != NONE))
    parts = [
        _pair_rows(paired, kin_old, config),
        _single_rows(old, kin_old, grounds[1], (_SPLIT, _MERGED, _REMOVED, _NOT_IN_NEW)),
        _mirrored(_single_rows(new, kin_new, grounds[0], (_MERGED, _SPLIT, _ADDED, _NOT_IN_OLD))),
    ]
    rows = _LogRows(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in _LogRows.__slots__
        }
    )
    return _log_table(rows, old, new, kin_old, kin_new, wanted)


def _kin(pairs: PairedBlocks, config: ChangeConfig) -> tuple[Kinship, Kinship]:
    old, new, a, b = pairs.first, pairs.second, pairs.index_first, pairs.index_second
    area_old, area_new, area_shared = shared_area_deg2(old, new, a, b)
    ids = old.table["id"].take(pa.array(a)), new.table["id"].take(pa.array(b))
    found = shared_areas(
        a,
        b,
        is_same_id=np.asarray(pc.equal(*ids).to_numpy(), np.bool_),
        area_old=area_old,
        area_new=area_new,
        area_shared=area_shared,
    )
    return find_kin(found, len(old), len(new), config)


def _pair_rows(paired: Int64Array, kin: Kinship, config: ChangeConfig) -> _LogRows:
    is_unchanged = kin.iou[paired] >= config.unchanged_iou
    return _LogRows(
        old=paired,
        new=kin.partner[paired],
        named_old=paired,
        named_new=kin.partner[paired],
        status=np.where(is_unchanged, _UNCHANGED, _CHANGED).astype(np.uint8),
        ground=np.full(len(paired), SEEN, np.uint8),
        iou=kin.iou[paired],
    )


def _single_rows(
    block: RowBlock, kin: Kinship, other_ground: CoveredGround, words: tuple[int, int, int, int]
) -> _LogRows:
    """The buildings of one side without a partner, as if it were the old side.

    Args:
        block: the side's rows.
        kin: their kinship.
        other_ground: what the other side has seen.
        words: status of a whole in parts, of a piece, of a lone one, of one on ground not covered.
    """
    rows = np.flatnonzero(block.is_owned & (kin.partner == NONE))
    in_parts, piece, lone, not_covered = words
    whole = kin.whole[rows]
    is_piece, is_in_parts = whole != NONE, kin.num_parts[rows] >= MIN_PARTS
    ground = np.full(len(rows), SEEN, np.uint8)
    alone = np.flatnonzero(~is_piece & ~is_in_parts)
    places = [block.table[name].to_numpy()[rows[alone]] for name in ("longitude", "latitude")]
    ground[alone] = other_ground.look_up(*places)
    status = np.select(
        [is_piece, is_in_parts, ground != SEEN], [piece, in_parts, not_covered], lone
    )
    return _LogRows(
        old=rows,
        new=np.full(len(rows), NONE, np.int64),
        named_old=rows,
        named_new=whole,
        status=status.astype(np.uint8),
        ground=ground,
        iou=kin.iou[rows],
    )


def _mirrored(rows: _LogRows) -> _LogRows:
    return _LogRows(
        old=rows.new,
        new=rows.old,
        named_old=rows.named_new,
        named_new=rows.named_old,
        status=rows.status,
        ground=rows.ground,
        iou=rows.iou,
    )


def _log_table(
    rows: _LogRows,
    old: RowBlock,
    new: RowBlock,
    kin_old: Kinship,
    kin_new: Kinship,
    wanted: tuple[Sequence[Condition], Sequence[Condition]],
) -> pa.Table:
    """The log's columns, within the limits, along the Hilbert curve."""
    keep = _looked_up(_fits(old.table, wanted[0]), rows.old)
    keep |= _looked_up(_fits(new.table, wanted[1]), rows.new)
    # Old and new rows as one list, so that a row's place is one number.
    place = np.where(rows.new != NONE, rows.new + len(old), rows.old)
    cells = np.concatenate([old.s2_cell, new.s2_cell])[place]
    # Stable, and the rows of a block lie along the curve themselves: ties settle themselves.
    order = np.lexsort((rows.status, cells))
    rows = _LogRows(
        **{name: getattr(rows, name)[order[keep[order]]] for name in _LogRows.__slots__}
    )
    place = place[order[keep[order]]]
    shared = {
        name: pa.chunked_array([*old.table[name].chunks, *new.table[name].chunks]).take(
            pa.array(place)
        )
        for name in ("latitude", "longitude", "geometry", "bbox")
    }
    words = pa.array(GROUND_WORDS)
    reason = pc.if_else(
        pa.array(rows.ground == SEEN), None, words.take(pa.array(rows.ground.astype(np.int64)))
    )
    columns = {
        "status": pa.array(CHANGE_STATUSES).take(pa.array(rows.status.astype(np.int64))),
        "id_old": _taken(old.table["id"], rows.named_old),
        "id_new": _taken(new.table["id"], rows.named_new),
        "iou": pa.array(rows.iou, mask=rows.iou == 0),
        "area_old_m2": _taken(old.table["area_in_meters"], rows.old),
        "area_new_m2": _taken(new.table["area_in_meters"], rows.new),
        "shift_m": _shifts(rows, old.table, new.table),
        "confidence_old": _taken(old.table["confidence"], rows.old),
        "confidence_new": _taken(new.table["confidence"], rows.new),
        "num_parts_old": pa.array(_counts(kin_new.num_parts, rows.new)),
        "num_parts_new": pa.array(_counts(kin_old.num_parts, rows.old)),
        "reason": reason.cast(pa.string()),
        **shared,
    }
    return pa.table([columns[name] for name in CHANGE_SCHEMA.names], schema=CHANGE_SCHEMA)


def _fits(table: pa.Table, conditions: Sequence[Condition]) -> BoolArray:
    is_fit = np.ones(len(table), np.bool_)
    for condition in conditions:
        is_fit &= condition.of_rows(table)
    return is_fit


def _looked_up(mask: BoolArray, index: Int64Array) -> BoolArray:
    """The mask's values at an index, False where the index is `NONE`."""
    return np.append(mask, False)[index]


def _counts(counts: Int64Array, index: Int64Array) -> npt.NDArray[np.int32]:
    return np.append(counts, 0)[index].astype(np.int32)


def _taken(column: pa.ChunkedArray, index: Int64Array) -> pa.ChunkedArray:
    """The column's values at an index, null where the index is `NONE`."""
    return column.take(pa.array(index, mask=index == NONE))


def _shifts(rows: _LogRows, old: pa.Table, new: pa.Table) -> pa.Array:
    """Metres between the centroids of pairs, null for single buildings."""
    is_single = (rows.old == NONE) | (rows.new == NONE)
    first, second = np.where(is_single, 0, rows.old), np.where(is_single, 0, rows.new)
    if is_single.all():
        return pa.nulls(len(is_single), pa.float64())
    lon = new["longitude"].to_numpy()[second] - old["longitude"].to_numpy()[first]
    lat_old = old["latitude"].to_numpy()[first]
    north = new["latitude"].to_numpy()[second] - lat_old
    east = (lon - 360.0 * np.round(lon / 360.0)) * np.cos(np.radians(lat_old))
    return pa.array(np.hypot(east, north) * METRES_PER_DEGREE, mask=is_single)
