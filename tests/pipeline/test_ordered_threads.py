import threading
import time

import pytest

from pipeline.ordered_threads import OrderedThreads, worker_threads

TIMEOUT_S = 30


@pytest.mark.parametrize("number", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(number: int) -> None:
    threads = OrderedThreads(number, "test")

    def square(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item * item

    assert list(threads.map(square, range(40))) == [item * item for item in range(40)]
    assert list(threads.map(square, [])) == []
    threads.close()


def test_several_items_at_once_and_no_more_held_than_threads() -> None:
    threads, met, taken = OrderedThreads(3, "test"), threading.Barrier(3, timeout=TIMEOUT_S), []

    def work(item: int) -> int:
        # Three at once, or this breaks.
        met.wait()
        return item

    def items() -> object:
        for item in range(9):
            taken.append(item)
            yield item

    results = threads.map(work, items())
    for expected in range(3):
        assert next(results) == expected
        assert len(taken) <= expected + 5
    assert list(results) == list(range(3, 9))
    threads.close()


@pytest.mark.parametrize("number", [1, 3])
def test_an_error_comes_at_its_turn_and_nothing_is_begun_after_it(number: int) -> None:
    threads, begun = OrderedThreads(number, "test"), []

    def work(item: int) -> int:
        begun.append(item)
        if item == 4:
            raise KeyError("item 4")
        return item

    results = threads.map(work, range(1000))
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(KeyError, match="item 4"):
        next(results)
    threads.close()
    assert max(begun) <= 4 + number


def test_a_worker_takes_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERYROOF_THREADS", "6")
    assert worker_threads() == 6
    monkeypatch.delenv("EVERYROOF_THREADS")
    assert worker_threads() == 1
