import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.engine_config import EngineConfig
from pipeline.side_threads import pick_side_threads, stand_back, switch_quickly


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have no priorities here")
def test_only_the_thread_that_asks_stands_back() -> None:
    before = _niceness()
    with ThreadPoolExecutor(1, initializer=stand_back) as side, ThreadPoolExecutor(1) as other:
        assert side.submit(_niceness).result() == max(before, 10)
        assert other.submit(_niceness).result() == before
    assert _niceness() == before


def test_switching_only_gets_quicker() -> None:
    interval = sys.getswitchinterval()
    try:
        switch_quickly()
        assert sys.getswitchinterval() == pytest.approx(min(interval, 0.0005), rel=0.05)
        sys.setswitchinterval(1e-4)
        switch_quickly()
        assert sys.getswitchinterval() == pytest.approx(1e-4, rel=0.05)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("num_cores", "is_on_cpu", "expected"),
    [
        (1, True, (1, 1)),
        (2, True, (1, 1)),
        (16, True, (2, 1)),
        (256, True, (8, 4)),
        (1, False, (1, 1)),
        (16, False, (8, 4)),
        (6, False, (3, 1)),
    ],
)
def test_a_gpu_gets_more_threads_that_read_and_trace(
    num_cores: int, is_on_cpu: bool, expected: tuple[int, int]
) -> None:
    threads = pick_side_threads(EngineConfig(), num_cores=num_cores, is_on_cpu=is_on_cpu)
    assert (threads.num_reading, threads.num_tracing) == expected
    told = pick_side_threads(
        EngineConfig(read_threads=12), num_cores=num_cores, is_on_cpu=is_on_cpu
    )
    assert (told.num_reading, told.num_tracing) == (12, expected[1])


@pytest.mark.parametrize("name", ["read_threads", "trace_threads"])
@pytest.mark.parametrize("number", [0, -1, 65])
def test_threads_out_of_range_are_refused(name: str, number: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} = {number}; expected 1 to 64"):
        EngineConfig(**{name: number})


def test_threads_are_no_hint_for_an_engine() -> None:
    assert EngineConfig(read_threads=2, min_ram="8GB").hints == {"min_ram": "8GB"}
