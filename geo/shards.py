"""Partition of the earth into balanced shards: S2 cells that hold at most so many rows.

Rows are counted per S2 cell of one fixed level, on many workers; the sums are small (a continent
has some four million cells of level 12). The plan starts from the six faces and splits each cell
that holds too many rows. Ids of S2 cells are numbers along a Hilbert curve over the sphere: a cell
is a range of the sorted ids, and splitting it costs three binary searches, however full it is.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from geo.errors import DatasetError
from geo.s2cells import MAX_LEVEL, cell_level, cell_parent, cell_token

logger = logging.getLogger(__name__)

UInt64Array = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]

COUNT_LEVEL = 12
"""S2 level at which rows are counted, the finest a shard can be: 3.3 to 6.4 square kilometres."""

_ONE = np.uint64(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardConfig:
    """How the footprints are divided into files."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    max_rows_per_shard: int = 500_000
    """Most rows of a file; at some 65 bytes a row, 500,000 make 32 MB. At least 1."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_rows_per_shard < 1:
            raise ValueError(
                f"max_rows_per_shard = {self.max_rows_per_shard}: expected a number of at least 1"
            )


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One output file's share of the earth.

    Attributes:
        cell: id of the S2 cell that holds all the shard's rows; shards of a plan are disjoint.
        token: the cell's short name, as in `s2=TOKEN.parquet`.
        num_rows: number of rows.
    """

    cell: int
    token: str
    num_rows: int


def count_cells(
    leaf_cells: UInt64Array, level: int = COUNT_LEVEL
) -> tuple[UInt64Array, Int64Array]:
    """Count rows per S2 cell of one level.

    Args:
        leaf_cells: S2 cell of each row, of `level` or finer; uint64, in any order.
        level: level to count at, 0 to 30.

    Returns:
        Cell ids (uint64, ascending, each once) and number of rows in each (int64).
    """
    cells, counts = np.unique(cell_parent(leaf_cells, level), return_counts=True)
    return cells, counts.astype(np.int64)


def merge_counts(
    parts: Iterable[tuple[UInt64Array, Int64Array]],
) -> tuple[UInt64Array, Int64Array]:
    """Add counts of several parts; the order of the parts does not matter.

    Args:
        parts: results of `count_cells` or of this function.

    Returns:
        Cell ids (uint64, ascending, each once) and their total counts (int64).
    """
    listed = list(parts)
    if not listed:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    cells = np.concatenate([np.asarray(cells, np.uint64) for cells, _ in listed])
    counts = np.concatenate([np.asarray(counts, np.int64) for _, counts in listed])
    if len(cells) == 0:
        return cells, counts
    order = np.argsort(cells, kind="stable")
    cells, counts = cells[order], counts[order]
    first = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
    return cells[first], np.add.reduceat(counts, first)


def plan_shards(cells: UInt64Array, counts: Int64Array, max_rows: int) -> list[Shard]:
    """Divide rows into shards: S2 cells of at most `max_rows` rows, as large as that allows.

    Starting from the faces, a cell is split into its four children while it holds more than
    `max_rows`. What remains is then shrunk to the smallest cell around all its rows. The plan
    depends only on the total count of each cell, not on their order.

    Args:
        cells: S2 cells of one level (see `COUNT_LEVEL`), uint64; in any order, repeats are added.
        counts: number of rows in each, int64, at least 0; cells with 0 are left out.
        max_rows: most rows of a shard. A single input cell with more stays whole, which a warning
            says: counts tell nothing about what lies inside it.

    Returns:
        Disjoint shards along the Hilbert curve; every row lies in exactly one. Empty for no rows.

    Raises:
        ValueError: for cells of different levels, invalid cells, negative counts, or max_rows < 1.
    """
    if max_rows < 1:
        raise ValueError(f"max_rows = {max_rows}: expected a number of at least 1")
    if len(counts) and int(np.min(counts)) < 0:
        raise ValueError(f"counts holds {int(np.min(counts))}; expected no number below 0")
    cells, counts = merge_counts([(cells, counts)])
    cells, counts = cells[counts > 0], counts[counts > 0]
    if len(cells) == 0:
        return []
    level = _level_of(cells)
    total = np.concatenate([[0], np.cumsum(counts)])
    starts, ends = _split_ranges(cells, total, level, max_rows)
    num_rows = total[ends] - total[starts]
    shard_cells = _common_ancestors(cells[starts], cells[ends - 1], level)
    _warn_of_large(shard_cells, num_rows, max_rows)
    return [
        Shard(cell, cell_token(cell), rows)
        for cell, rows in zip(shard_cells.tolist(), num_rows.tolist(), strict=True)
    ]


class ShardPlan:
    """Shards in an order that places can be looked up in; made once, asked for every table.

    Attributes:
        shards: disjoint shards, in any order.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        cells = np.array([shard.cell for shard in shards], np.uint64)
        self._order = np.argsort(cells)
        reach = _lowest_bit(cells[self._order]) - _ONE
        self._first, self._last = cells[self._order] - reach, cells[self._order] + reach

    def __len__(self) -> int:
        return len(self.shards)

    def assign(self, leaf_cells: UInt64Array) -> Int64Array:
        """The shard that each row belongs to.

        Args:
            leaf_cells: S2 cell of each row, uint64, inside one of the shards' cells.

        Returns:
            Index into `shards` per row, int64.

        Raises:
            DatasetError: if a row lies in none of the shards: the plan was made from other rows.
        """
        leaf_cells = np.asarray(leaf_cells, np.uint64)
        index = np.searchsorted(self._first, leaf_cells, side="right") - 1
        is_inside = index >= 0
        is_inside[is_inside] = leaf_cells[is_inside] <= self._last[index[is_inside]]
        if not is_inside.all():
            cell = int(leaf_cells[np.argmin(is_inside)])
            raise DatasetError(
                f"{np.count_nonzero(~is_inside)} rows, one in S2 cell {cell_token(cell)}, lie in "
                f"none of the {len(self)} planned shards; plan the shards from the counts of all "
                "rows"
            )
        return np.asarray(self._order[index], np.int64)


def _split_ranges(
    cells: UInt64Array, total: Int64Array, level: int, max_rows: int
) -> tuple[Int64Array, Int64Array]:
    """Index ranges of the sorted cells that make up one shard each, ascending."""
    starts, ends = _split_at(cells, np.array([0]), np.array([len(cells)]), 0)
    done: list[tuple[Int64Array, Int64Array]] = []
    for child_level in range(1, level + 1):
        is_large = total[ends] - total[starts] > max_rows
        done.append((starts[~is_large], ends[~is_large]))
        starts, ends = _split_at(cells, starts[is_large], ends[is_large], child_level)
    done.append((starts, ends))
    starts = np.sort(np.concatenate([start for start, _ in done]))
    return starts, np.sort(np.concatenate([end for _, end in done]))


def _split_at(
    cells: UInt64Array, starts: Int64Array, ends: Int64Array, level: int
) -> tuple[Int64Array, Int64Array]:
    """Split index ranges at the borders of a level's cells; empty parts are left out.

    At level 0 the one range of all cells is split into faces, below that each range lies within one
    cell of the level above and is split into that cell's four children.
    """
    size = _ONE << np.uint64(2 * (MAX_LEVEL - level) + 1)  # ids that a cell of this level spans
    num_parts = 6 if level == 0 else 4
    origin = np.zeros(1, np.uint64)
    if level > 0:
        parent_size = size << np.uint64(2)
        origin = cells[starts] // parent_size * parent_size
    borders = origin[:, None] + np.arange(1, num_parts, dtype=np.uint64) * size
    inner = np.searchsorted(cells, borders)
    edges = np.concatenate([starts[:, None], inner, ends[:, None]], axis=1)
    part_starts, part_ends = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    is_filled = part_ends > part_starts
    return part_starts[is_filled], part_ends[is_filled]


def _common_ancestors(first: UInt64Array, last: UInt64Array, level: int) -> UInt64Array:
    """The smallest cell that contains both of two cells of one face, pair by pair."""
    ancestors = cell_parent(first, 0)
    for finer in range(1, level + 1):
        parents = cell_parent(first, finer)
        ancestors = np.where(parents == cell_parent(last, finer), parents, ancestors)
    return ancestors


def _warn_of_large(shard_cells: UInt64Array, num_rows: Int64Array, max_rows: int) -> None:
    """Say which shards could not be made small enough."""
    num_large = np.count_nonzero(num_rows > max_rows)
    if num_large:
        largest = int(np.argmax(num_rows))
        logger.warning(
            "%d shards hold more than max_rows_per_shard = %d rows, the largest is s2=%s with %d: "
            "rows are counted per cell of that size, so such a cell stays whole",
            num_large,
            max_rows,
            cell_token(int(shard_cells[largest])),
            num_rows[largest],
        )


def _lowest_bit(cells: UInt64Array) -> UInt64Array:
    """The lowest set bit of each id, which tells a cell's level."""
    return cells & (~cells + _ONE)


def _level_of(cells: UInt64Array) -> int:
    """The one level of all cells.

    Raises:
        ValueError: for cells of several levels, and for numbers that are no S2 cells.
    """
    lowest = _lowest_bit(cells)
    if lowest.min() != lowest.max():
        raise ValueError("cells holds S2 cells of several levels; count all rows at one level")
    return cell_level(int(cells.max()))
