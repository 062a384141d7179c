"""Values made once, whoever asks at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.kept_once import KeptOnce


def test_threads_that_ask_at_once_get_what_one_of_them_makes():
    kept: KeptOnce[str, object] = KeptOnce(4)
    together, made = threading.Barrier(8), []

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask() -> object:
        together.wait(60)
        return kept.get("a", make)

    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(ask) for _ in range(8)]]
    assert len(made) == 1
    assert found == made * 8


def test_one_key_does_not_wait_for_another():
    kept: KeptOnce[str, int] = KeptOnce(4)
    go_on = threading.Event()

    def make_slowly() -> int:
        assert go_on.wait(60)
        return 1

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(kept.get, "slow", make_slowly)
        assert kept.get("quick", lambda: 2) == 2
        assert not slow.done()
        go_on.set()
        assert slow.result() == 1


def test_what_could_not_be_made_is_made_for_who_asks_next():
    kept: KeptOnce[str, int] = KeptOnce(4)

    def fail() -> int:
        raise ValueError("no such image")

    for _ in range(2):
        with pytest.raises(ValueError, match="no such image"):
            kept.get("a", fail)
    assert kept.get("a", lambda: 3) == 3
    assert kept.get("a", fail) == 3


def test_what_was_asked_for_least_lately_goes():
    kept: KeptOnce[int, int] = KeptOnce(2)
    made = []

    def get(key: int) -> None:
        kept.get(key, lambda: made.append(key) or key)

    for key in (1, 2, 1, 3, 1, 2):
        get(key)
    assert made == [1, 2, 3, 2]
