"""The store on a Redis server: one for all processes; a request's user and candidates are read in one round trip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from recsys_mtl.data.newest import Keyed
from serving.store.address import RedisAddress
from serving.store.base import Appended, Store, StoreAway
from serving.store.histories import History
from serving.store.layout import Keys, event_as_bytes, event_of, table_of
from serving.store.publication import Publication, parse_publication
from serving.store.rows import Answer, Asked, Event, Found, Key, nothing

SOCKET_SECONDS = 1.0
"""Patience with a connection, which may take longer to make than a request waits."""
CONNECTIONS = 32
"""Of each process; further look-ups wait for one, within their time."""
EVENTS_KEPT_S = 30 * 24 * 3600
"""How long the events of a user without new ones are kept."""
IDS_KEPT_S = 24 * 3600
"""How long an event that is sent again counts as the same one."""
ATTEMPTS = 3
"""Publications that may follow each other during one look-up."""

APPEND = """
local added = 0
for i = 1, #KEYS / 2 do
  local events, id = KEYS[2 * i - 1], KEYS[2 * i]
  if id == events or redis.call('SET', id, 1, 'NX', 'EX', ARGV[2]) then
    redis.call('RPUSH', events, ARGV[2 * i + 1])
    redis.call('LTRIM', events, -ARGV[2 * i + 2], -1)
    redis.call('EXPIRE', events, ARGV[1])
    added = added + 1
  end
end
return added
"""
"""Adds events to lists, all of them or none. An event without an id has the list's key in its place."""


class RedisStore(Store):
    """Looks up what is published now, and recovers by itself when the server comes back."""

    def __init__(self, address: RedisAddress) -> None:
        self.keys = Keys(address.name)
        # One more attempt: after a restart of the server the first one meets a connection that is no more.
        pool = BlockingConnectionPool.from_url(
            address.url,
            max_connections=CONNECTIONS,
            timeout=SOCKET_SECONDS,
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=SOCKET_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )
        self.redis = Redis(connection_pool=pool)
        self.add = self.redis.register_script(APPEND)
        self.current: tuple[bytes | None, Publication | None] = (None, None)

    async def find(self, asked: Asked, histories: Mapping[str, History]) -> Callable[[], Answer]:
        with away():
            for _ in range(ATTEMPTS):
                known, publication = self.current
                content, rows, events = await self._fetch(asked, histories, publication)
                if content == known:
                    return lambda: read(asked, publication, rows, events)
                self.current = content, None if content is None else parse_publication(content, self.keys.current)
        raise StoreAway("publications follow each other too fast")

    async def append(self, user: str, events: Sequence[Event], lengths: Mapping[str, int]) -> Appended:
        keys: list[str] = []
        arguments: list[Any] = [EVENTS_KEPT_S, IDS_KEPT_S]
        for event in events:
            own = self.keys.events(user, event.sequence)
            keys += [own, own if event.id is None else self.keys.event_id(user, event.id)]
            arguments += [event_as_bytes(event), lengths[event.sequence]]
        with away():
            added = int(await self.add(keys=keys, args=arguments))
        return Appended(added, len(events) - added)

    async def close(self) -> None:
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()

    async def _fetch(
        self, asked: Asked, histories: Mapping[str, History], publication: Publication | None
    ) -> tuple[bytes | None, list[bytes | None], dict[str, list[bytes]]]:
        """Read, as of one moment, what is published and the rows of the publication that was known."""
        keys = [] if publication is None else [*self._rows(publication, asked)]
        names = [] if asked.user is None else list(histories)
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.get(self.keys.current)
            if keys:
                pipe.mget(keys)
            for name in names:
                pipe.lrange(self.keys.events(str(asked.user), name), 0, -1)
            content, *found = await pipe.execute()
        rows = found.pop(0) if keys else []
        return content, rows, dict(zip(names, found, strict=True))

    def _rows(self, publication: Publication, asked: Asked) -> Iterator[str]:
        for entity, keys in wanted(publication, asked).items():
            yield from (self.keys.row(publication.generation, entity, key) for key in keys)


def wanted(publication: Publication, asked: Asked) -> dict[Keyed, list[str]]:
    """List the distinct keys of each entity that is published."""
    users = [] if asked.user is None else [asked.user]
    items = list(dict.fromkeys(key for key in asked.items if key is not None))
    keys: dict[Keyed, list[str]] = {"user": users, "item": items}
    return {entity: found for entity, found in keys.items() if entity in publication.entities}


def read(
    asked: Asked,
    publication: Publication | None,
    rows: Sequence[bytes | None],
    events: Mapping[str, Sequence[bytes]],
) -> Answer:
    """Make tables of what was fetched.

    Raises:
        ValueError: it cannot be read.
    """
    user, items = nothing(0 if asked.user is None else 1), nothing(len(asked.items))
    start = 0
    for entity, keys in {} if publication is None else wanted(publication, asked).items():
        assert publication is not None
        values = dict(zip(keys, rows[start : start + len(keys)], strict=True))
        start += len(keys)
        columns = publication.entities[entity].columns
        if entity == "user":
            user = found(values, [asked.user] if keys else [], columns)
        else:
            items = found(values, asked.items, columns)
    return Answer(user, items, [event_of(content, name) for name, own in events.items() for content in own])


def found(values: Mapping[str, bytes | None], keys: Sequence[Key], columns: Sequence[str]) -> Found:
    """Make a table of the rows that there are, and say which of them belongs to each key."""
    hits = {key: content for key, content in values.items() if content is not None}
    index = {key: row for row, key in enumerate(hits)}
    rows = np.fromiter((index.get(key or "", -1) for key in keys), np.int64, len(keys))
    return Found(table_of(list(hits.values()), columns), rows)


@contextmanager
def away() -> Iterator[None]:
    """Say in one way whatever goes wrong with a server."""
    try:
        yield
    except (RedisError, OSError, ValueError) as error:
        raise StoreAway(f"{type(error).__name__}: {error}") from None
