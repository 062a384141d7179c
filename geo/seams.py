"""Pieces cut at tile edges -> whole instances, level by level, exactly.

A cell is a tile, or 4 x 4 cells of the level below. What touches the border of its cell may go on
outside: it stays open and travels to the next level as pixel runs, where the open pieces of the
cell's children are joined. What does not touch it is whole. In the end this gives what one pass
over the whole mosaic gives, to the byte, whatever the tiles and the order.

An instance that is wider or higher than `max_extent_px` is never traced, only reported. So that a
motorway of roofs does not fill the memory, a piece beyond that size keeps only its pixels on the
border of its cell, which is all that contact with a neighbour needs, and makes oversize whatever
touches it. A piece is never larger than its instance, and a whole instance is measured whole: which
instances are oversize does not depend on the tiles either.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geo.components import exceeds_extent
from geo.connectivity import connect_runs, sum_image_counts
from geo.instances import BoolArray, Instances, Int32Array, Int64Array, concat_instances
from geo.pixel_window import PixelWindow

LEVEL_FACTOR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Parts of instances that may go on outside their cell; sorted by the first run they have.

    Attributes:
        instances: the pieces; one that is oversize keeps only the runs on its cell's border, but
            all its sums and counts.
        is_oversize: pieces that are too large already, bool, shape (n,).
        bounds: true bounds (row_min, col_min, row_end, col_end), int64, shape (n, 4).
        first_pixels: true first pixel (row, col) in scan order, int64, shape (n, 2).
    """

    instances: Instances
    is_oversize: BoolArray
    bounds: Int64Array
    first_pixels: Int64Array

    def __len__(self) -> int:
        return len(self.is_oversize)

    @classmethod
    def empty(cls) -> "Pieces":
        """No pieces at all."""
        return cls.from_instances(Instances.empty())

    @classmethod
    def from_instances(cls, instances: Instances) -> "Pieces":
        """Pieces with all their runs; none is called oversize yet."""
        return cls(
            instances=instances,
            is_oversize=np.zeros(len(instances), np.bool_),
            bounds=instances.bounds(),
            first_pixels=instances.first_pixels(),
        )

    def take(self, index: Int64Array | BoolArray) -> "Pieces":
        """The chosen pieces, in the order given; positions (int) or one flag each (bool)."""
        return Pieces(
            instances=self.instances.take(index),
            is_oversize=self.is_oversize[index],
            bounds=self.bounds[index],
            first_pixels=self.first_pixels[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OversizeReport:
    """Instances that were not traced because they are too large; sorted by first pixel.

    Attributes:
        bounds: (row_min, col_min, row_end, col_end), ends exclusive, int64, shape (n, 4).
        num_pixels: their pixels, int64, shape (n,).
        first_pixels: (row, col), int64, shape (n, 2).
    """

    bounds: Int64Array
    num_pixels: Int64Array
    first_pixels: Int64Array

    def __len__(self) -> int:
        return len(self.num_pixels)

    @classmethod
    def empty(cls) -> "OversizeReport":
        """Nothing to report."""
        return cls.from_pieces(Pieces.empty())

    @classmethod
    def from_pieces(cls, pieces: Pieces) -> "OversizeReport":
        """Report all of these pieces."""
        order = _scan_order(pieces.first_pixels)
        return cls(
            bounds=pieces.bounds[order],
            num_pixels=pieces.instances.num_pixels[order],
            first_pixels=pieces.first_pixels[order],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelResult:
    """What became of the pieces of a cell.

    Attributes:
        whole: complete instances, none oversize, sorted by first pixel.
        open: pieces that touch the cell's border.
        oversize: complete instances that are too large.
    """

    whole: Instances
    open: Pieces
    oversize: OversizeReport


def parent_cell(cell: PixelWindow, factor: int = LEVEL_FACTOR) -> PixelWindow:
    """The cell of the next level that holds this one: factor x factor cells, anchored to (0, 0)."""
    width, height = cell.width * factor, cell.height * factor
    return PixelWindow(
        cell.col_off // width * width, cell.row_off // height * height, width, height
    )


def is_open(instances: Instances, window: PixelWindow) -> BoolArray:
    """Which instances have a pixel in the first or last row or column of a window.

    Args:
        instances: instances inside the window.
        window: a cell; nothing outside it is known yet.
    """
    row, start, end = instances.run_row, instances.run_start, instances.run_end
    on_border = (row == window.row_off) | (row == window.row_end - 1)
    on_border |= (start == window.col_off) | (end == window.col_end)
    if len(instances) == 0:
        return np.zeros(0, np.bool_)
    return np.asarray(np.logical_or.reduceat(on_border, instances.run_offsets[:-1]))


def split_cell(instances: Instances, cell: PixelWindow | None, max_extent_px: int) -> LevelResult:
    """The first level: what is whole inside a tile, what may go on outside, what is too large.

    Args:
        instances: the tile's components (`find_instances`); nothing is merged here.
        cell: the tile's window; None where nothing lies outside.
        max_extent_px: greatest width and height of an instance, in pixels.

    Raises:
        ValueError: if an instance lies outside the cell, or `max_extent_px` is below 1.
    """
    return _split_pieces(Pieces.from_instances(instances), cell, max_extent_px)


def merge_touching(instances: Instances) -> Instances:
    """Join instances that touch along a pixel edge; sums and image counts add up.

    Args:
        instances: instances in any order that share no pixel.

    Returns:
        The joined instances, sorted by first pixel: the same for any order of the input.

    Raises:
        GeometryError: if two instances share a pixel.
    """
    return _merge_touching(instances)[0]


def merge_level(
    pieces: Sequence[Pieces], cell: PixelWindow | None, max_extent_px: int
) -> LevelResult:
    """Join the open pieces of a cell's children.

    Args:
        pieces: open pieces of each child, in any order.
        cell: the cell; None at the end, when nothing lies outside any more (cells north and
            south of the grid's origin never share a parent).
        max_extent_px: greatest width and height of an instance in pixels, the same on all levels.

    Raises:
        GeometryError: if two pieces share a pixel.
        ValueError: if a piece lies outside the cell, or `max_extent_px` is below 1.
    """
    return _split_pieces(_merge_pieces(concat_pieces(pieces)), cell, max_extent_px)


def concat_pieces(parts: Sequence[Pieces]) -> Pieces:
    """All pieces of all parts, sorted by first run; nothing is merged."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return Pieces.empty()
    if len(parts) == 1:
        return parts[0]
    order = _scan_order(np.concatenate([part.instances.first_pixels() for part in parts]))
    return Pieces(
        instances=concat_instances([part.instances for part in parts]),
        is_oversize=np.concatenate([part.is_oversize for part in parts])[order],
        bounds=np.concatenate([part.bounds for part in parts])[order],
        first_pixels=np.concatenate([part.first_pixels for part in parts])[order],
    )


def concat_oversize(parts: Sequence[OversizeReport]) -> OversizeReport:
    """One report of all parts, sorted by first pixel."""
    if not parts:
        return OversizeReport.empty()
    first_pixels = np.concatenate([part.first_pixels for part in parts])
    order = _scan_order(first_pixels)
    return OversizeReport(
        bounds=np.concatenate([part.bounds for part in parts])[order],
        num_pixels=np.concatenate([part.num_pixels for part in parts])[order],
        first_pixels=first_pixels[order],
    )


def _scan_order(pixels: Int64Array) -> Int64Array:
    return np.lexsort((pixels[:, 1], pixels[:, 0]))


def _merge_touching(instances: Instances) -> tuple[Instances, Int64Array]:
    """The joined instances, and which of them each instance became part of."""
    owner = np.repeat(np.arange(len(instances)), np.diff(instances.run_offsets))
    order = np.lexsort((instances.run_start, instances.run_row))
    runs = connect_runs(
        instances.run_row[order],
        instances.run_start[order],
        instances.run_end[order],
        owner[order],
        len(instances),
    )
    image_owner = np.repeat(runs.group_of_node, np.diff(instances.image_offsets))
    image_offsets, image_index, image_pixels = sum_image_counts(
        image_owner, instances.image_index, instances.image_pixels, len(runs.run_offsets) - 1
    )
    merged = Instances(
        run_row=runs.run_row,
        run_start=runs.run_start,
        run_end=runs.run_end,
        run_offsets=runs.run_offsets,
        num_pixels=runs.sum_nodes(instances.num_pixels),
        probability_sum=runs.sum_nodes(instances.probability_sum),
        rim_sum=runs.sum_nodes(instances.rim_sum),
        rim_count=runs.sum_nodes(instances.rim_count),
        image_offsets=image_offsets,
        image_index=image_index,
        image_pixels=image_pixels,
    )
    return merged, runs.group_of_node


def _merge_pieces(pieces: Pieces) -> Pieces:
    """Join pieces that touch; what touches an oversize piece becomes oversize."""
    if len(pieces) == 0:
        return pieces
    merged, group = _merge_touching(pieces.instances)
    # Members of each group side by side, the one with the group's first pixel in front.
    first = pieces.first_pixels
    order = np.lexsort((first[:, 1], first[:, 0], group))
    begin = np.searchsorted(group[order], np.arange(len(merged)))
    bounds = pieces.bounds[order]
    return Pieces(
        instances=merged,
        is_oversize=np.logical_or.reduceat(pieces.is_oversize[order], begin),
        bounds=np.concatenate(
            [
                np.minimum.reduceat(bounds[:, :2], begin),
                np.maximum.reduceat(bounds[:, 2:], begin),
            ],
            axis=1,
        ),
        first_pixels=first[order[begin]],
    )


def _split_pieces(pieces: Pieces, cell: PixelWindow | None, max_extent_px: int) -> LevelResult:
    """Tell apart what is whole, open and oversize; nothing is merged here."""
    is_oversize = pieces.is_oversize | exceeds_extent(pieces.bounds, max_extent_px)
    pieces = dataclasses.replace(pieces, is_oversize=is_oversize)
    if cell is None:
        open_pieces, is_closed = Pieces.empty(), np.ones(len(pieces), np.bool_)
    else:
        _check_inside(pieces.bounds, cell)
        is_closed = ~is_open(pieces.instances, cell)
        open_pieces = _keep_border_of_oversize(pieces.take(~is_closed), cell)
    return LevelResult(
        whole=pieces.instances.take(is_closed & ~is_oversize),
        open=open_pieces,
        oversize=OversizeReport.from_pieces(pieces.take(is_closed & is_oversize)),
    )


def _check_inside(bounds: Int64Array, cell: PixelWindow) -> None:
    low, high = [cell.row_off, cell.col_off], [cell.row_end, cell.col_end]
    is_outside = (bounds[:, :2] < low).any(axis=1) | (bounds[:, 2:] > high).any(axis=1)
    if is_outside.any():
        row_min, col_min, row_end, col_end = bounds[np.argmax(is_outside)]
        raise ValueError(
            f"a piece with rows {row_min} to {row_end} and columns {col_min} to {col_end} reaches "
            f"out of its cell {cell}; give each cell the pieces of its own children"
        )


def _keep_border_of_oversize(pieces: Pieces, cell: PixelWindow) -> Pieces:
    """Drop the runs of oversize pieces inside the cell, so that their size stays bounded."""
    if not pieces.is_oversize.any():
        return pieces
    instances = pieces.instances
    lengths = np.diff(instances.run_offsets)
    is_oversize = np.repeat(pieces.is_oversize, lengths)
    run, start, end = _border_runs(instances, is_oversize, cell)
    owner = np.repeat(np.arange(len(pieces)), lengths)[run]
    offsets = np.searchsorted(owner, np.arange(len(pieces) + 1))
    shrunk = dataclasses.replace(
        instances,
        run_row=instances.run_row[run],
        run_start=start,
        run_end=end,
        run_offsets=offsets.astype(np.int64),
    )
    # The first run may have gone: sort again.
    pieces = dataclasses.replace(pieces, instances=shrunk)
    return pieces.take(_scan_order(shrunk.first_pixels()))


def _border_runs(
    instances: Instances, is_oversize: BoolArray, cell: PixelWindow
) -> tuple[Int64Array, Int32Array, Int32Array]:
    """Runs to keep, by index of the run they come from: (run, start, end).

    A run in the first or last row stays as it is. Any other run of an oversize piece keeps its
    pixels in the first and in the last column, which may give two runs, or none.
    """
    row, start, end = instances.run_row, instances.run_start, instances.run_end
    is_kept = ~is_oversize | (row == cell.row_off) | (row == cell.row_end - 1)
    is_kept |= (start == cell.col_off) & (end == cell.col_end) & (cell.width <= 2)
    is_left = ~is_kept & (start == cell.col_off)
    is_right = ~is_kept & (end == cell.col_end)
    run = np.repeat(np.arange(len(row)), is_kept.astype(np.int64) + is_left + is_right)
    is_second = np.zeros(len(run), np.bool_)
    is_second[1:] = run[1:] == run[:-1]
    goes_left, goes_right = is_left[run] & ~is_second, is_right[run] & (is_second | ~is_left[run])
    new_start = np.where(goes_right, np.int32(cell.col_end - 1), start[run])
    new_end = np.where(goes_left, np.int32(cell.col_off + 1), end[run])
    return run, new_start.astype(np.int32), new_end.astype(np.int32)
