"""Points of a chart on their way to a server that may be slow or away for a while."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

logger = logging.getLogger(__name__)

BATCH_POINTS = 1000
"""Most points that MLflow takes in one request."""


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    timestamp: int
    """Milliseconds since 1970, of when it was measured: a point that is sent twice stays one point."""
    step: int


class Outbox:
    """Sends points in batches from a thread of its own, so that training never waits for the server.

    A batch that could not be sent is sent again with the next one. Only ``close`` waits, and only ``close`` raises.
    """

    def __init__(self, send: Callable[[Sequence[Point]], None], *, every_seconds: float) -> None:
        """``send`` takes at most ``BATCH_POINTS`` points."""
        self._send = send
        self._every_seconds = every_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._waiting: list[Point] = []
        self._under_way: list[Point] = []
        self._sending: Future[None] | None = None
        self._sent_at = time.monotonic()

    def put(self, points: Sequence[Point]) -> None:
        """Add points; start sending where there are enough or they have waited long."""
        self._waiting += points
        full = len(self._waiting) >= BATCH_POINTS and self._failure() is None
        if full or time.monotonic() - self._sent_at >= self._every_seconds:
            self.flush()

    def flush(self) -> None:
        """Start sending what waits, unless a batch is still under way."""
        if self._sending is not None and not self._sending.done():
            return
        self._settle()
        self._under_way, self._waiting = self._waiting[:BATCH_POINTS], self._waiting[BATCH_POINTS:]
        self._sent_at = time.monotonic()
        if self._under_way:
            self._sending = self._thread.submit(self._send, self._under_way)

    def _failure(self) -> BaseException | None:
        return self._sending.exception() if self._sending is not None and self._sending.done() else None

    def _settle(self) -> None:
        """Look at how the last batch fared: one that failed goes in front of the others."""
        if error := self._failure():
            logger.warning(
                "%d metric values wait: the tracking server did not take them: %s", len(self._under_way), error
            )
            self._waiting = self._under_way + self._waiting
        self._under_way, self._sending = [], None

    def unsent(self) -> list[Point]:
        """Return what the server is not known to have taken."""
        arrived = self._sending is not None and self._sending.done() and self._failure() is None
        return [*([] if arrived else self._under_way), *self._waiting]

    def close(self) -> None:
        """Send everything that is left and wait for it.

        Raises:
            Exception: what ``send`` raised on the last try.
        """
        with self._thread:
            if self._sending is not None:
                wait([self._sending])
            self._settle()
            for start in range(0, len(self._waiting), BATCH_POINTS):
                self._send(self._waiting[start : start + BATCH_POINTS])
            self._waiting = []
