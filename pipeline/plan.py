"""PlanTiles: planning cells -> the tiles that hold ground; and the profiles of the images."""

import time
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from geo.errors import EveryroofError
from geo.grid import Tile
from pipeline.counters import count
from pipeline.cover import Cover
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import TileStore
from pipeline.tile_work import ProfileShelf


class PlanTiles(beam.PTransform):
    """Planning cells to tiles.

    Element in: (zone, row, col) of a planning cell. Element out: `Tile`. Generated on workers, so
    that no list of tiles ever lies in the launcher. Counted: tiles planned. Retries are safe.
    """

    def __init__(self, spec: JobSpec) -> None:
        super().__init__()
        self._spec = spec

    def expand(self, cells: Any) -> Any:
        """Wire the transform."""
        return cells | "ExpandCell" >> beam.ParDo(_ExpandCellDoFn(self._spec))


class _ExpandCellDoFn(beam.DoFn):
    """Lists the tiles of one planning cell."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._cover = Cover(self._spec)
        self._journal = TileStore(self._spec.store_path).journal(self._spec.run_token)

    def process(self, cell: TileKey) -> Iterable[Tile]:
        tiles = list(self._cover.tiles_in(cell))
        count("PlanTiles", "tiles-planned", len(tiles))
        self._journal.write("planned", tiles=len(tiles))
        yield from tiles


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
        self._shelf = ProfileShelf(self._spec, store)
        self._journal = store.journal(self._spec.run_token)

    def process(self, position: int) -> Iterable[int]:
        begin = time.perf_counter()
        try:
            self._shelf.make(position)
        except EveryroofError:
            # The tiles of this image will meet the same error and carry it to the ledger.
            count("ProfileImages", "failures")
        self._journal.write("stage", name="ProfileImages", seconds=time.perf_counter() - begin)
        yield position
