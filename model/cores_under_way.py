"""The cores of a tile on their way through the network, beside whatever asked for them."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from model.cores import CoreProbability


class UnderWay(Protocol):
    """Work that goes on in other threads."""

    @property
    def begun_s(self) -> float | None:
        """When it was begun (`time.perf_counter`); None before."""

    @property
    def ended_s(self) -> float | None:
        """When the last part so far ended; None before."""

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs, nor will."""

    def stop(self) -> None:
        """Begin nothing more of it, and wait for what has begun."""

    def results(self) -> Any:
        """Wait for its results; to be called once."""


class NothingToDo:
    """Where no core has a valid pixel."""

    begun_s = ended_s = None
    is_over = True

    def stop(self) -> None:
        """Nothing."""

    def results(self) -> list[Any]:
        """None."""
        return []


class CoresUnderWay:
    """What `Segmenter.begin_cores` has begun.

    Args:
        work: what makes the cores.
        finish: makes of the work's results the cores with a valid pixel, in scan order.
        num_cores: how many were asked for, without those that have no valid pixel.

    Attributes:
        num_windows: windows that went through the network; 0 before the end.
        num_left_out: cores that a first look found empty; 0 before the end.
    """

    def __init__(
        self,
        work: UnderWay,
        finish: Callable[[Any], list[CoreProbability]],
        num_cores: int,
    ) -> None:
        self._work, self._finish, self._num_cores = work, finish, num_cores
        self.num_windows = self.num_left_out = 0

    @property
    def begun_s(self) -> float | None:
        """When the network began with the tile (`time.perf_counter`); None before."""
        return self._work.begun_s

    @property
    def ended_s(self) -> float | None:
        """When the network last ended with a window of it; None before."""
        return self._work.ended_s

    @property
    def is_over(self) -> bool:
        """Whether the network has ended with the tile."""
        return self._work.is_over

    def stop(self) -> None:
        """Have no more windows begun, and wait for those that have been; there are no results."""
        self._work.stop()

    def result(self) -> list[CoreProbability]:
        """Wait for the cores; to be called once.

        Returns:
            As `Segmenter.segment_cores` does.

        Raises:
            SegmentError: if memory does not even hold one window.
        """
        cores = self._finish(self._work.results())
        self.num_windows, self.num_left_out = len(cores), self._num_cores - len(cores)
        return cores


class NetworkThread:
    """One thread that runs one thing after the other, where there are no streams."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, run: Callable[[], Any]) -> "ThreadedWork":
        """Run something when all before it has ended."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "network")
        return ThreadedWork(self._pool, run)


class ThreadedWork:
    """Something that runs in a thread."""

    def __init__(self, pool: ThreadPoolExecutor, run: Callable[[], Any]) -> None:
        self.begun_s: float | None = None
        self.ended_s: float | None = None
        self._future: Future[Any] = pool.submit(self._timed, run)

    @property
    def is_over(self) -> bool:
        """Whether it does not run, nor will."""
        return self._future.done()

    def stop(self) -> None:
        """Do not begin it; wait for it if it has begun."""
        if not self._future.cancel():
            wait([self._future])

    def results(self) -> Any:
        """Wait for what it returns; to be called once."""
        try:
            return self._future.result()
        finally:
            # An error holds this frame, which holds the future, which holds the error: a circle
            # that keeps a tile in memory.
            self._future = Future()
            self._future.cancel()

    def _timed(self, run: Callable[[], Any]) -> Any:
        self.begun_s = time.perf_counter()
        try:
            return run()
        finally:
            self.ended_s = time.perf_counter()
