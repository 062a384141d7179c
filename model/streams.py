"""Several windows on their way through a network at once, each on its share of the CPU's threads.

Threads that share one forward pass wait for the slowest at the end of every layer, some hundred
times a window; one that loses its core for a moment, to a thread that reads or traces or to another
program, holds all of them up. And what lies between two passes runs in one thread while the others
are idle. Windows need nothing of each other, so several of them at once, each on fewer threads,
wait for nothing: two cores take about a fifth less time for them, and gain more where other
programs want a core as well.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_DEFAULT_STREAMS = 4
"""Streams where none are configured, at most: each needs the memory of a forward pass."""


def default_num_streams(num_threads: int) -> int:
    """Streams for a number of threads, a power of two: each has as many threads as the others."""
    return min(num_threads, MAX_DEFAULT_STREAMS)


class Streams:
    """Threads that work on items side by side; torch has a share of its threads in each.

    Args:
        number: of streams.
        num_threads: of all streams together, a multiple of their number.
    """

    def __init__(self, number: int, num_threads: int) -> None:
        self._number = number
        self._pool = ThreadPoolExecutor(
            number, "stream", initializer=_take_threads, initargs=(num_threads // number,)
        )

    def map(self, work: Callable[[int, Item], Result], items: Sequence[Item]) -> list[Result]:
        """Work on all items, begun in their order.

        Args:
            work: called with the stream, from 0 on, and an item.
            items: what to work on.

        Returns:
            The results, in the order of the items.

        Raises:
            Exception: the first that `work` raised, when all streams have ended; items not begun by
                then are left out.
        """
        results: dict[int, Result] = {}
        numbered, lock, is_over = enumerate(items), threading.Lock(), threading.Event()

        def drain(stream: int) -> None:
            while not is_over.is_set():
                with lock:
                    first = list(itertools.islice(numbered, 1))
                if not first:
                    return
                index, item = first[0]
                try:
                    results[index] = work(stream, item)
                except BaseException:
                    is_over.set()
                    raise

        running: list[Future[None]] = []
        try:
            for stream in range(min(self._number, len(items))):
                running.append(self._pool.submit(drain, stream))
            for index in range(len(running)):
                running[index].result()
        finally:
            # Whatever ends this, an interrupt among others, no stream goes on by itself.
            is_over.set()
            wait(running)
            # Nor is any in a variable: a frame that holds what it raised keeps all of a failed
            # pass in memory.
            running.clear()
        return [results[index] for index in range(len(items))]


def _take_threads(number: int) -> None:
    # torch asks how many threads it has when a thread first uses it; that must not come later.
    torch.get_num_threads()
    torch.set_num_threads(number)
