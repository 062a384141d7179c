"""PlanTiles: planning cells -> the tiles that hold ground; and the profiles of the images."""

import time
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np

from geo.errors import EveryroofError
from geo.network_use import take_network_use
from pipeline.compile_notice import tell_of_compiling
from pipeline.counters import count, note_element
from pipeline.cover import TILES_PER_CELL, Cover
from pipeline.image_shelf import ImageShelf
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import TileStore

TileRun = tuple[int, int, int, int]
"""(zone, tile row, first tile col, number of tiles): neighbours in one row of tiles."""
CELLS_OF_A_LARGE_JOB = 8
"""Planning cells from which tiles travel in runs, and work is cleared away by all workers."""
MAX_PROFILED_AHEAD = 256
"""Images up to which all profiles are made before any tile; of more, only those that tiles need."""


class PlanTiles(beam.PTransform):
    """Planning cells to tiles.

    Element in: (zone, row, col) of a planning cell. Element out: a `TileRun`. Generated on workers,
    so that no list of tiles ever lies in the launcher, and shuffled as short runs, since a local
    runner's shuffle costs half a kilobyte an element. Counted: tiles planned. Retries are safe.
    """

    def __init__(self, spec: JobSpec, num_cells: int) -> None:
        super().__init__()
        self._spec = spec
        # A small job spreads better tile by tile.
        self._max_run = TILES_PER_CELL if num_cells >= CELLS_OF_A_LARGE_JOB else 1

    def expand(self, cells: Any) -> Any:
        """Wire the transform."""
        return cells | "ExpandCell" >> beam.ParDo(
            _ExpandCellDoFn(self._spec, self._max_run)
        ).with_output_types(TileRun)


class _ExpandCellDoFn(beam.DoFn):
    """Lists the tiles of one planning cell."""

    def __init__(self, spec: JobSpec, max_run: int) -> None:
        self._spec = spec
        self._max_run = max_run

    def setup(self) -> None:
        self._cover = Cover(self._spec)
        self._journal = TileStore(self._spec.store_path).journal(self._spec.run_token)

    def process(self, cell: TileKey) -> Iterable[TileRun]:
        tiles = list(self._cover.tiles_in(cell))
        count("PlanTiles", "tiles-planned", len(tiles))
        self._journal.write("planned", cell=list(cell), tiles=len(tiles))
        yield from to_runs([(tile.zone, tile.row, tile.col) for tile in tiles], self._max_run)

    def finish_bundle(self) -> None:
        self._journal.flush()


def to_runs(keys: Iterable[TileKey], max_length: int) -> list[TileRun]:
    """Tiles in scan order as runs of neighbours in one row, none longer than `max_length`."""
    runs: list[TileRun] = []
    for zone, row, col in keys:
        if runs:
            last_zone, last_row, first, length = runs[-1]
            follows = (zone, row, col) == (last_zone, last_row, first + length)
            if follows and length < max_length:
                runs[-1] = (zone, row, first, length + 1)
                continue
        runs.append((zone, row, col, 1))
    return runs


def profiled_ahead(spec: JobSpec) -> list[int]:
    """Positions of the images whose profiles are made as a stage of their own.

    A few opened images are profiled side by side, one per worker. Of a catalogue only those are
    profiled that tiles need, by the first worker that does, shared through the store.
    """
    positions = np.flatnonzero(spec.images.is_opened)
    return positions.tolist() if len(positions) <= MAX_PROFILED_AHEAD else []


class ProfileImages(beam.PTransform):
    """Image positions to the number of profiles in the store, as a barrier before detection.

    Element in: position of an image. Element out: the same, once its fill areas and value range are
    known; an image that cannot be profiled fails its tiles later, with the reason. Retries are
    safe.
    """

    def __init__(self, spec: JobSpec) -> None:
        super().__init__()
        self._spec = spec

    def expand(self, positions: Any) -> Any:
        """Wire the transform."""
        return positions | "ProfileImage" >> beam.ParDo(_ProfileDoFn(self._spec))


class _ProfileDoFn(beam.DoFn):
    """Computes one image's profile."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        store = TileStore(self._spec.store_path)
        self._shelf = ImageShelf(self._spec, store)
        self._journal = store.journal(self._spec.run_token)
        tell_of_compiling(self._journal)

    def process(self, position: int) -> Iterable[int]:
        begin = time.perf_counter()
        try:
            self._shelf.make_profile(position)
        except EveryroofError:
            # The tiles of this image will meet the same error and carry it to the ledger.
            count("ProfileImages", "failures")
        use = take_network_use()
        note_element(
            self._journal,
            "ProfileImages",
            begin,
            requests=use.num_requests,
            network_bytes=use.num_bytes,
        )
        yield position

    def finish_bundle(self) -> None:
        self._journal.flush()

    def teardown(self) -> None:
        if hasattr(self, "_shelf"):
            self._shelf.close()
