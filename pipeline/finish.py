"""FinishFootprints: whole instances -> finished outlines with their attributes, tile by tile.

Grow back, trace, simplify, square, then longitude and latitude, area, confidence and Plus Code.
Every footprint depends on its own pixels only.
"""

import dataclasses
import datetime
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.finish import finish_outlines
from geo.footprint_ids import footprint_ids
from geo.footprints import calibrate, filter_footprints, footprint_table
from geo.grow import grow_instances
from geo.instances import Instances, concat_instances
from geo.lonlat import to_lonlat
from geo.rim import contrast
from geo.trace import trace_outlines
from pipeline.compile_notice import tell_of_compiling
from pipeline.counters import count, note_element
from pipeline.image_shelf import ImageShelf
from pipeline.merge import TILES_PER_BLOCK, MergedRef, load_merged, with_job_images
from pipeline.ordered_threads import OrderedThreads, worker_threads
from pipeline.packing import of_kind, pack_entry, pack_part, unpack_entry
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import TileStore, write_table

STAGE = "FinishFootprints"
MAX_THREADS = 4
"""Tiles at once, at most: each holds its instances and its table in memory."""
TILE, MERGED = b"t", b"m"
"""Kinds of what a block's group holds (`packing.as_kind`)."""

StoredTile = tuple[str, tuple[int, ...]]
"""A stored tile's hash, and the positions of its images in the job."""


class FinishFootprints(beam.PTransform):
    """Whole instances, from tiles and from seams, to finished tables in the store.

    Element in: (block key, packed (row, col, hash, images)s of `by_block` as `TILE`, and packed
    (file name, batch)s of `merged_by_block` as `MERGED`). Element out: the key of each tile that
    has footprints. Counted: footprints, those left out and why. Retries are safe: a tile's table is
    rewritten whole.
    """

    def __init__(self, spec: JobSpec) -> None:
        super().__init__()
        self._spec = spec

    def expand(self, grouped: Any) -> Any:
        """Wire the transform."""
        return grouped | "FinishTile" >> beam.ParDo(_FinishDoFn(self._spec))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FinishedTile:
    """A tile whose table is in the store; without footprints there is none.

    Attributes:
        key: of the tile.
        num_footprints: in its table.
        dropped: what was left out, by reason.
        seconds: that it took.
    """

    key: TileKey
    num_footprints: int
    dropped: dict[str, int]
    seconds: float


class _FinishDoFn(beam.DoFn):
    """Finishes the instances of a block's tiles, several at once."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._store = TileStore(self._spec.store_path)
        self._shelf = ImageShelf(self._spec, self._store)
        self._journal = self._store.journal(self._spec.run_token)
        tell_of_compiling(self._journal)
        self._threads = OrderedThreads(min(worker_threads(), MAX_THREADS), "finish")

    def process(self, element: tuple[TileKey, Iterable[bytes]]) -> Iterable[TileKey]:
        (zone, _, _), packed = element
        # Read once: of a large group an engine hands out what can be read only so.
        packed = list(packed)
        stored: dict[TileKey, list[StoredTile]] = {}
        for row, col, tile_hash, images in map(unpack_entry, of_kind(TILE, packed)):
            stored.setdefault((zone, row, col), []).append((tile_hash, images))
        joined = load_merged(self._spec, self._store, zone, of_kind(MERGED, packed))

        def finish(key: TileKey) -> _FinishedTile:
            return self._finish(key, stored.get(key, []), joined.get(key))

        # Beam's counters and the journal belong to this thread.
        for tile in self._threads.map(finish, sorted({*stored, *joined})):
            self._note(tile)
            if tile.num_footprints:
                yield tile.key

    def finish_bundle(self) -> None:
        self._journal.flush()

    def teardown(self) -> None:
        if hasattr(self, "_threads"):
            self._threads.close()

    def _finish(
        self, key: TileKey, stored: Iterable[StoredTile], joined: Instances | None
    ) -> _FinishedTile:
        begin = time.perf_counter()
        instances = collect_instances(self._store, stored, joined)
        table, dropped = finish_instances(self._spec, self._shelf, key[0], instances)
        if len(table):
            path = self._store.work_path(self._spec.run_token, "finished", work_name(key))
            write_table(path, table, {"bounds": table_bounds(table)}, is_rewritten=True)
        seconds = time.perf_counter() - begin
        return _FinishedTile(key=key, num_footprints=len(table), dropped=dropped, seconds=seconds)

    def _note(self, tile: _FinishedTile) -> None:
        for reason, number in tile.dropped.items():
            count(STAGE, reason.replace("_", "-"), number)
        count(STAGE, "footprints", tile.num_footprints)
        begin = time.perf_counter() - tile.seconds
        note_element(
            self._journal, STAGE, begin, footprints=tile.num_footprints, dropped=tile.dropped
        )


def by_block(key: TileKey, name: str, images: Sequence[int] = ()) -> tuple[TileKey, bytes]:
    """Key a tile's file by the tile's block: fewer, larger groups keep the shuffle small."""
    zone, row, col = key
    packed = pack_entry(row, col, name, images)
    return (zone, row // TILES_PER_BLOCK, col // TILES_PER_BLOCK), packed


def merged_by_block(ref: MergedRef) -> tuple[TileKey, bytes]:
    """Key what was joined by its block."""
    return ref.block, pack_part(ref.name, ref.index)


def work_name(key: TileKey) -> str:
    """File name of a tile's table in the later stages."""
    zone, row, col = key
    return f"z{zone}_r{row}_c{col}"


def table_bounds(table: pa.Table) -> list[float]:
    """Bounds [xmin, ymin, xmax, ymax] of a table's footprints in degrees."""
    bbox = table["bbox"].combine_chunks()
    return [
        float(np.min(bbox.field("xmin").to_numpy())),
        float(np.min(bbox.field("ymin").to_numpy())),
        float(np.max(bbox.field("xmax").to_numpy())),
        float(np.max(bbox.field("ymax").to_numpy())),
    ]


def collect_instances(
    store: TileStore, stored: Iterable[StoredTile], joined: Instances | None
) -> Instances:
    """All whole instances of a tile: those inside it and those whose first pixel it holds."""
    parts = [] if joined is None else [joined]
    for tile_hash, images in stored:
        parts.append(with_job_images(store.load_whole(tile_hash), images))
    return concat_instances(parts)


def finish_instances(
    spec: JobSpec, shelf: ImageShelf, zone: int, instances: Instances
) -> tuple[pa.Table, dict[str, int]]:
    """Instances of one zone to a footprint table; also what was left out, by reason."""
    grown = grow_instances(instances, spec.bundle.erosion_px)
    outlines = trace_outlines(grown)
    finished = finish_outlines(outlines, grown, gsd_m=spec.gsd_m, config=spec.config.finish)
    metric = dataclasses.replace(finished, coords=finished.coords * spec.gsd_m)
    polygons, is_usable = to_lonlat(metric, zone)
    instances = instances.take(is_usable)
    table = footprint_table(
        polygons,
        ids=footprint_ids(spec.grid(zone), instances.first_pixels()),
        confidence=calibrate(raw_confidence(spec, instances), spec.bundle.calibration),
        model_id=spec.model_id,
        **_image_columns(spec, shelf, instances),
    )
    kept, counts = filter_footprints(table, spec.config.filter)
    return kept, {**counts, "dropped_collapsed": int(np.count_nonzero(~is_usable))}


def raw_confidence(spec: JobSpec, instances: Instances) -> npt.NDArray[np.float64]:
    """Confidence of each instance before calibration, in [0, 1], as the bundle says."""
    inside = instances.probability_sum / (255.0 * instances.num_pixels)
    if spec.bundle.confidence == "mean":
        return np.asarray(inside)
    return contrast(inside, instances.rim_sum, instances.rim_count)


def main_images(instances: Instances) -> npt.NDArray[np.int64]:
    """The image that most of each instance's pixels came from; of equals the first in the list."""
    owner = np.repeat(np.arange(len(instances)), np.diff(instances.image_offsets))
    order = np.lexsort((instances.image_index, -instances.image_pixels, owner))
    return instances.image_index[order[instances.image_offsets[:-1]]].astype(np.int64)


def newest_dates(instances: Instances, shelf: ImageShelf) -> list[datetime.date | None]:
    """The newest date of the images that each instance's pixels came from."""
    positions, inverse = np.unique(instances.image_index, return_inverse=True)
    dates = [shelf.date(int(position)) for position in positions]
    if not len(instances):
        return []
    # Days since the year 1, 0 for none: the newest is the largest.
    days = np.array([date.toordinal() if date else 0 for date in dates], np.int64)[inverse]
    newest = np.maximum.reduceat(days, instances.image_offsets[:-1]).tolist()
    return [datetime.date.fromordinal(day) if day else None for day in newest]


def _image_columns(spec: JobSpec, shelf: ImageShelf, instances: Instances) -> dict[str, pa.Array]:
    """`image_id`: most pixels; `image_date`: its date, or the newest where images are mixed."""
    images = main_images(instances)
    names = spec.images.column("image_id").take(pa.array(images))
    if spec.config.raster.mosaic == "mean_probability":
        dates = newest_dates(instances, shelf)
    else:
        known = {position: shelf.date(position) for position in set(images.tolist())}
        dates = [known[position] for position in images.tolist()]
    return {"image_ids": names, "image_dates": pa.array(dates, pa.date32())}
