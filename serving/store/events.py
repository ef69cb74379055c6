"""Events from clients: what is wrong with them, and what they add to which history."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import text_of
from serving.errors import RequestError
from serving.inputs import NAMES, ONE_VALUE, SCALARS, Inputs, Place
from serving.schemas import AnswerPart, Cell, ItemId, RequestPart
from serving.store.completion import key_of
from serving.store.histories import History, histories_of
from serving.store.rows import Asked, Event, Found, nothing

MOST_EVENTS = 500


class UserEvent(RequestPart):
    """Something that the user did with an item: its id, and raw item values that are not in the store."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Cell]

    item_id: ItemId
    """The item, as in a ranking request."""
    sequence: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Name of the sequence feature that this belongs to, such as ``clicked``; not needed where there is only one."""
    event_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The client's name for it: an event that is sent again under the same name counts once."""


class EventsRequest(RequestPart):
    """What a user did, oldest first."""

    user_id: ItemId
    """The user, as in a ranking request."""
    events: Annotated[list[UserEvent], Field(min_length=1, max_length=MOST_EVENTS)]


class EventsAnswer(AnswerPart):
    """What became of events."""

    request_id: str
    """The request's ``X-Request-ID``, or one made for it."""
    user_id: int | str
    """As in the request."""
    added: int
    """Events that are part of the user's history now."""
    duplicates: int
    """Events whose ``event_id`` was there before."""


class EventReader:
    """Reads events by a model's schema."""

    def __init__(self, schema: Schema, inputs: Inputs) -> None:
        self.inputs = inputs
        self.histories = histories_of(schema)

    @property
    def lengths(self) -> dict[str, int]:
        """How many events each history holds."""
        return {name: history.max_length for name, history in self.histories.items()}

    def asked(self, events: Sequence[UserEvent]) -> Asked:
        """Say which items' values the events leave to the store.

        Raises:
            RequestError: an event of no known sequence, with an unknown field, or with a value that is none.
        """
        if problems := [problem for row, event in enumerate(events) for problem in self._problems(row, event)]:
            raise RequestError(problems)
        return Asked(None, [self._item(event) if self._lacks(event) else None for event in events])

    def read(self, events: Sequence[UserEvent], items: Found | None = None) -> list[Event]:
        """Give every event the values that it adds to its history."""
        now = time.time_ns() // 1_000_000
        known = nothing(len(events)) if items is None else items
        sources = {source for history in self.histories.values() for source in history.sources.values() if source}
        stored = {name: known.column(name).to_pylist() for name in sources}
        found: list[Event] = []
        for row, event in enumerate(events):
            own = {name: cells[row] for name, cells in stored.items()} | dict(self._cells(event))
            history = self._history(event)
            values = {name: own.get(name, own.get(source or "")) for name, source in history.sources.items()}
            found.append(Event(history.name, values, now, event.event_id))
        return found

    def _history(self, event: UserEvent) -> History:
        return self.histories[event.sequence or next(iter(self.histories))]

    def _cells(self, event: UserEvent) -> Mapping[str, Any]:
        return self.inputs.cells(event.model_extra or {}, event.item_id)

    def _item(self, event: UserEvent) -> str | None:
        return key_of(self.inputs.candidate, event.model_extra or {}, event.item_id)

    def _lacks(self, event: UserEvent) -> bool:
        own = self._cells(event)
        sources = self._history(event).sources.items()
        return any(name not in own and source is not None and source not in own for name, source in sources)

    def _problems(self, row: int, event: UserEvent) -> Iterator[tuple[Place, str]]:
        if event.sequence not in self.histories and (event.sequence is not None or len(self.histories) != 1):
            names = ", ".join(self.histories) or "none"
            yield ("events", row, "sequence"), f"expected the name of one of the model's sequences: {names}"
            return
        sources = self._history(event).sources
        allowed = {*sources, *filter(None, sources.values()), self.inputs.candidate.key}
        for name, value in (event.model_extra or {}).items():
            if name not in allowed:
                yield ("events", row, name), f"unknown field; this sequence takes {_listed(allowed)}"
            elif type(value) not in SCALARS:
                yield ("events", row, name), f"expected {ONE_VALUE}, got {NAMES[type(value)]}"


def user_key(user_id: int | str) -> str:
    """Return the key of a user."""
    return str(text_of(user_id))


def _listed(names: Iterable[str | None]) -> str:
    return ", ".join(sorted(filter(None, names)))
