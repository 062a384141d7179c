import contextlib
import gc
import threading
import time
import weakref
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from random_bundles import save_random_unet
from torch import nn

from model.errors import SegmentError
from model.masking import LayerMasking
from model.segment import Segmenter
from model.streams import Streams, default_num_streams
from model.unet import NetworkConfig

WINDOW_PX, MARGIN_PX = 128, 32


@pytest.fixture(scope="module")
def unet_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_unet(
        tmp_path_factory.mktemp("bundles") / "unet.safetensors",
        NetworkConfig(encoder="tu-tf_efficientnet_lite0", decoder_channels=(32, 16, 16, 8, 8)),
        seed=3,
        sample_px=256,
        mean=(0.4, 0.45, 0.5),
        std=(0.2, 0.25, 0.3),
        window_px=WINDOW_PX,
        margin_px=MARGIN_PX,
    )


def _tile(num_rows: int, num_cols: int) -> tuple[np.ndarray, np.ndarray]:
    """A drawn town with its margin; ground is missing in some windows."""
    height, width = (n * WINDOW_PX + 2 * MARGIN_PX for n in (num_rows, num_cols))
    valid = np.ones((height, width), bool)
    valid[-60:, -150:] = False
    valid[:40, 200:210] = False
    return synthetic.draw_town(height, width).pixels, valid


# --- streams -------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_items() -> None:
    streams = Streams(2, 2)
    met = threading.Barrier(2, timeout=30)

    def work(stream: int, item: int) -> tuple[int, int]:
        # Two at once, or this breaks.
        met.wait()
        return stream, item * item

    results = streams.map(work, range(6))
    assert [square for _, square in results] == [0, 1, 4, 9, 16, 25]
    assert {stream for stream, _ in results} == {0, 1}
    assert streams.map(work, []) == []


def test_each_stream_has_its_share_of_the_threads() -> None:
    torch.set_num_threads(4)
    streams, met = Streams(2, 4), threading.Barrier(2, timeout=30)

    def work(_: int, __: int) -> int:
        met.wait()
        return torch.get_num_threads()

    assert streams.map(work, range(4)) == [2, 2, 2, 2]
    assert torch.get_num_threads() == 4


def test_an_error_ends_all_streams_and_is_raised() -> None:
    begun = []

    def work(_: int, item: int) -> int:
        begun.append(item)
        if item == 3:
            raise KeyError("item 3")
        return item

    with pytest.raises(KeyError, match="item 3"):
        Streams(1, 1).map(work, range(10))
    assert begun == [0, 1, 2, 3]
    streams = Streams(2, 2)
    with pytest.raises(KeyError, match="item 3"):
        streams.map(work, range(100))
    # They go on working afterwards.
    assert streams.map(lambda _, item: -item, range(5)) == [0, -1, -2, -3, -4]


def test_what_failed_is_not_kept_in_memory() -> None:
    """Or trying again with less memory would start with the memory of the first try."""

    class Pass:
        """Stands for the tensors of a forward pass."""

    passes: list[weakref.ref[Pass]] = []

    def work(_: int, item: int) -> int:
        tensors = Pass()
        passes.append(weakref.ref(tensors))
        if item == 1:
            raise MemoryError("no more")
        return item

    streams = Streams(2, 2)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(MemoryError):
            streams.map(work, range(4))
        # The pool's threads may hold their last call until the next one.
        streams.map(lambda _, item: item, range(4))
        assert [each() for each in passes] == [None] * len(passes)
    finally:
        gc.enable()


def test_streams_end_when_the_caller_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    has_begun, may_end = threading.Event(), threading.Event()

    def work(_: int, item: int) -> int:
        begun.append(item)
        has_begun.set()
        may_end.wait(30)
        return item

    def interrupted(_: Future[None], __: float | None = None) -> None:
        has_begun.wait(30)
        may_end.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Streams(1, 1).map(work, range(10_000))
    num_begun = len(begun)
    time.sleep(0.1)
    assert len(begun) == num_begun < 10_000


def test_new_threads_start_with_the_number_of_the_process(unet_bundle: Path) -> None:
    segmenter = Segmenter.load(unet_bundle, precision="bf16", device="cpu", num_threads=4)
    segmenter.segment(*_tile(2, 2))
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [4]


def test_as_many_streams_as_threads_up_to_four() -> None:
    counts = [default_num_streams(number) for number in (1, 2, 4, 8, 64)]
    assert counts == [1, 2, 4, 4, 4]


# --- in a segmenter ------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_rows", "num_cols"), [(1, 1), (3, 3), (2, 4)])
def test_bits_do_not_depend_on_streams(unet_bundle: Path, num_rows: int, num_cols: int) -> None:
    pixels, valid = _tile(num_rows, num_cols)
    options = {"precision": "bf16", "device": "cpu", "num_threads": 4}
    expected = Segmenter.load(unet_bundle, **options, num_streams=1).segment(pixels, valid)
    assert np.ptp(expected) > 100
    for num_streams in (2, 4):
        segmenter = Segmenter.load(unet_bundle, **options, num_streams=num_streams)
        np.testing.assert_array_equal(segmenter.segment(pixels, valid), expected)
        assert segmenter.stats.num_windows == num_rows * num_cols
    turned = Segmenter.load(unet_bundle, **options, tta="d4")
    alone = Segmenter.load(unet_bundle, **options, tta="d4", num_streams=1)
    np.testing.assert_array_equal(turned.segment(pixels, valid), alone.segment(pixels, valid))


def test_several_callers_take_turns(unet_bundle: Path) -> None:
    pixels, valid = _tile(2, 2)
    segmenter = Segmenter.load(unet_bundle, precision="bf16", device="cpu", num_threads=2)
    expected = segmenter.segment(pixels, valid)
    found: list[np.ndarray] = []
    callers = [
        threading.Thread(target=lambda: found.append(segmenter.segment(pixels, valid)))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 3
    for each in found:
        np.testing.assert_array_equal(each, expected)


def test_streams_are_taken_where_they_change_no_bits(unet_bundle: Path) -> None:
    def num_streams(**options: object) -> int:
        return Segmenter.load(unet_bundle, device="cpu", **options).stats.num_streams

    assert num_streams(precision="bf16", num_threads=4) == 4
    assert num_streams(precision="bf16", num_threads=4, num_streams=2) == 2
    assert num_streams(precision="bf16", num_threads=3) == 1
    # Windows of 192 px in float32 depend on the threads of a pass.
    assert num_streams(precision="fp32", num_threads=4) == 1
    assert num_streams(precision="bf16", num_threads=4, compile=True) == 1


def test_streams_do_not_enter_the_fingerprint(unet_bundle: Path) -> None:
    prints = [
        Segmenter.load(
            unet_bundle, device="cpu", precision="bf16", num_threads=2, num_streams=number
        ).fingerprint
        for number in (1, 2)
    ]
    assert prints[0] == prints[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16", "num_threads": 4, "num_streams": 3}, "does not divide num_threads"),
        ({"precision": "bf16", "num_threads": 2, "num_streams": 4}, "4 does not divide .* = 2"),
        ({"precision": "fp32", "num_threads": 2, "num_streams": 2}, "192 px and 2 threads the bit"),
        ({"precision": "bf16", "num_threads": 6, "num_streams": 2}, "power of two of threads"),
        (
            {"precision": "bf16", "num_threads": 2, "num_streams": 2, "compile": True},
            "for a bundle on a CPU without compile",
        ),
    ],
)
def test_streams_that_do_not_fit(
    unet_bundle: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(SegmentError, match=message):
        Segmenter.load(unet_bundle, device="cpu", **options)


def test_out_of_memory_leaves_one_stream_before_it_halves_the_batch(
    unet_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pixels, valid = _tile(2, 3)
    segmenter = Segmenter.load(
        unet_bundle, device="cpu", precision="bf16", num_threads=2, batch_size=2
    )
    expected = segmenter.segment(pixels, valid)
    forward = segmenter._network.__call__

    def limited(*args: object) -> torch.Tensor:
        if threading.current_thread().name.startswith("stream"):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(*args)

    monkeypatch.setattr(segmenter, "_network", limited)
    np.testing.assert_array_equal(segmenter.segment(pixels, valid), expected)
    stats = segmenter.stats
    assert (stats.num_streams, stats.batch_size, stats.num_halvings) == (1, 2, 0)
    assert "one batch at a time" in caplog.text
    # Those that were finished before memory ran out are counted once.
    assert stats.num_windows == 12


# --- masks ---------------------------------------------------------------------------------------


def test_threads_have_masks_of_their_own() -> None:
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(network.weight)
    masking, met = LayerMasking(network), threading.Barrier(2, timeout=30)
    found: dict[str, torch.Tensor] = {}

    def run(name: str, mask: torch.Tensor | None) -> None:
        with torch.inference_mode(), masking.using(mask):
            met.wait()
            found[name] = network(torch.ones(1, 1, 4, 4))
            met.wait()

    half = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    half[..., 2:] = False
    threads = [
        threading.Thread(target=run, args=args) for args in (("masked", half), ("whole", None))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["whole"].eq(1).all()
    assert found["masked"].eq(half).all()
