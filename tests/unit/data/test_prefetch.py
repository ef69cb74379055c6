import threading
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.data import prefetch
from recsys_mtl.data.prefetch import Prefetch

TIMEOUT_S = 20.0


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@given(st.lists(st.none() | st.integers(), max_size=20), st.integers(1, 5))
def test_items_come_in_their_order(items: list[int | None], depth: int) -> None:
    ahead = Prefetch(items, depth)
    assert list(ahead) == items
    assert list(ahead) == items  # and again, as often as the iterable can be read
    assert threads() == []


def test_an_error_comes_after_the_items_before_it_and_tells_where_it_arose() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("row 3 is broken")

    iterator = iter(Prefetch(items(), 4))
    assert [next(iterator), next(iterator)] == [1, 2]
    with pytest.raises(ValueError, match="row 3 is broken") as caught:
        next(iterator)
    assert "items" in [entry.name for entry in caught.traceback]
    assert threads() == []


def test_an_exception_that_is_an_item_is_an_item() -> None:
    error = ValueError()
    assert list(Prefetch([error], 1)) == [error]


@pytest.mark.parametrize("depth", [1, 3])
def test_the_thread_runs_ahead_by_the_depth_and_no_further(depth: int) -> None:
    made: list[int] = []
    ahead = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for i in count():
            made.append(i)
            ahead.release()
            yield i

    iterator = iter(Prefetch(items(), depth))
    assert next(iterator) == 0
    for _ in range(depth + 2):  # the item in use, those that wait, and the one that waits for room
        assert ahead.acquire(timeout=TIMEOUT_S)
    assert not ahead.acquire(timeout=0.3)
    assert made == list(range(depth + 2))
    assert next(iterator) == 1
    assert ahead.acquire(timeout=TIMEOUT_S)
    del iterator


def test_leaving_early_stops_the_thread() -> None:
    for item in Prefetch(count(), 2):
        if item == 3:
            break
    assert threads() == []


def test_an_error_of_the_consumer_stops_the_thread() -> None:
    def consume() -> None:
        for item in Prefetch(count(), 2):
            raise KeyError(item)

    with pytest.raises(KeyError):
        consume()
    assert threads() == []


def test_nothing_runs_before_the_first_item_is_asked_for() -> None:
    iterator = iter(Prefetch(count(), 2))
    assert threads() == []
    assert next(iterator) == 0
    assert len(threads()) == 1
    iterator.close()  # type: ignore[attr-defined]
    assert threads() == []


def test_waiting_is_measured_for_each_item(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 20.0, 20.125, 30.0, 30.0])  # asked, given, asked, given, asked, the end
    monkeypatch.setattr(prefetch, "time", SimpleNamespace(perf_counter=clock.__next__))
    items = Prefetch("ab", 1)
    assert [(item, items.last_wait_s) for item in items] == [("a", 0.5), ("b", 0.125)]
