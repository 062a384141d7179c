"""MergeSeams: pieces cut at tile edges -> whole buildings, level by level, exactly.

Pieces stay in the tile store; the shuffles carry their names only, which keeps memory flat.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from geo.instance_tables import (
    instances_from_table,
    instances_to_table,
    pieces_from_table,
    pieces_to_table,
)
from geo.instances import Instances, Int64Array
from geo.pixel_window import PixelWindow
from geo.places import Place
from geo.seams import LEVEL_FACTOR, Pieces, merge_level
from pipeline.counters import count, note_element
from pipeline.detect import TileRef
from pipeline.failures import TileNote
from pipeline.packing import pack_source, unpack_part, unpack_source
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import TileStore, read_batch, read_table, write_table

STAGE = "MergeSeams"
TILES_PER_BLOCK = 4
"""Tiles per side of a block, which one worker finishes at once."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PiecesRef:
    """Open pieces of one cell, or of one tile, in the store.

    Attributes:
        key: (zone, row, col) of the cell at its own level.
        name: file of the stage "open", or a tile's hash.
        is_tile: `name` is a tile's hash.
        images: positions of the tile's images in the job, which its stored pieces count from 0.
    """

    key: TileKey
    name: str
    is_tile: bool
    images: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MergedRef:
    """Whole instances that were joined from pieces, whose first pixels lie in one block of tiles.

    Attributes:
        block: (zone, row, col) of the block, see `TILES_PER_BLOCK`.
        name: file of the stage "merged"; it holds those of other blocks too.
        index: the file's batch.
    """

    block: TileKey
    name: str
    index: int


class MergeSeams(beam.PTransform):
    """Finished tiles to whole instances.

    Element in: `TileRef`. Elements out: `MergedRef`; tag `notes`: a `TileNote` for components that
    are larger than any building. Keyed by cell, level by level. Counted: pieces in, instances out.
    Retries are safe: files are named by their cell and rewritten whole.
    """

    def __init__(self, spec: JobSpec, level_sizes: Sequence[int | None]) -> None:
        super().__init__()
        self._spec = spec
        self._level_sizes = level_sizes

    def expand(self, refs: Any) -> Any:
        """Wire one shuffle per level."""
        keyed = refs | "KeyByCell1" >> beam.FlatMap(_tile_by_cell, self._level_sizes[0])
        pieces: Any = None
        merged, notes = [], []
        for level, size in enumerate(self._level_sizes, start=1):
            if pieces is not None:
                keyed = pieces | f"KeyByCell{level}" >> beam.Map(_KeyByCell(size))
            result = (
                keyed
                | f"GroupCell{level}" >> beam.GroupByKey()
                | f"MergeCell{level}"
                >> beam.ParDo(_MergeDoFn(self._spec, level, size)).with_outputs(
                    "merged", "notes", main="open"
                )
            )
            pieces = result.open
            merged.append(result.merged)
            notes.append(result.notes)
        return (
            merged | "AllMerged" >> beam.Flatten(),
            notes | "AllNotes" >> beam.Flatten(),
        )


def level_sizes(extents: Iterable[tuple[int, int, int, int]]) -> list[int | None]:
    """Sizes of the cells of each level, in tiles; None stands for all that is left.

    Args:
        extents: per zone the first and last tile row and the first and last tile column.
    """
    longest = max(
        (max(south - north, east - west) + 1 for north, south, west, east in extents), default=1
    )
    sizes: list[int | None] = []
    size = LEVEL_FACTOR
    while size < longest:
        sizes.append(size)
        size *= LEVEL_FACTOR
    return [*sizes, None]


def _tile_pieces(ref: TileRef) -> Iterable[PiecesRef]:
    if ref.num_pieces:
        yield PiecesRef(key=ref.key, name=ref.tile_hash, is_tile=True, images=ref.images)


def _tile_by_cell(ref: TileRef, size: int | None) -> Iterable[tuple[TileKey, bytes]]:
    return map(_KeyByCell(size), _tile_pieces(ref))


class _KeyByCell:
    """Keys pieces by their cell of a level: (zone, row, col) in units of the level's size."""

    def __init__(self, size: int | None) -> None:
        self._size = size

    def __call__(self, ref: PiecesRef) -> tuple[tuple[int, int, int], bytes]:
        zone, row, col = ref.key
        source = pack_source(ref.name, ref.is_tile, ref.images)
        if self._size is None:
            return (zone, 0, 0), source
        factor = self._size if ref.is_tile else LEVEL_FACTOR
        return (zone, row // factor, col // factor), source


class _MergeDoFn(beam.DoFn):
    """Joins the open pieces of one cell."""

    def __init__(self, spec: JobSpec, level: int, size: int | None) -> None:
        self._spec = spec
        self._level = level
        self._size = size

    def setup(self) -> None:
        self._store = TileStore(self._spec.store_path)
        self._journal = self._store.journal(self._spec.run_token)

    def process(self, element: Any) -> Iterable[Any]:
        begin = time.perf_counter()
        (zone, row, col), sources = element
        cell = self._cell_window(row, col)
        pieces = self._load([unpack_source(source) for source in sorted(sources)])
        result = merge_level([pieces], cell, self._spec.max_extent_px)
        count(STAGE, "pieces", len(pieces))
        count(STAGE, "instances", len(result.whole))
        name = f"L{self._level}_z{zone}_r{row}_c{col}"
        if len(result.whole):
            yield from self._emit_whole(zone, name, result.whole)
        if len(result.open):
            path = self._store.work_path(self._spec.run_token, "open", name)
            write_table(path, pieces_to_table(result.open), is_rewritten=True)
            yield PiecesRef(key=(zone, row, col), name=name, is_tile=False)
        yield from self._notes(zone, result.oversize.first_pixels)
        note_element(self._journal, STAGE, begin)

    def finish_bundle(self) -> None:
        self._journal.flush()

    def _cell_window(self, row: int, col: int) -> PixelWindow | None:
        if self._size is None:
            return None
        size = self._size * self._spec.tile_px
        return PixelWindow(col * size, row * size, size, size)

    def _load(self, sources: Sequence[tuple[str, bool, tuple[int, ...]]]) -> Pieces:
        """The pieces of all children, in any order: one conversion for all their tables."""
        tables = [read_table(self._path(name, is_tile))[0] for name, is_tile, _ in sources]
        pieces = pieces_from_table(pa.concat_tables(tables))
        # On the first level all children are tiles, later none is.
        if not sources[0][1]:
            return pieces
        tiles = [
            (len(table), images) for table, (_, _, images) in zip(tables, sources, strict=True)
        ]
        return dataclasses.replace(pieces, instances=_with_images_of(tiles, pieces.instances))

    def _path(self, name: str, is_tile: bool) -> Place:
        if is_tile:
            return self._store.pieces_path(name)
        return self._store.work_path(self._spec.run_token, "open", name)

    def _emit_whole(self, zone: int, name: str, whole: Instances) -> Iterable[Any]:
        blocks, offsets, order = _places(whole, TILES_PER_BLOCK * self._spec.tile_px)
        table = instances_to_table(whole.take(order))
        parts = [table.slice(begin, end - begin) for begin, end in itertools.pairwise(offsets)]
        path = self._store.work_path(self._spec.run_token, "merged", name)
        write_table(path, pa.concat_tables(parts), is_rewritten=True)
        for index, (row, col) in enumerate(blocks):
            ref = MergedRef(block=(zone, row, col), name=name, index=index)
            yield beam.pvalue.TaggedOutput("merged", ref)

    def _notes(self, zone: int, first_pixels: Any) -> Iterable[Any]:
        limit = self._spec.config.grid.max_building_m
        for row, col in (first_pixels // self._spec.tile_px).tolist():
            note = f"1 component larger than {limit:g} m left out (grid.max_building_m)"
            yield beam.pvalue.TaggedOutput("notes", TileNote(key=(zone, row, col), note=note))


def load_merged(
    spec: JobSpec, store: TileStore, zone: int, parts: Iterable[bytes]
) -> dict[TileKey, Instances]:
    """Whole instances of a block that were joined from pieces, by the tile of their first pixel.

    Args:
        spec: the job.
        store: where they lie.
        zone: of the block.
        parts: packed names and batches of files (`pack_part`), in any order.
    """
    paths = [
        (store.work_path(spec.run_token, "merged", name), index)
        for name, index in map(unpack_part, sorted(set(parts)))
    ]
    if not paths:
        return {}
    tables = [read_batch(path, index) for path, index in paths]
    instances = instances_from_table(pa.concat_tables(tables))
    tiles, offsets, order = _places(instances, spec.tile_px)
    return {
        (zone, row, col): instances.take(order[begin:end])
        for (row, col), (begin, end) in zip(tiles, itertools.pairwise(offsets), strict=True)
    }


def _places(instances: Instances, size_px: int) -> tuple[list[list[int]], list[int], Int64Array]:
    """Squares of so many pixels that hold the first pixels of instances.

    Returns:
        (row, col) of each square, ascending, in units of its size; where its instances begin in the
        order, and the end; the order of the instances, by square and then by first pixel.
    """
    first = instances.first_pixels()
    squares = first // size_px
    order = np.lexsort((first[:, 1], first[:, 0], squares[:, 1], squares[:, 0]))
    squares = squares[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (squares[1:] != squares[:-1]).any(axis=1)
    begin = np.flatnonzero(is_new)
    return squares[begin].tolist(), [*begin.tolist(), len(order)], order


def with_job_images(instances: Instances, images: Sequence[int]) -> Instances:
    """Image indices of a stored tile (into its own images) turned into positions in the job.

    A tile's images are in the job's order, so that the indices stay ascending.

    Args:
        instances: of the tile.
        images: positions of the tile's images in the job.
    """
    return _with_images_of([(len(instances), images)], instances)


def _with_images_of(tiles: Sequence[tuple[int, Sequence[int]]], instances: Instances) -> Instances:
    """`with_job_images` for the instances of several tiles: their number and images, in order."""
    lists = [images or [0] for _, images in tiles]
    first = np.cumsum([0, *map(len, lists)])[:-1]
    first_of_instance = np.repeat(first, [num for num, _ in tiles])
    first_of_count = np.repeat(first_of_instance, np.diff(instances.image_offsets))
    positions = np.concatenate(lists).astype(np.int32)
    return dataclasses.replace(
        instances, image_index=positions[first_of_count + instances.image_index]
    )
