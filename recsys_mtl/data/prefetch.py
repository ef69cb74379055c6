"""Prefetching: an iterator's work done ahead, in a thread."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

PATIENCE_S = 0.1
"""How long the thread waits for room before it looks whether the consumer is still there."""


@dataclass(frozen=True)
class Ready(Generic[T]):
    """An item that waits for the consumer."""

    item: T


@dataclass(frozen=True)
class End:
    """Nothing more comes, for the reason of ``error`` if there is one."""

    error: BaseException | None


Entries: TypeAlias = queue.Queue[Ready[T] | End]


class Prefetch(Generic[T]):
    """Runs an iterable ahead by ``depth`` items and measures how long the consumer has to wait.

    An error of the iterable is raised where the consumer asks for the item. Leaving the iteration early stops the
    thread.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self.items = items
        self.depth = depth
        self.last_wait_s = 0.0
        """Seconds that the consumer waited for the item it has."""

    def __iter__(self) -> Iterator[T]:
        """Yield the items in their order."""
        entries: Entries[T] = queue.Queue(self.depth)
        left = threading.Event()
        thread = threading.Thread(target=_produce, args=(self.items, entries, left), daemon=True, name="prefetch")
        thread.start()
        try:
            while isinstance(entry := self._next(entries), Ready):
                yield entry.item
            if entry.error is not None:
                raise entry.error
        finally:
            left.set()
            thread.join()

    def _next(self, entries: Entries[T]) -> Ready[T] | End:
        asked = time.perf_counter()
        entry = entries.get()
        self.last_wait_s = time.perf_counter() - asked
        return entry


def _produce(items: Iterable[T], entries: Entries[T], left: threading.Event) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            if not _put(entries, Ready(item), left):
                return
    except BaseException as caught:  # raised again in the consumer's thread
        error = caught
    _put(entries, End(error), left)


def _put(entries: Entries[T], entry: Ready[T] | End, left: threading.Event) -> bool:
    """Put an entry unless the consumer has left; tell whether it was put."""
    while not left.is_set():
        try:
            entries.put(entry, timeout=PATIENCE_S)
        except queue.Full:
            continue
        return True
    return False
