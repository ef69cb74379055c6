"""Prefetching: an iterator's work done ahead, in a thread."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Runs an iterable ahead by ``depth`` items and measures how long the consumer has to wait.

    An error of the iterable is raised where the consumer asks for the item. Leaving the iteration early stops the thread.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self.items = items
        self.depth = depth
        self.last_wait_s = 0.0
        """Seconds that the consumer waited for the item it has."""

    def __iter__(self) -> Iterator[T]:
        """Yield the items in their order."""
        ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(self.depth)
        stop = threading.Event()
        thread = threading.Thread(target=_produce, args=(self.items, ready, stop), daemon=True, name="prefetch")
        thread.start()
        try:
            while True:
                asked = time.perf_counter()
                more, item = ready.get()
                self.last_wait_s = time.perf_counter() - asked
                if not more:
                    break
                yield item  # type: ignore[misc]
            if isinstance(item, BaseException):
                raise item
        finally:
            stop.set()
            thread.join()


def _produce(items: Iterable[T], ready: "queue.Queue[tuple[bool, T | BaseException | None]]", stop: threading.Event) -> None:
    last: tuple[bool, T | BaseException | None] = (False, None)
    try:
        for item in items:
            if not _put(ready, (True, item), stop):
                return
    except BaseException as error:  # noqa: BLE001 - it is raised again in the consumer's thread
        last = (False, error)
    _put(ready, last, stop)


def _put(ready: "queue.Queue[tuple[bool, T | BaseException | None]]", entry: tuple[bool, T | BaseException | None], stop: threading.Event) -> bool:
    """Put an entry unless the consumer has left; tell whether it was put."""
    while not stop.is_set():
        try:
            ready.put(entry, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
