"""The last values by key, for threads that ask for the same ones."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class KeptOnce(Generic[Key, Value]):
    """Makes each value in the thread that first asks for it; others wait for that one.

    A value that could not be made is made again for who asks next.

    Args:
        number: of values kept; those asked for least lately go.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Future[Value]] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key.

        Raises:
            BaseException: what making it raised, here or in the thread waited for.
        """
        with self._lock:
            kept = self._kept.get(key)
            made = kept if kept is not None else self._kept.setdefault(key, Future())
            self._kept.move_to_end(key)
            while len(self._kept) > self._number:
                self._kept.popitem(last=False)
        if kept is None:
            self._make(key, made, make)
        return made.result()

    def _make(self, key: Key, made: Future[Value], make: Callable[[], Value]) -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001 - whatever it is, others wait for it
            with self._lock:
                if self._kept.get(key) is made:
                    del self._kept[key]
            made.set_exception(error)
