"""Tiles on their way through reading, the network and tracing, in one process."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import make_config, with_options
from synthetic import draw_town, write_town

from geo.errors import EveryroofError
from geo.grid import Tile
from pipeline import detect
from pipeline.detect import Detection, TileDetector, load_segmenter
from pipeline.engine_config import EngineConfig
from pipeline.isolated import IsolatedOutcome
from pipeline.output_folder import prepare_output
from pipeline.spec import JobSpec, resolve_config


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    """A job of a town on 4 x 3 tiles of 2 x 2 windows."""
    image = write_town(tmp_path / "town.tif", draw_town(1500, 1300, seed=3))
    config = make_config(tmp_path, [image], segment={"num_threads": 2, "precision": "bf16"})
    spec = resolve_config(config)
    prepare_output(spec, fresh=True)
    return spec


@pytest.fixture
def detector(spec: JobSpec) -> Any:
    """A detector of the town."""
    made = TileDetector(spec, load_segmenter(spec))
    yield made
    made.close()


@pytest.fixture
def wide_detector(spec: JobSpec, tmp_path: Path) -> Any:
    """One that reads three tiles at once and traces two, into a store of its own."""
    engine = EngineConfig(read_threads=3, trace_threads=2)
    config = with_options(spec.config, engine=engine, tile_store=str(tmp_path / "wide"))
    wide = resolve_config(config)
    prepare_output(wide, fresh=True)
    made = TileDetector(wide, load_segmenter(wide))
    yield made
    made.close()


def _tiles(detector: TileDetector) -> list[Tile]:
    cover = detector.cover
    return [tile for cell in cover.plan_cells() for tile in cover.tiles_in(cell)]


def _detect(detector: TileDetector, tiles: list[Tile]) -> dict[tuple[int, int, int], Detection]:
    ended = [each for tile in tiles for each in detector.start(tile)]
    ended += detector.finish()
    found = {each.record.key: each for each in ended}
    assert len(found) == len(ended) == len(tiles)
    return found


def _stored(detector: TileDetector) -> dict[str, bytes]:
    files = (detector.store.root / "tiles").glob("*/*.arrow")
    stored = {path.name: path.read_bytes() for path in files}
    assert stored
    return stored


def _log(detector: TileDetector, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(step, number of the tile) as they happen: read, begin, and result of the network."""
    log: list[tuple[str, int]] = []
    number = {tile.name: index for index, tile in enumerate(_tiles(detector))}
    read, begin = detect.read_layers, detect.begin_layers

    def logged_read(spec: Any, shelf: Any, task: Any) -> Any:
        log.append(("read", number[task.tile.name]))
        return read(spec, shelf, task)

    def logged_begin(spec: Any, segmenter: Any, layers: Any, **options: Any) -> Any:
        index = number[layers.task.tile.name]
        log.append(("begin", index))
        begun = begin(spec, segmenter, layers, **options)
        result = begun.result

        def logged_result() -> Any:
            done = result()
            log.append(("result", index))
            return done

        begun.result = logged_result
        return begun

    monkeypatch.setattr(detect, "read_layers", logged_read)
    monkeypatch.setattr(detect, "begin_layers", logged_begin)
    return log


def test_the_network_has_the_next_tile_before_it_ends_with_this_one(
    detector: TileDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _log(detector, monkeypatch)
    tiles = _tiles(detector)
    assert len(tiles) >= 9
    run, begin = detector.segmenter._run_batch, detector.segmenter.begin_cores
    of_tiles: list[np.ndarray] = []

    def noted_begin(pixels: np.ndarray, *args: Any, **options: Any) -> Any:
        of_tiles.append(pixels)
        return begin(pixels, *args, **options)

    def held(stream: int, windows: Any) -> Any:
        # Until the next tile is there, so that no tile is through before.
        (mine,) = (k for k, px in enumerate(of_tiles) if np.shares_memory(px, windows[0][0]))
        deadline = time.monotonic() + 60
        while len(of_tiles) < min(mine + 2, len(tiles)) and time.monotonic() < deadline:
            time.sleep(0.005)
        return run(stream, windows)

    monkeypatch.setattr(detector.segmenter, "begin_cores", noted_begin)
    monkeypatch.setattr(detector.segmenter, "_run_batch", held)
    found = _detect(detector, tiles)
    assert {each.record.status for each in found.values()} == {"ok", "empty"}
    for index in range(len(tiles) - 1):
        assert log.index(("begin", index + 1)) < log.index(("result", index))
    # Memory holds no pixels of a third tile.
    for index in range(len(tiles) - 2):
        assert log.index(("result", index)) < log.index(("read", index + 2))


def test_the_times_of_tiles_add_up_to_no_more_than_the_clock(detector: TileDetector) -> None:
    begin = time.perf_counter()
    found = _detect(detector, _tiles(detector))
    wall_s = time.perf_counter() - begin
    watches = [each.watch for each in found.values()]
    assert all(watch.segment_s >= 0 for watch in watches)
    spent_s = sum(watch.wait_read_s + watch.segment_s + watch.wait_trace_s for watch in watches)
    assert 0.3 * wall_s < spent_s <= wall_s


def test_a_tile_that_the_network_fails_at_harms_no_other(
    detector: TileDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = _tiles(detector)
    begin = detect.begin_layers

    def faulty_begin(spec: Any, segmenter: Any, layers: Any, **options: Any) -> Any:
        begun = begin(spec, segmenter, layers, **options)
        if layers.task.tile == tiles[1]:
            raise EveryroofError("no such window")
        if layers.task.tile == tiles[4]:
            begun.stop()

            def fail() -> Any:
                raise EveryroofError("the window went wrong")

            begun.result = fail
        return begun

    monkeypatch.setattr(detect, "begin_layers", faulty_begin)
    found = _detect(detector, tiles)
    for index, tile in enumerate(tiles):
        record = found[tile.zone, tile.row, tile.col].record
        reason = {1: "no such window", 4: "the window went wrong"}.get(index)
        assert (record.status == "failed") == (reason is not None)
        assert (reason or "") in record.reason
    # Neither is held for a tile that kills its worker.
    assert not list((detector.store.root / "attempts").iterdir())


def test_stored_tiles_and_new_ones_in_turns(detector: TileDetector) -> None:
    tiles = _tiles(detector)
    first = _detect(detector, tiles[::2])
    again = _detect(detector, tiles)
    for index, tile in enumerate(tiles):
        key = tile.zone, tile.row, tile.col
        assert (again[key].watch is None) == (index % 2 == 0)
        if index % 2 == 0:
            assert again[key].record == first[key].record
            assert again[key].ref == first[key].ref


def test_a_tile_that_is_through_before_the_one_before_it_took_no_less_than_nothing(
    detector: TileDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = _tiles(detector)
    segmenter = detector.segmenter
    run, number, lock = segmenter._run_batch, iter(range(10_000)), threading.Lock()
    ended, others_are_through = [], threading.Event()

    def held(*args: Any) -> Any:
        with lock:
            mine = next(number)
        if mine == 3:
            # The last window of the first tile ends behind all of the second one's.
            assert others_are_through.wait(60)
        done = run(*args)
        with lock:
            ended.append(mine)
            if {4, 5, 6, 7} <= set(ended):
                others_are_through.set()
        return done

    monkeypatch.setattr(segmenter, "_run_batch", held)
    begin = time.perf_counter()
    found = _detect(detector, [tile for tile in tiles if _num_windows(detector, tile) == 4])
    wall_s = time.perf_counter() - begin
    assert others_are_through.is_set()
    segment_s = [each.watch.segment_s for each in found.values()]
    assert min(segment_s) >= 0
    assert sum(segment_s) <= wall_s


def _num_windows(detector: TileDetector, tile: Tile) -> int:
    return int(detector.cover.core_mask(tile).sum())


def test_what_the_network_is_through_with_is_stored_while_stored_tiles_follow(
    detector: TileDetector,
) -> None:
    tiles = _tiles(detector)
    _detect(detector, tiles[2:6])
    ended = [*detector.start(tiles[0]), *detector.start(tiles[2])]
    deadline = time.monotonic() + 60
    while not detector._in_network.layers.is_over and time.monotonic() < deadline:
        time.sleep(0.01)
    ended += [each for tile in tiles[3:6] for each in detector.start(tile)]
    assert detector._in_network is None
    assert len([each for each in ended if each.watch is None]) == 3
    ended += detector.finish()
    assert len(ended) == 5


def test_a_tile_that_killed_workers_is_tried_with_nothing_beside_it(
    detector: TileDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = _tiles(detector)[:4]
    alone = []

    def isolated(spec: Any, tile: Tile) -> IsolatedOutcome:
        alone.append((tile, detector._in_network))
        return IsolatedOutcome(is_stored=False, reason="it died again")

    monkeypatch.setattr(detect, "detect_isolated", isolated)
    task = detector._task(tiles[2], is_isolated=False)
    for _ in range(detect.ATTEMPTS_IN_COMPANY):
        detector.store.mark_attempt(task.tile_hash)
    found = _detect(detector, tiles)
    assert alone == [(tiles[2], None)]
    statuses = [found[tile.zone, tile.row, tile.col].record.status for tile in tiles]
    assert statuses[2] == "failed"
    assert "failed" not in statuses[:2] + statuses[3:]


def test_tiles_read_and_traced_at_once_are_those_of_one_after_the_other(
    detector: TileDetector, wide_detector: TileDetector
) -> None:
    tiles = _tiles(detector)
    one, many = _detect(detector, tiles), _detect(wide_detector, tiles)
    assert list(one) == list(many) == [(tile.zone, tile.row, tile.col) for tile in tiles]
    assert any(each.ref is not None and each.ref.num_pieces for each in one.values())
    for key, each in one.items():
        assert many[key].record == each.record
        assert many[key].ref == each.ref
    assert _stored(detector) == _stored(wide_detector)


def test_three_tiles_are_read_at_once_and_no_fifth_before_the_first_is_through(
    wide_detector: TileDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _log(wide_detector, monkeypatch)
    tiles = _tiles(wide_detector)
    logged_read, together = detect.read_layers, threading.Barrier(3)

    def read_with_others(spec: Any, shelf: Any, task: Any) -> Any:
        if task.tile in tiles[:3]:
            # Broken, and the tile failed, unless three threads come here.
            together.wait(60)
        return logged_read(spec, shelf, task)

    monkeypatch.setattr(detect, "read_layers", read_with_others)
    found = _detect(wide_detector, tiles)
    assert {each.record.status for each in found.values()} == {"ok", "empty"}
    for index in range(len(tiles) - 4):
        assert log.index(("result", index)) < log.index(("read", index + 4))


def test_where_three_are_read_at_once_a_tile_tried_alone_waits_for_the_others(
    wide_detector: TileDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, tiles = wide_detector, _tiles(wide_detector)[:5]
    beside = []

    def isolated(spec: Any, tile: Tile) -> IsolatedOutcome:
        beside.append([future.done() for _, future, _ in detector._reading])
        return IsolatedOutcome(is_stored=False, reason="it died again")

    read = detect.read_layers

    def read_slowly(spec: Any, shelf: Any, task: Any) -> Any:
        time.sleep(0.2)
        return read(spec, shelf, task)

    monkeypatch.setattr(detect, "detect_isolated", isolated)
    monkeypatch.setattr(detect, "read_layers", read_slowly)
    task = detector._task(tiles[0], is_isolated=False)
    for _ in range(detect.ATTEMPTS_IN_COMPANY):
        detector.store.mark_attempt(task.tile_hash)
    found = _detect(detector, tiles)
    assert beside == [[True, True]]
    statuses = [found[tile.zone, tile.row, tile.col].record.status for tile in tiles]
    assert statuses[0] == "failed"
    assert "failed" not in statuses[1:]
