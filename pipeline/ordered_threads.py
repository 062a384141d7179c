"""Work on many things in a few threads, whose results come in the order of the things."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_threads() -> int:
    """Threads that this worker may use: its share of the machine's cores, where the job knows it.

    On other engines only they know what else runs on the machine; there it is 1.
    """
    return max(int(os.environ.get("EVERYROOF_THREADS", "1")), 1)


class OrderedThreads:
    """A few threads, for what spends its time in compiled code.

    Args:
        number: of threads; with one everything is done by whoever asks.
        name: of the threads.
    """

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._pool = ThreadPoolExecutor(number, name) if number > 1 else None

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items; no more are held than there are threads.

        Raises:
            Exception: what the work raised, at that result's turn; no item is begun after it.
        """
        if self._pool is None:
            yield from map(work, items)
            return
        running: deque[Future[Result]] = deque()
        try:
            for item in items:
                if len(running) == self._number:
                    yield running.popleft().result()
                running.append(self._pool.submit(work, item))
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        """End the threads when they are done."""
        if self._pool is not None:
            self._pool.shutdown()
