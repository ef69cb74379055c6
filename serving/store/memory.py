"""The store in memory: published Parquet files, loaded at start."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from recsys_mtl.data.newest import Keyed
from serving.store.address import ParquetAddress
from serving.store.base import Appended, Store
from serving.store.histories import History
from serving.store.publication import read_published
from serving.store.rows import Answer, Asked, Event, Key, Rows, nothing

MOST_USERS = 100_000
"""Users whose events are remembered; those who did nothing for the longest time are forgotten first."""
REMEMBERED_IDS = 256
"""Ids of events that are remembered of each user."""


class MemoryStore(Store):
    """Answers at once. Events are known to this process alone, until it ends."""

    def __init__(self, address: ParquetAddress) -> None:
        """Load what is published.

        Raises:
            ConfigError: nothing is, or it cannot be read.
        """
        self.publication, tables = read_published(address.place)
        self.rows: dict[Keyed, Rows] = {
            entity: Rows(table, self.publication.entities[entity].key) for entity, table in tables.items()
        }
        self.events: OrderedDict[str, Recent] = OrderedDict()
        self.lock = Lock()

    def now(self, asked: Asked, histories: Mapping[str, History]) -> Answer:
        """Look keys up."""
        with self.lock:
            recent = self.events.get(asked.user) if asked.user is not None else None
            events = recent.all(histories) if recent else []
        users = [] if asked.user is None else [asked.user]
        answers = {
            entity: self.rows[entity].find(keys) if entity in self.rows else nothing(len(keys))
            for entity, keys in _keys(users, asked.items).items()
        }
        return Answer(answers["user"], answers["item"], events)

    async def find(self, asked: Asked, histories: Mapping[str, History]) -> Callable[[], Answer]:
        return lambda: self.now(asked, histories)

    async def append(self, user: str, events: Sequence[Event], lengths: Mapping[str, int]) -> Appended:
        with self.lock:
            recent = self.events.setdefault(user, Recent())
            self.events.move_to_end(user)
            if len(self.events) > MOST_USERS:
                self.events.popitem(last=False)
            return recent.append(events, lengths)

    async def close(self) -> None:
        pass


class Recent:
    """What a user did since the process began."""

    def __init__(self) -> None:
        self.events: dict[str, deque[Event]] = {}
        self.ids: deque[str] = deque(maxlen=REMEMBERED_IDS)

    def all(self, histories: Mapping[str, History]) -> list[Event]:
        """List the events of sequences."""
        return [event for name in histories for event in self.events.get(name, ())]

    def append(self, events: Sequence[Event], lengths: Mapping[str, int]) -> Appended:
        """Add events, but for those that were there before."""
        added = 0
        for event in events:
            if event.id is not None and event.id in self.ids:
                continue
            if event.id is not None:
                self.ids.append(event.id)
            kept = self.events.get(event.sequence, ())
            self.events[event.sequence] = deque([*kept, event], maxlen=lengths[event.sequence])
            added += 1
        return Appended(added, len(events) - added)


def _keys(users: Sequence[Key], items: Sequence[Key]) -> dict[Keyed, Sequence[Key]]:
    return {"user": users, "item": items}
