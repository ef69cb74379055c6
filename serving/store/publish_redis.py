"""Publishing to Redis: rows under new keys, then the description that names them, then the old keys go."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from redis import Redis
from redis.exceptions import LockError, RedisError

from recsys_mtl.config import ConfigError
from recsys_mtl.data.newest import Keyed
from serving.store.address import RedisAddress
from serving.store.layout import Keys, rows_as_bytes
from serving.store.publication import Entity, Publication, parse_publication
from serving.store.publish_parquet import refuse_other_columns
from serving.store.tables import Table, batches, digest, generation_of, keys_of

BATCH_ROWS = 2000
SECONDS = 10.0
"""Patience with the server."""
LOCK_SECONDS = 120.0
"""After which a publisher that was killed is forgotten."""

Progress = Callable[[str, int], None]


class RedisPublisher:
    """Writes what `RedisStore` reads."""

    def __init__(self, address: RedisAddress) -> None:
        self.address, self.keys = address, Keys(address.name)
        self.redis = Redis.from_url(address.url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)

    def current(self) -> Publication | None:
        """Return what is published."""
        with self._refusals():
            content: bytes | None = self.redis.get(self.keys.current)  # type: ignore[assignment]  # not asynchronous
        return None if content is None else parse_publication(content, self.keys.current)

    def publish(self, tables: dict[Keyed, Table], progress: Progress) -> Publication:
        """Put tables in the place of what is there."""
        publication = Publication(
            generation=generation_of(tables),
            content=digest(tables),
            entities={entity: described(table) for entity, table in tables.items()},
        )
        with self._alone() as still_alone:
            self._write(publication, tables, progress, still_alone)
            self.redis.set(self.keys.current, publication.model_dump_json())
            self._remove_others(publication.generation)
        return publication

    def update(self, tables: dict[Keyed, Table], progress: Progress) -> Publication:
        """Replace the rows of the tables' keys and leave all others.

        Raises:
            ConfigError: what is published has other columns.
        """
        published = self.current()
        if published is None:
            return self.publish(tables, progress)
        if absent := [entity for entity in tables if entity not in published.entities]:
            raise ConfigError(f"--update: no {entity}s are published: publish without --update" for entity in absent)
        for entity, table in tables.items():
            refuse_other_columns(published.entities[entity], table)
        with self._alone() as still_alone:
            self._write(published, tables, progress, still_alone)
            updated = published.model_copy(update={"content": f"{published.content[:16]}+{digest(tables)}"})
            self.redis.set(self.keys.current, updated.model_dump_json())
        return updated

    def close(self) -> None:
        """Let go of the connection."""
        self.redis.close()

    def _write(
        self,
        publication: Publication,
        tables: dict[Keyed, Table],
        progress: Progress,
        still_alone: Callable[[], object],
    ) -> None:
        for entity, table in tables.items():
            for batch in batches(table, BATCH_ROWS):
                names = (self.keys.row(publication.generation, entity, key) for key in keys_of(batch))
                self.redis.mset(dict(zip(names, rows_as_bytes(batch.rows), strict=True)))
                still_alone()
                progress(entity, batch.rows.num_rows)

    def _remove_others(self, generation: str) -> None:
        own = self.keys.rows(generation).encode()
        keys = self.redis.scan_iter(match=self.keys.rows("*"), count=BATCH_ROWS)
        others = (key for key in keys if not key.startswith(own))
        while some := list(islice(others, BATCH_ROWS)):
            self.redis.unlink(*some)

    @contextmanager
    def _alone(self) -> Iterator[Callable[[], object]]:
        """Keep other publishers away; the caller says now and then that it still works."""
        lock = self.redis.lock(self.keys.publishing, timeout=LOCK_SECONDS, blocking=False)
        with self._refusals():
            if not lock.acquire():
                raise ConfigError([f"{self.address}: somebody else is publishing; try again in a few minutes"])
            try:
                yield lock.reacquire
            finally:
                lock.release()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except LockError:
            raise ConfigError([f"{self.address}: took too long: somebody else publishes meanwhile"]) from None
        except (RedisError, OSError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError([f"{self.address}: {error}"]) from None


def described(table: Table) -> Entity:
    """Describe a table."""
    return Entity(key=table.key, columns=tuple(table.rows.column_names), rows=table.rows.num_rows)
