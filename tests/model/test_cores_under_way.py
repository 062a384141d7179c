import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from random_bundles import save_random_unet

from model.cores import CoreProbability
from model.segment import Segmenter
from model.unet import NetworkConfig

WINDOW_PX, MARGIN_PX = 96, 16
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def unet_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_unet(
        tmp_path_factory.mktemp("bundles") / "unet.safetensors",
        NetworkConfig(encoder="resnet18", encoder_depth=3, decoder_channels=(16, 8, 8)),
        seed=5,
        spread=0.5,
        sample_px=256,
        mean=(0.4, 0.45, 0.5),
        std=(0.2, 0.25, 0.3),
        window_px=WINDOW_PX,
        margin_px=MARGIN_PX,
    )


def _tile(seed: int, num_rows: int = 2, num_cols: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A drawn town with its margin; ground is missing in a corner of some."""
    height, width = (n * WINDOW_PX + 2 * MARGIN_PX for n in (num_rows, num_cols))
    valid = np.ones((height, width), bool)
    if seed % 2:
        valid[-60:, -70:] = False
    return synthetic.draw_town(height, width, seed=seed).pixels, valid


def _load(bundle: Path, **options: Any) -> Segmenter:
    options = {"device": "cpu", "precision": "bf16", "num_threads": 2, **options}
    return Segmenter.load(bundle, **options)


def _middle_level(bundle: Path) -> float:
    """A level that about half of the windows reach at a first look."""
    segmenter = _load(bundle, first_look=0.5)
    levels = [level for seed in range(3) for level in segmenter.look(*_tile(seed)).values()]
    return float(np.median(levels)) / 255


def _assert_same(found: Sequence[CoreProbability], expected: Sequence[CoreProbability]) -> None:
    assert [each.core for each in found] == [each.core for each in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.values, theirs.values)


def _held_up(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, hold: Callable[[int], None]
) -> None:
    """Have something done at every window, told how many were begun before."""
    run, number, lock = segmenter._run_batch, iter(range(10_000)), threading.Lock()

    def held(*args: Any) -> Any:
        with lock:
            before = next(number)
        hold(before)
        return run(*args)

    monkeypatch.setattr(segmenter, "_run_batch", held)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_threads": 4, "num_streams": 4},
        {"num_streams": 1},
        {"precision": "fp32"},
        {"batch_size": 3},
        {"tta": "d4"},
        {"first_look": "middle"},
        {"first_look": "middle", "batch_size": 2},
        {"first_look": "middle", "num_streams": 1},
    ],
)
def test_tiles_begun_ahead_are_what_they_are_alone(
    unet_bundle: Path, options: dict[str, Any]
) -> None:
    if "first_look" in options:
        options = {**options, "first_look": _middle_level(unet_bundle)}
    tiles = [_tile(seed, num_rows=1 + seed % 2, num_cols=3) for seed in range(3)]
    alone = _load(unet_bundle, **options)
    expected = [alone.segment_cores(*tile) for tile in tiles]
    segmenter = _load(unet_bundle, **options)
    begun = [
        segmenter.begin_cores(*tile, is_last=index == len(tiles) - 1)
        for index, tile in enumerate(tiles)
    ]
    # In any order.
    for index in (1, 0, 2):
        _assert_same(begun[index].result(), expected[index])
    assert [each.num_windows for each in begun] == [len(cores) for cores in expected]
    num_cores = sum(3 * (1 + seed % 2) for seed in range(3))
    assert sum(each.num_windows + each.num_left_out for each in begun) == num_cores
    assert segmenter.stats == alone.stats
    if "first_look" in options:
        assert 0 < alone.stats.num_left_out < num_cores


def test_a_stream_goes_on_with_the_next_tile(
    unet_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = _load(unet_bundle)
    next_has_begun = threading.Event()

    def hold(num_before: int) -> None:
        if num_before == 3:
            next_has_begun.set()
        elif num_before == 2:
            # The last window of the first tile ends only after the next tile's first one began.
            assert next_has_begun.wait(TIMEOUT_S)

    _held_up(segmenter, monkeypatch, hold)
    first = segmenter.begin_cores(*_tile(0, 1, 3))
    then = segmenter.begin_cores(*_tile(2, 1, 3))
    assert len(first.result()) == len(then.result()) == 3
    assert first.is_over
    assert first.begun_s < then.begun_s < first.ended_s < then.ended_s


def test_a_tile_alone_is_run_so_that_its_streams_end_together(
    unet_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = _load(unet_bundle)
    streams: list[int] = []
    run = segmenter._run_batch

    def noted(stream: int, windows: Any) -> Any:
        streams.append(stream)
        return run(stream, windows)

    monkeypatch.setattr(segmenter, "_run_batch", noted)
    segmenter.begin_cores(*_tile(0, 1, 3), is_last=True).result()
    assert streams.count(-1) == 1
    streams.clear()
    segmenter.begin_cores(*_tile(0, 1, 3)).result()
    assert -1 not in streams


def test_ground_without_a_valid_pixel_is_over_at_once(unet_bundle: Path) -> None:
    for options in ({}, {"num_streams": 1}):
        segmenter = _load(unet_bundle, **options)
        pixels, valid = _tile(0)
        begun = segmenter.begin_cores(pixels, np.zeros_like(valid))
        assert begun.is_over
        assert begun.result() == []
        assert begun.begun_s is None
        assert begun.ended_s is None
        begun.stop()
        assert segmenter.stats.num_skipped == 4


class _Pass:
    """Stands for the tensors of a forward pass."""


def test_out_of_memory_with_two_tiles_under_way(
    unet_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tiles = [_tile(seed, 2, 3) for seed in range(3)]
    segmenter = _load(unet_bundle, batch_size=2)
    expected = [segmenter.segment_cores(*tile) for tile in tiles]
    forward, running, most = segmenter._network.__call__, [0], [0]
    passes: list[weakref.ref[_Pass]] = []

    def limited(*args: object) -> torch.Tensor:
        if threading.current_thread().name.startswith("stream"):
            tensors = _Pass()
            passes.append(weakref.ref(tensors))
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        # Nothing of what failed is left in memory, nor waits for the collector.
        assert [each() for each in passes] == [None] * len(passes)
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            return forward(*args)
        finally:
            running[0] -= 1

    monkeypatch.setattr(segmenter, "_network", limited)
    gc.collect()
    gc.disable()
    try:
        begun = [segmenter.begin_cores(*tile) for tile in tiles]
        for each, cores in zip(begun, expected, strict=True):
            _assert_same(each.result(), cores)
    finally:
        gc.enable()
    assert len(passes) >= 2
    stats = segmenter.stats
    # Both failed in streams; that is one reason to have none, and none to halve the batch.
    assert (stats.num_streams, stats.batch_size, stats.num_halvings) == (1, 2, 0)
    assert caplog.text.count("one batch at a time") == 1
    assert most[0] == 1
    _assert_same(segmenter.begin_cores(*tiles[0]).result(), expected[0])


@pytest.mark.parametrize("num_streams", [1, 2])
def test_a_tile_that_fails_harms_no_other(
    unet_bundle: Path, monkeypatch: pytest.MonkeyPatch, num_streams: int
) -> None:
    segmenter = _load(unet_bundle, num_streams=num_streams)
    expected = segmenter.segment_cores(*_tile(2))

    def hold(num_before: int) -> None:
        if num_before == 1:
            raise ValueError("a bad window")

    _held_up(segmenter, monkeypatch, hold)
    first, then = segmenter.begin_cores(*_tile(0)), segmenter.begin_cores(*_tile(2))
    with pytest.raises(ValueError, match="a bad window"):
        first.result()
    _assert_same(then.result(), expected)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_what_is_stopped_begins_no_more(
    unet_bundle: Path, monkeypatch: pytest.MonkeyPatch, num_streams: int
) -> None:
    segmenter = _load(unet_bundle, num_streams=num_streams)
    has_begun, may_end, begun = threading.Event(), threading.Event(), []

    def hold(num_before: int) -> None:
        begun.append(num_before)
        has_begun.set()
        assert may_end.wait(TIMEOUT_S)

    _held_up(segmenter, monkeypatch, hold)
    under_way = [segmenter.begin_cores(*_tile(0, 4, 4)) for _ in range(2)]
    assert has_begun.wait(TIMEOUT_S)
    threading.Timer(0.2, may_end.set).start()
    for each in reversed(under_way):
        each.stop()
    assert all(each.is_over for each in under_way)
    # One thread cannot be stopped between windows; the tile behind it never begins.
    assert len(begun) <= (16 if num_streams == 1 else num_streams)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_pixels_are_let_go_with_the_result(unet_bundle: Path, num_streams: int) -> None:
    """Or memory would hold a tile more than it needs."""
    segmenter = _load(unet_bundle, num_streams=num_streams)
    pixels, valid = _tile(0)
    mask = weakref.ref(valid)
    begun, then = segmenter.begin_cores(pixels, valid), segmenter.begin_cores(*_tile(2))
    gc.collect()
    gc.disable()
    try:
        cores = begun.result()
        del begun, pixels, valid
        then.result()
        deadline = time.monotonic() + TIMEOUT_S
        # The thread's last step is to forget what it worked on.
        while mask() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mask() is None
        assert len(cores) == 4
    finally:
        gc.enable()


@pytest.mark.parametrize("num_streams", [1, 2])
def test_pixels_of_a_tile_that_failed_are_let_go(
    unet_bundle: Path, monkeypatch: pytest.MonkeyPatch, num_streams: int
) -> None:
    segmenter = _load(unet_bundle, num_streams=num_streams)

    def hold(_: int) -> None:
        raise ValueError("a bad window")

    _held_up(segmenter, monkeypatch, hold)
    pixels, valid = _tile(0)
    mask = weakref.ref(valid)
    gc.collect()
    gc.disable()
    try:
        begun = segmenter.begin_cores(pixels, valid)
        with contextlib.suppress(ValueError):
            begun.result()
        assert begun.is_over
        del begun, pixels, valid
        # A thread may hold its last call until the next one.
        with contextlib.suppress(ValueError):
            segmenter.begin_cores(*_tile(2)).result()
        assert mask() is None
    finally:
        gc.enable()
