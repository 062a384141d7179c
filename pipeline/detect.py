"""DetectBuildings: tiles -> finished tiles in the store; read, segment and trace fused.

No pixel ever crosses a shuffle. While the network works on one tile, threads read the next ones and
others trace and store the last, so that the network does not wait. The next tile's windows are
handed over before this one's are through: at the end of a tile no core is idle.
"""

import dataclasses
import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.shared import Shared
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from geo.errors import EveryroofError
from geo.gdal import share_cache
from geo.grid import Tile
from geo.network_use import take_network_use
from geo.object_path import ObjectPath
from geo.remote_names import redact
from model.devices import cores_of_worker, stable_num_threads
from model.segment import Segmenter
from pipeline.compile_notice import tell_of_compiling
from pipeline.counters import count, record_ms
from pipeline.cover import Cover
from pipeline.failures import TileRecord
from pipeline.fetch import local_bundle
from pipeline.heap import give_back_freed
from pipeline.image_shelf import ImageShelf
from pipeline.isolated import detect_isolated
from pipeline.logs import configure_worker_logging, working_on
from pipeline.orphan_guard import end_with_supervisor
from pipeline.plan import TileRun
from pipeline.probability import write_probability
from pipeline.side_threads import SideThreads, pick_side_threads, stand_back, switch_quickly
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import TileResult, TileStore
from pipeline.tile_work import (
    LayersUnderWay,
    TileLayers,
    TileTask,
    begin_layers,
    make_task,
    read_layers,
    trace_tile,
)

logger = logging.getLogger(__name__)
STAGE = "DetectBuildings"
ATTEMPTS_IN_COMPANY = 2
"""Deaths of a worker at a tile after which the tile is worked on in a process of its own."""
FAILURE_ERRORS = (EveryroofError, OSError, RuntimeError, ValueError, MemoryError)
"""What makes a tile fail; anything else is a bug of ours and ends the run."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TileRef:
    """A finished tile in the store.

    Attributes:
        key: (zone, row, col).
        tile_hash: its name in the store.
        num_pieces: instances that touch the tile's edge.
        num_whole: the others.
        images: positions in the job of the images that the stored tile counts from 0.
    """

    key: TileKey
    tile_hash: str
    num_pieces: int
    num_whole: int
    images: tuple[int, ...]


@dataclasses.dataclass(kw_only=True)
class Stopwatch:
    """Seconds that the steps of one tile took, and what reading it asked of disks and servers.

    Attributes:
        begun_at: when reading began, seconds since the epoch.
        read_s: seconds, likewise the others.
        segment_s: seconds of the network, without those it still had to do with the tile before.
        wait_read_s: seconds that the network had nothing to do but wait for this tile's pixels.
        wait_trace_s: seconds that it waited afterwards, since earlier tiles were not traced yet.
        reads: windows read from images.
        source_bytes: bytes of their values, decoded.
        requests: requests to servers (ranges asked for at the same time count as one), the check
            that the image is unchanged among them.
        network_bytes: bytes of images that came from servers.
    """

    begun_at: float = 0.0
    read_s: float = 0.0
    segment_s: float = 0.0
    trace_s: float = 0.0
    wait_read_s: float = 0.0
    wait_trace_s: float = 0.0
    reads: int = 0
    source_bytes: int = 0
    requests: int = 0
    network_bytes: int = 0

    def note_reading(self, layers: TileLayers) -> None:
        """Take in what reading a tile took."""
        use = take_network_use()
        self.requests, self.network_bytes = use.num_requests, use.num_bytes
        self.reads = sum(raster.stats.num_reads for raster in layers.rasters)
        self.source_bytes = sum(raster.stats.source_bytes for raster in layers.rasters)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection:
    """How one tile ended: its ledger record, its stored result and, unless it was stored, times."""

    record: TileRecord
    ref: TileRef | None = None
    watch: Stopwatch | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A tile on its way to the network; without layers it is stored, without a task tried alone."""

    task: TileTask | None = None
    layers: TileLayers | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _InNetwork:
    """A tile that the network has begun with, or will as soon as it has done the one before."""

    task: TileTask
    layers: LayersUnderWay
    watch: Stopwatch


class DetectBuildings(beam.PTransform):
    """Tiles to traced instances.

    Element in: `TileRun`. Elements out: `TileRef` for each tile that is not failed; tag `records`:
    one `TileRecord` per tile. Counted: tiles by status, stored tiles, milliseconds per step.
    Retries are safe: a finished tile is read back, a half-done one leaves nothing but its mark.
    """

    def __init__(self, spec: JobSpec, profiled: Any) -> None:
        super().__init__()
        self._spec = spec
        self._profiled = profiled

    def expand(self, tiles: Any) -> Any:
        """Wire the transform."""
        return tiles | "DetectTile" >> beam.ParDo(
            _DetectDoFn(self._spec), profiled=self._profiled
        ).with_outputs("records", main="refs")


class TileDetector:
    """Detects tiles one after the other, reading ahead and tracing behind in threads.

    Memory holds the pixels of one tile more than there are threads that read: one with the network,
    and those that are being read or wait behind it; and the probabilities of one more than are
    being traced.
    """

    def __init__(self, spec: JobSpec, segmenter: Segmenter) -> None:
        self.spec = spec
        self.cover = Cover(spec)
        self.store = TileStore(spec.store_path)
        self.shelf = ImageShelf(spec, self.store)
        self.segmenter = segmenter
        self._journal = self.store.journal(spec.run_token)
        tell_of_compiling(self._journal)
        self._threads = side_threads(spec, segmenter)
        share_cache(self._threads.num_reading)
        self._reader = ThreadPoolExecutor(self._threads.num_reading, "read", stand_back)
        self._tracer = ThreadPoolExecutor(self._threads.num_tracing, "trace", stand_back)
        self._reading: deque[tuple[Tile, Future[_Prepared], Stopwatch]] = deque()
        self._in_network: _InNetwork | None = None
        self._network_ended_s = 0.0
        self._tracing: list[Future[Detection]] = []

    def start(self, tile: Tile, *, is_isolated: bool = False) -> Iterator[Detection]:
        """Begin with a tile; yields those that ended meanwhile.

        Args:
            tile: the tile.
            is_isolated: this process was made for this tile; do not make another.
        """
        while len(self._reading) >= self._threads.num_reading:
            yield from self._segment(*self._reading.popleft(), is_last=False)
        # Not sooner: only now the pixels of one more tile are gone.
        watch = Stopwatch()
        future = self._reader.submit(self._prepare, tile, watch, is_isolated)
        self._reading.append((tile, future, watch))

    def finish(self) -> Iterator[Detection]:
        """End the tiles under way."""
        while self._reading:
            yield from self._segment(*self._reading.popleft(), is_last=not self._reading)
        yield from self._end_network()
        while self._tracing:
            yield self._tracing.pop(0).result()

    def flush(self) -> None:
        """Have the journal put where others read it."""
        self._journal.flush()

    def close(self) -> None:
        """Stop the threads and close the images."""
        if self._in_network is not None:
            self._in_network.layers.stop()
        self._reader.shutdown(cancel_futures=True)
        self._tracer.shutdown(cancel_futures=True)
        self.shelf.close()

    def _prepare(self, tile: Tile, watch: Stopwatch, is_isolated: bool) -> "_Prepared":
        """Open a tile's images, and read it unless it is stored or has to be worked on alone."""
        watch.begun_at, begin = time.time(), time.perf_counter()
        with working_on(tile.name):
            prepared = self._open_and_read(tile, is_isolated)
        watch.read_s = time.perf_counter() - begin
        if prepared.layers is not None:
            watch.note_reading(prepared.layers)
        return prepared

    def _open_and_read(self, tile: Tile, is_isolated: bool) -> "_Prepared":
        task = self._task(tile, is_isolated)
        if task is None:
            return _Prepared()
        if self.store.has_tile(task.tile_hash):
            return _Prepared(task=task)
        if not is_isolated and self.store.num_attempts(task.tile_hash) >= ATTEMPTS_IN_COMPANY:
            return _Prepared()
        self.store.mark_attempt(task.tile_hash)
        try:
            layers = read_layers(self.spec, self.shelf, task)
        except FAILURE_ERRORS:
            self.store.clear_attempts(task.tile_hash)
            raise
        return _Prepared(task=task, layers=layers)

    def _task(self, tile: Tile, is_isolated: bool) -> TileTask | None:
        """The tile's task; None where opening its images killed workers before."""

        def make() -> TileTask:
            return make_task(self.spec, self.cover, self.shelf, self.segmenter.fingerprint, tile)

        if self.spec.images.is_opened.all():
            return make()
        # Without versions there is no hash yet to mark an attempt by; opening may kill, too.
        mark = f"opening-{self.spec.run_token}-{tile.name}"
        if not is_isolated and self.store.num_attempts(mark) >= ATTEMPTS_IN_COMPANY:
            return None
        self.store.mark_attempt(mark)
        try:
            return make()
        finally:
            self.store.clear_attempts(mark)

    def _segment(
        self, tile: Tile, future: "Future[_Prepared]", watch: Stopwatch, *, is_last: bool
    ) -> Iterator[Detection]:
        """Hand a tile to the network, and end the one before; yields those that ended."""
        begin = time.perf_counter()
        try:
            prepared = future.result()
        except FAILURE_ERRORS as error:
            yield self._failed(tile, error)
            return
        watch.wait_read_s = self._idle_s(begin)
        if self._in_network is not None and self._in_network.layers.is_over:
            # However many stored tiles follow, what is found is stored now.
            yield from self._end_network()
        task = prepared.task
        if task is None:
            # It has ended workers before, mostly for want of memory.
            yield from self._end_network()
            # Nothing runs beside it; the pixels of tiles that were read ahead stay.
            wait([future for _, future, _ in self._reading])
            yield self._detect_alone(tile)
            return
        if prepared.layers is None:
            yield self._finished(task, self.store.load_tile(task.tile_hash), None)
            return
        try:
            with working_on(task.tile.name):
                layers = begin_layers(self.spec, self.segmenter, prepared.layers, is_last=is_last)
        except FAILURE_ERRORS as error:
            self.store.clear_attempts(task.tile_hash)
            yield self._failed(tile, error)
            return
        begun = _InNetwork(task=task, layers=layers, watch=watch)
        if layers.is_over and layers.begun_s is None:
            # Nothing to see there: the next tile is read while the network is with the one before.
            yield from self._end_tile(begun)
            return
        before, self._in_network = self._in_network, begun
        # Neither the tile's pixels nor the future that holds them may outlive the network's work.
        del prepared, future
        if before is not None:
            yield from self._end_tile(before)

    def _end_network(self) -> Iterator[Detection]:
        """End the tile that is with the network, if there is one."""
        last, self._in_network = self._in_network, None
        if last is not None:
            yield from self._end_tile(last)

    def _end_tile(self, ended: _InNetwork) -> Iterator[Detection]:
        """Wait until the network is through with a tile, and have it traced."""
        task, layers, watch = ended.task, ended.layers, ended.watch
        try:
            with working_on(task.tile.name):
                done = layers.result()
        except FAILURE_ERRORS as error:
            self.store.clear_attempts(task.tile_hash)
            yield self._failed(task.tile, error)
            return
        if layers.begun_s is not None and layers.ended_s is not None:
            # A small tile can be through before the last window of the one before it.
            begun_s = max(layers.begun_s, self._network_ended_s)
            watch.segment_s = max(layers.ended_s - begun_s, 0.0)
            self._network_ended_s = max(self._network_ended_s, layers.ended_s)
        # At most one tile waits behind those being traced: memory stays flat.
        begin, num_ended = time.perf_counter(), len(self._tracing) - self._threads.num_tracing
        traced = [self._tracing.pop(0).result() for _ in range(num_ended)]
        watch.wait_trace_s = self._idle_s(begin)
        self._tracing.append(self._tracer.submit(self._trace, task, done, watch))
        yield from traced

    def _idle_s(self, since: float) -> float:
        """Seconds since a time that the network had nothing to do."""
        now, busy = time.perf_counter(), self._in_network
        if busy is None:
            return now - since
        if not busy.layers.is_over:
            return 0.0
        return max(now - max(since, busy.layers.ended_s or since), 0.0)

    def _trace(self, task: TileTask, done: Any, watch: Stopwatch) -> Detection:
        try:
            begin = time.perf_counter()
            with working_on(task.tile.name):
                result = trace_tile(self.spec, done)
            if "probability" in self.spec.config.outputs and result.status != "nodata":
                write_probability(self.spec, done)
            self.store.save_tile(task.tile_hash, result)
            watch.trace_s = time.perf_counter() - begin
        except FAILURE_ERRORS as error:
            self.store.clear_attempts(task.tile_hash)
            return self._failed(task.tile, error)
        self.store.clear_attempts(task.tile_hash)
        # Holes add up from tile to tile otherwise.
        give_back_freed()
        return self._finished(task, result, watch)

    def _finished(self, task: TileTask, result: TileResult, watch: Stopwatch | None) -> Detection:
        self._journal.write(
            "tile",
            tile=task.tile.name,
            status=result.status,
            stored=watch is None,
            instances=result.num_instances,
            windows=result.num_windows if watch else 0,
            left_out=result.num_left_out if watch else 0,
            pixels=result.num_pixels_valid,
            **({k: round(v, 4) for k, v in dataclasses.asdict(watch).items()} if watch else {}),
        )
        key = (task.tile.zone, task.tile.row, task.tile.col)
        reason = _oversize_note(len(result.oversize), self.spec.config.grid.max_building_m)
        record = TileRecord(
            key=key,
            status=result.status,  # type: ignore[arg-type]
            reason=reason,
            num_instances=result.num_instances,
            num_left_out=result.num_left_out,
        )
        ref = TileRef(
            key=key,
            tile_hash=task.tile_hash,
            num_pieces=len(result.pieces),
            num_whole=len(result.whole),
            images=task.images,
        )
        return Detection(record=record, ref=ref, watch=watch)

    def _failed(self, tile: Tile, error: BaseException) -> Detection:
        reason = redact(str(error)) or type(error).__name__
        if not isinstance(error, EveryroofError):
            reason = f"{type(error).__name__}: {reason}"
        with working_on(tile.name):
            logger.warning("tile %s failed: %s", tile.name, reason)
        use = take_network_use()
        self._journal.write(
            "tile",
            tile=tile.name,
            status="failed",
            reason=reason[:500],
            requests=use.num_requests,
            network_bytes=use.num_bytes,
        )
        key = (tile.zone, tile.row, tile.col)
        return Detection(record=TileRecord(key=key, status="failed", reason=reason[:500]))

    def _detect_alone(self, tile: Tile) -> Detection:
        """Try a tile in processes of its own: one at least, whatever others' deaths left here."""
        tries = max(self.spec.config.limits.max_attempts - ATTEMPTS_IN_COMPANY, 1)
        for _ in range(tries):
            outcome = detect_isolated(self.spec, tile)
            if outcome.reason:
                return self._failed(tile, EveryroofError(outcome.reason))
            if outcome.is_stored:
                # Its images are opened by now, and what was found is in the store.
                task = self._task(tile, is_isolated=True)
                assert task is not None
                self._forget_deaths(task.tile_hash)
                return self._finished(task, self.store.load_tile(task.tile_hash), None)
        times = "once" if tries == 1 else f"{tries} times"
        return self._failed(
            tile,
            EveryroofError(
                f"the worker died {ATTEMPTS_IN_COMPANY} times at this tile, and {times} in a "
                "process of its own; look at the image there (everyroof explain OUT TILE)"
            ),
        )

    def _forget_deaths(self, tile_hash: str) -> None:
        # Looked up again: other processes have left marks since.
        if self.store.num_attempts(tile_hash):
            self.store.clear_attempts(tile_hash)


def _oversize_note(num: int, max_building_m: float) -> str:
    if not num:
        return ""
    return f"{num} component(s) larger than {max_building_m:g} m left out (grid.max_building_m)"


def side_threads(spec: JobSpec, segmenter: Segmenter) -> SideThreads:
    """This worker's threads beside its network."""
    # Where the job does not know its workers' share of their machine, theirs may be told.
    known = int(os.environ.get("EVERYROOF_THREADS", 0))
    return pick_side_threads(
        spec.config.engine,
        num_cores=known or cores_of_worker(segmenter.device),
        is_on_cpu=segmenter.device.type == "cpu",
    )


def load_segmenter(spec: JobSpec) -> Segmenter:
    """The job's segmenter for this process, with its share of the machine's cores."""
    config = spec.config.segment
    threads = os.environ.get("EVERYROOF_THREADS")
    if config.num_threads is None and threads:
        config = dataclasses.replace(config, num_threads=stable_num_threads(int(threads)))
    shared = TileStore(spec.store_path).bundle_path(spec.bundle_sha256)
    bundle = local_bundle(
        spec.config.model,
        spec.bundle_sha256,
        shared if isinstance(shared, ObjectPath) else None,
    )
    return Segmenter.load(bundle, config)


class _Model:
    """Wrapper: `Shared` keeps weak references, which slotted objects refuse."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter


class _DetectDoFn(beam.DoFn):
    """Wires `TileDetector` into Beam: one segmenter per process, tiles pipelined in a bundle."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._shared = Shared()

    def setup(self) -> None:
        end_with_supervisor()
        configure_worker_logging()
        switch_quickly()

        def load() -> _Model:
            begin = time.perf_counter()
            loaded = _Model(load_segmenter(self._spec))
            journal = TileStore(self._spec.store_path).journal(self._spec.run_token)
            journal.write(
                "model",
                seconds=round(time.perf_counter() - begin, 3),
                fingerprint=loaded.segmenter.fingerprint,
            )
            return loaded

        self._model = self._shared.acquire(load, tag=self._spec.bundle_sha256)
        self._detector = TileDetector(self._spec, self._model.segmenter)

    def process(self, run: TileRun, profiled: Iterable[None]) -> Iterable[Any]:
        zone, row, first, length = run
        for col in range(first, first + length):
            tile = Tile(zone, self._spec.gsd_mm, self._spec.tile_px, row, col)
            for detection in self._detector.start(tile):
                yield from self._emit(detection)

    def finish_bundle(self) -> Iterable[Any]:
        ended = list(self._detector.finish())
        self._detector.flush()
        for detection in ended:
            for value in self._emit(detection):
                if isinstance(value, beam.pvalue.TaggedOutput):
                    inner = WindowedValue(value.value, MIN_TIMESTAMP, [GlobalWindow()])
                    yield beam.pvalue.TaggedOutput(value.tag, inner)
                else:
                    yield WindowedValue(value, MIN_TIMESTAMP, [GlobalWindow()])

    def teardown(self) -> None:
        if hasattr(self, "_detector"):
            self._detector.close()

    def _emit(self, detection: Detection) -> Iterator[Any]:
        record, ref = detection.record, detection.ref
        count(STAGE, f"tiles-{record.status}")
        count(STAGE, "instances", record.num_instances)
        if detection.watch is None:
            count(STAGE, "tiles-stored")
        else:
            for name, amount in dataclasses.asdict(detection.watch).items():
                if name.endswith("_s"):
                    record_ms(STAGE, name.removesuffix("_s"), amount)
                elif name != "begun_at":
                    count(STAGE, name.replace("_", "-"), amount)
        yield beam.pvalue.TaggedOutput("records", record)
        if ref is not None and ref.num_pieces + ref.num_whole:
            yield ref
