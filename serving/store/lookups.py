"""Look-ups in time: whatever the store does, a request gets an answer, if need be that nothing is known."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter

from serving.store.base import Store, StoreAway
from serving.store.breaker import Breaker
from serving.store.histories import History
from serving.store.rows import Answer, Asked, nothing

log = logging.getLogger(__name__)

LOG_EVERY_S = 60.0
Histories = Mapping[str, History]


class Lookups:
    """Asks a store, counts what comes of it, and waits no longer than is allowed."""

    def __init__(self, store: Store, registry: CollectorRegistry, *, timeout_ms: float) -> None:
        self.store, self.seconds = store, timeout_ms / 1000
        self.breaker = Breaker()
        self.late: set[asyncio.Task[Callable[[], Answer]]] = set()
        self.logged = -math.inf
        self.counts = Counter(
            "recsys_store_lookups", "Keys looked up in the feature store.", ("entity", "result"), registry=registry
        )

    def now(self, asked: Asked, histories: Histories) -> Answer | None:
        """Answer without waiting, if the store can."""
        answer = self.store.now(asked, histories)
        return None if answer is None else self._counted(asked, answer)

    async def find(self, asked: Asked, histories: Histories) -> Callable[[], Answer]:
        """Return what gives the answer, in the thread that needs it."""
        if not self.breaker.allows():
            return lambda: self.without(asked, "skipped")
        # A look-up that is late goes on: the connection that it makes is there for the next one.
        task = asyncio.create_task(self.store.find(asked, histories))
        self.late.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=self.seconds)
        if not done:
            self._failed(f"no answer within {1000 * self.seconds:g} ms")
            return lambda: self.without(asked, "timeout")
        if (error := task.exception()) is not None:
            self._failed(str(error))
            return lambda: self.without(asked, "error")
        self.breaker.succeeded()
        return lambda: self._read(asked, task.result())

    async def close(self) -> None:
        """End what is under way, and let go of connections."""
        for task in self.late:
            task.cancel()
        await asyncio.gather(*self.late, return_exceptions=True)
        await self.store.close()

    def unusable(self, asked: Asked, problem: str) -> None:
        """Count stored values that the model cannot read."""
        self._log(problem)
        self._count(asked, "error")

    def _read(self, asked: Asked, read: Callable[[], Answer]) -> Answer:
        try:
            return self._counted(asked, read())
        except ValueError as error:
            self._log(f"rows cannot be read: {error}")
            return self.without(asked, "error")

    def _ended(self, task: "asyncio.Task[Callable[[], Answer]]") -> None:
        self.late.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, StoreAway):
            log.error("feature store: a look-up failed", exc_info=error)

    def _failed(self, problem: str) -> None:
        self.breaker.failed()
        self._log(problem)

    def _log(self, problem: str) -> None:
        if time.monotonic() - self.logged >= LOG_EVERY_S:
            self.logged = time.monotonic()
            log.warning("feature store: %s; what requests leave out is missing (said once a minute)", problem)

    def _counted(self, asked: Asked, answer: Answer) -> Answer:
        users, items = int(asked.user is not None), sum(key is not None for key in asked.items)
        for entity, total, hits in (("user", users, answer.user.hits), ("item", items, answer.items.hits)):
            self.counts.labels(entity, "hit").inc(hits)
            self.counts.labels(entity, "miss").inc(total - hits)
        return answer

    def without(self, asked: Asked, result: str) -> Answer:
        """Answer that nothing is known."""
        self._count(asked, result)
        return Answer(nothing(int(asked.user is not None)), nothing(len(asked.items)))

    def _count(self, asked: Asked, result: str) -> None:
        self.counts.labels("user", result).inc(int(asked.user is not None))
        self.counts.labels("item", result).inc(sum(key is not None for key in asked.items))
