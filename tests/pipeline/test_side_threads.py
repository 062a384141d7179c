import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.side_threads import stand_back, switch_quickly


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
