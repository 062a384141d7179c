"""Work on many things in a few threads, whose results come in the order of the things."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

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
        self._running: deque[Future[Any]] = deque()

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items; no more are held than there are threads.

        Raises:
            Exception: what the work raised, at that result's turn; no item is begun after it.
        """
        try:
            for item in items:
                yield from self.begin(work, item)
            yield from self.finish()
        finally:
            self.drop()

    def begin(self, work: Callable[[Item], Result], item: Item) -> Iterator[Result]:
        """Begin with an item; gives the result of the oldest one where all threads are busy.

        Raises:
            Exception: what the work on that one raised.
        """
        if self._pool is None:
            yield work(item)
            return
        if len(self._running) == self._number:
            yield self._running.popleft().result()
        self._running.append(self._pool.submit(work, item))

    def finish(self) -> Iterator[Any]:
        """Results of all items under way, the oldest first.

        Raises:
            Exception: what the work on one of them raised, at its turn.
        """
        while self._running:
            yield self._running.popleft().result()

    def drop(self) -> None:
        """Forget the items under way; those that no thread has taken up yet are not begun."""
        while self._running:
            self._running.popleft().cancel()

    def close(self) -> None:
        """End the threads when they are done."""
        if self._pool is not None:
            self._pool.shutdown()
