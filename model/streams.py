"""Several windows on their way through a network at once, each on its share of the CPU's threads.

Threads that share one forward pass wait for the slowest at the end of every layer, some hundred
times a window; one that loses its core for a moment, to a thread that reads or traces or to another
program, holds all of them up. And what lies between two passes runs in one thread while the others
are idle. Windows need nothing of each other, so several of them at once, each on fewer threads,
wait for nothing: two cores, which other programs use now and then, do three windows in the time of
two.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        self.number = number
        self._pool = ThreadPoolExecutor(
            number,
            "stream",
            # torch counts threads for each thread that calls it; the last one that was set is what
            # threads start with that never set any.
            initializer=torch.set_num_threads,
            initargs=(num_threads // number,),
        )

    def map(self, work: Callable[[int, Item], Result], items: Sequence[Item]) -> list[Result]:
        """Work on all items, begun in their order.

        Args:
            work: called with the stream, from 0 on, and an item.
            items: what to work on.

        Returns:
            The results, in the order of the items.

        Raises:
            Exception: the first that `work` raised; items not begun by then are left out.
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

        running = [
            self._pool.submit(drain, stream) for stream in range(min(self.number, len(items)))
        ]
        errors = [future.exception() for future in running]
        for error in errors:
            if error is not None:
                raise error
        return [results[index] for index in range(len(items))]
