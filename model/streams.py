"""Several windows on their way through a network at once, each on its share of the CPU's threads.

Threads that share one forward pass wait for the slowest at the end of every layer, some hundred
times a window; one that loses its core for a moment, to a thread that reads or traces or to another
program, holds all of them up. And what lies between two passes runs in one thread while the others
are idle. Windows need nothing of each other, so several of them at once, each on fewer threads,
wait for nothing: two cores take about a fifth less time for them, and gain more where other
programs want a core as well.

The windows of the next tile may wait behind those of this one, so that a stream that has nothing
left to do here does not wait for the others either.
"""

import itertools
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_DEFAULT_STREAMS = 4
"""Streams where none are configured, at most: each needs the memory of a forward pass."""


def default_num_streams(num_threads: int) -> int:
    """Streams for a number of threads, a power of two: each has as many threads as the others."""
    return min(num_threads, MAX_DEFAULT_STREAMS)


class StreamedItems(Generic[Item, Result]):
    """Items that streams work on, begun in their order; made by `Streams.begin`.

    Attributes:
        begun_s: when the first of them was begun (`time.perf_counter`); None before.
        ended_s: when the last one so far ended; None before.
    """

    def __init__(self, work: Callable[[int, Item], Result], items: Sequence[Item]) -> None:
        self._work, self._num_items = work, len(items)
        self._numbered: Iterator[tuple[int, Item]] = enumerate(items)
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._results: dict[int, Result] = {}
        self._running: list[Future[None]] = []
        self.begun_s: float | None = None
        self.ended_s: float | None = None

    def share_out(self, pool: ThreadPoolExecutor, number: int) -> None:
        """Have some threads of a pool work on the items, each on one after the other."""
        for _ in range(min(number, self._num_items)):
            self._running.append(pool.submit(self._drain))

    @property
    def is_over(self) -> bool:
        """Whether no stream works on any item, nor will."""
        return all(each.done() for each in self._running)

    def settle(self) -> None:
        """Wait until it is over, however it ended."""
        # Of one that is cancelled the pool learns late; it never runs.
        wait([each for each in self._running if not each.cancelled()])

    def stop(self) -> None:
        """Begin no more items, and wait for those that have begun."""
        self._is_over.set()
        for each in self._running:
            # Those that wait behind other items.
            each.cancel()
        self.settle()

    def results(self) -> list[Result]:
        """Wait for the results, in the order of the items; to be called once.

        Raises:
            Exception: the first that the work raised, when all streams have ended; items not begun
                by then are left out.
        """
        try:
            for index in range(len(self._running)):
                self._running[index].result()
        finally:
            # Whatever ends this, an interrupt among others, no stream goes on by itself.
            self.stop()
            # Nor is any in a variable: a frame that holds what it raised keeps all of a failed
            # pass in memory. Items hold on to a whole tile.
            self._running.clear()
            self._numbered = enumerate(())
        return [self._results.pop(index) for index in range(self._num_items)]

    def _drain(self) -> None:
        stream = _this.stream
        while not self._is_over.is_set():
            with self._lock:
                first = list(itertools.islice(self._numbered, 1))
                if first and self.begun_s is None:
                    self.begun_s = time.perf_counter()
            if not first:
                return
            index, item = first[0]
            try:
                self._results[index] = self._work(stream, item)
            except BaseException as error:
                self._is_over.set()
                # Its future keeps the error until somebody asks for the results; that must not
                # keep a failed pass in memory, where another one is tried because of it.
                traceback.clear_frames(error.__traceback__)
                raise
            finally:
                self.ended_s = time.perf_counter()


class Streams:
    """Threads that work on items side by side; torch has a share of its threads in each.

    Args:
        number: of streams.
        num_threads: of all streams together, a multiple of their number.
    """

    def __init__(self, number: int, num_threads: int) -> None:
        self._number, self._num_threads = number, num_threads
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._begun: list[StreamedItems[Any, Any]] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return all(each.is_over for each in self._begun)

    def begin(
        self, work: Callable[[int, Item], Result], items: Sequence[Item]
    ) -> StreamedItems[Item, Result]:
        """Begin to work on items, as soon as what was begun before leaves a stream free.

        Args:
            work: called with the stream, from 0 on, and an item; streams do not share a number.
            items: what to work on.
        """
        streamed = StreamedItems(work, items)
        with self._lock:
            if self._pool is None:
                self._pool = self._start()
            streamed.share_out(self._pool, self._number)
            self._begun = [*(each for each in self._begun if not each.is_over), streamed]
        return streamed

    def map(self, work: Callable[[int, Item], Result], items: Sequence[Item]) -> list[Result]:
        """Work on all items, begun in their order.

        Args:
            work: as `begin` takes it.
            items: likewise.

        Returns:
            The results, in the order of the items.

        Raises:
            Exception: the first that `work` raised, when all streams have ended; items not begun by
                then are left out.
        """
        return self.begin(work, items).results()

    def settle(self) -> None:
        """Wait until nothing is under way, however it ended."""
        for streamed in self._begun:
            streamed.settle()

    def _start(self) -> ThreadPoolExecutor:
        """The streams' threads, all of them running."""
        numbers = itertools.count()
        shares = (numbers, self._num_threads // self._number)
        pool = ThreadPoolExecutor(self._number, "stream", initializer=_be_stream, initargs=shares)
        # A pool starts a thread when none is free.
        started = threading.Barrier(self._number + 1)
        for _ in range(self._number):
            pool.submit(started.wait)
        started.wait()
        # What threads start with that never set a number is the last one that any thread set.
        torch.set_num_threads(self._num_threads)
        return pool


class _ThisThread(threading.local):
    """What a thread knows of itself."""

    stream: int


_this = _ThisThread()


def _be_stream(numbers: "itertools.count[int]", num_threads: int) -> None:
    _this.stream = next(numbers)
    # torch asks how many threads it has when a thread first uses it; that must not come later.
    torch.get_num_threads()
    torch.set_num_threads(num_threads)
