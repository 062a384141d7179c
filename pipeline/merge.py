"""MergeSeams: pieces cut at tile edges -> whole buildings, level by level, exactly.

Pieces stay in the tile store; the shuffles carry their names only, which keeps memory flat.
"""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

from geo.instance_tables import (
    instances_from_table,
    instances_to_table,
    pieces_from_table,
    pieces_to_table,
)
from geo.instances import Instances, concat_instances
from geo.pixel_window import PixelWindow
from geo.seams import LEVEL_FACTOR, Pieces, merge_level
from pipeline.counters import count, note_element
from pipeline.detect import TileRef
from pipeline.failures import TileNote
from pipeline.packing import pack_source, unpack_source
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import TileStore, read_table, write_table

STAGE = "MergeSeams"


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
    """Whole instances that were joined from pieces, for the tile that holds their first pixel.

    Attributes:
        key: (zone, row, col) of that tile.
        name: file of the stage "merged"; it holds those of other tiles too.
    """

    key: TileKey
    name: str


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
        pieces = (
            refs
            | "WithPieces" >> beam.Filter(lambda ref: ref.num_pieces > 0)
            | "ToPieces" >> beam.Map(_tile_pieces).with_output_types(PiecesRef)
        )
        merged, notes = [], []
        for level, size in enumerate(self._level_sizes, start=1):
            result = (
                pieces
                | f"KeyByCell{level}" >> beam.Map(_KeyByCell(size))
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


def _tile_pieces(ref: TileRef) -> PiecesRef:
    return PiecesRef(key=ref.key, name=ref.tile_hash, is_tile=True, images=ref.images)


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
        parts = [self._load(*unpack_source(source)) for source in sorted(sources)]
        result = merge_level(parts, cell, self._spec.max_extent_px)
        count(STAGE, "pieces", sum(len(part) for part in parts))
        count(STAGE, "instances", len(result.whole))
        name = f"L{self._level}_z{zone}_r{row}_c{col}"
        if len(result.whole):
            yield from self._emit_whole(zone, name, result.whole)
        if len(result.open):
            path = self._store.work_path(self._spec.run_token, "open", name)
            write_table(path, pieces_to_table(result.open))
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

    def _load(self, name: str, is_tile: bool, images: tuple[int, ...]) -> Pieces:
        if is_tile:
            pieces, _ = self._store.load_pieces(name)
            instances = with_job_images(pieces.instances, images)
            return dataclasses.replace(pieces, instances=instances)
        path = self._store.work_path(self._spec.run_token, "open", name)
        return pieces_from_table(read_table(path)[0])

    def _emit_whole(self, zone: int, name: str, whole: Instances) -> Iterable[Any]:
        path = self._store.work_path(self._spec.run_token, "merged", name)
        write_table(path, instances_to_table(whole))
        for row, col in np.unique(whole.first_pixels() // self._spec.tile_px, axis=0).tolist():
            yield beam.pvalue.TaggedOutput("merged", MergedRef(key=(zone, row, col), name=name))

    def _notes(self, zone: int, first_pixels: Any) -> Iterable[Any]:
        limit = self._spec.config.grid.max_building_m
        for row, col in (first_pixels // self._spec.tile_px).tolist():
            note = f"1 component larger than {limit:g} m left out (grid.max_building_m)"
            yield beam.pvalue.TaggedOutput("notes", TileNote(key=(zone, row, col), note=note))


def load_merged(spec: JobSpec, store: TileStore, key: TileKey, names: Iterable[str]) -> Instances:
    """Whole instances joined from pieces whose first pixel lies in a tile."""
    _, row, col = key
    parts = []
    for name in sorted(names):
        table, _ = read_table(store.work_path(spec.run_token, "merged", name))
        instances = instances_from_table(table)
        owner = instances.first_pixels() // spec.tile_px
        parts.append(instances.take((owner[:, 0] == row) & (owner[:, 1] == col)))
    return concat_instances(parts)


def with_job_images(instances: Instances, images: Sequence[int]) -> Instances:
    """Image indices of a stored tile (into its own images) turned into positions in the job.

    A tile's images are in the job's order, so that the indices stay ascending.

    Args:
        instances: of the tile.
        images: positions of the tile's images in the job.
    """
    mapping = np.array(images or [0], np.int32)
    return dataclasses.replace(instances, image_index=mapping[instances.image_index])
