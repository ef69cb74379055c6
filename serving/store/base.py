"""What every store can do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from serving.store.histories import History
from serving.store.rows import Answer, Asked, Event


@dataclass(frozen=True)
class Appended:
    """What became of events."""

    added: int
    duplicates: int
    """Events whose ids were there before."""


@dataclass(frozen=True)
class LookUp:
    """A store, as a request sees it."""

    ask: Callable[[Asked, Mapping[str, History]], Answer]
    unusable: Callable[[Asked, str], None]
    """Told of stored values that the model cannot read."""
    is_at_hand: bool = False
    """The store's rows are in memory, and stay as they are."""


class StoreAway(Exception):
    """The store does not answer, or answers with an error."""


class Store(ABC):
    """Hands out stored rows by key, and remembers what users did."""

    def now(self, asked: Asked, histories: Mapping[str, History]) -> Answer | None:
        """Answer without waiting; nothing where that cannot be."""
        del asked, histories
        return None

    @abstractmethod
    async def find(self, asked: Asked, histories: Mapping[str, History]) -> Callable[[], Answer]:
        """Fetch an answer, with the events of histories; reading it is left to the thread that needs it.

        Raises:
            StoreAway: it cannot.
        """

    @abstractmethod
    async def append(self, user: str, events: Sequence[Event], lengths: Mapping[str, int]) -> Appended:
        """Add events to a user's histories, of which so many of the latest are kept.

        Raises:
            StoreAway: it cannot; some of the events may have been added.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections."""
