"""The desk where requests ask: at once where the store is at hand, in a second turn where it is elsewhere."""

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from prometheus_client import CollectorRegistry

from serving.store.address import ParquetAddress, read_address
from serving.store.base import LookUp, Store
from serving.store.histories import History
from serving.store.lookups import Lookups
from serving.store.memory import MemoryStore
from serving.store.rows import Answer, Asked

if TYPE_CHECKING:
    from serving.settings import Settings

Ask = TypeVar("Ask", contravariant=True)


class Elsewhere(Exception):  # nothing is wrong: it says what to fetch before the next turn
    """What is asked for has to be waited for, which a thread that scores does not do."""

    def __init__(self, asked: Asked, histories: Mapping[str, History]) -> None:
        super().__init__("has to be fetched first")
        self.asked, self.histories = asked, histories


class Run(Protocol[Ask]):
    """Gives a request a turn in a thread."""

    def __call__(self, ask: Ask, look_up: LookUp, /) -> Awaitable[bytes]:
        """Return the answer."""


class Desk:
    """Lets requests look up what they leave out."""

    def __init__(self, store: Store, registry: CollectorRegistry, *, timeout_ms: float) -> None:
        self.store = store
        self.lookups = Lookups(store, registry, timeout_ms=timeout_ms)

    async def serve(self, ask: Ask, run: Run[Ask]) -> bytes:
        """Answer a request; if it asks for what is elsewhere, in a second turn when that is there."""
        unusable = self.lookups.unusable
        try:
            return await run(ask, LookUp(self._at_once, unusable, isinstance(self.store, MemoryStore)))
        except Elsewhere as elsewhere:
            missing = elsewhere
            read = await self.lookups.find(missing.asked, missing.histories)

        def fetched(asked: Asked, _: Mapping[str, History]) -> Answer:
            # A model that took the place of the first one meanwhile, or a shadow, may need something else.
            return read() if asked == missing.asked else self.lookups.without(asked, "error")

        return await run(ask, LookUp(fetched, unusable))

    async def close(self) -> None:
        """Let go of the store."""
        await self.lookups.close()

    def _at_once(self, asked: Asked, histories: Mapping[str, History]) -> Answer:
        answer = self.lookups.now(asked, histories)
        if answer is None:
            raise Elsewhere(asked, histories)
        return answer


def open_desk(settings: "Settings", registry: CollectorRegistry) -> Desk | None:
    """Open the store that the settings name, if they name one; a Redis server need not be there yet.

    Raises:
        ConfigError: the files of a store in memory are not there, or are damaged.
    """
    if settings.store is None:
        return None
    return Desk(open_store(settings.store), registry, timeout_ms=settings.store_timeout_ms)


def open_store(address: str) -> Store:
    """Open a store."""
    place = read_address(address)
    if isinstance(place, ParquetAddress):
        return MemoryStore(place)
    # Not at the top: who has no Redis need not have its client.
    from serving.store.redis_store import RedisStore

    return RedisStore(place)
