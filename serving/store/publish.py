"""Publishes the features of users and items to a store, from which the ranking service completes requests."""

import time
from contextlib import closing
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from recsys_mtl.config import Config
from recsys_mtl.data.newest import Keyed
from serving.store import publish_parquet
from serving.store.address import Address, ParquetAddress, read_address
from serving.store.publication import Publication
from serving.store.tables import Table, digest, read_tables


class PublishConfig(Config):
    """What to publish, and where."""

    data: str
    """A prepared data set: its schema says what features are, and it has their newest values."""
    to: str
    """``parquet:DIRECTORY`` or ``redis://HOST:PORT/DB``."""
    users: str | None = None
    """Parquet file with users, in the place of the data set's."""
    items: str | None = None
    """Parquet file with items, in the place of the data set's."""
    as_of: datetime | None = None
    """Up to when, in UTC, the values know what happened; later events stay. Now, if not given."""
    update: bool = False
    """Replace the rows of these keys and leave all others."""
    dry_run: bool = False
    """Read and check, and write nothing."""


def run(config: PublishConfig, console: Console) -> None:
    """Publish, and say what.

    Raises:
        ConfigError: nothing to publish, a file that cannot be read, or a store that does not answer.
    """
    address = read_address(config.to)
    moment = datetime.now(UTC) if config.as_of is None else config.as_of.replace(tzinfo=UTC)
    given: dict[Keyed, str | None] = {"user": config.users, "item": config.items}
    tables = read_tables(config.data, given, int(moment.timestamp() * 1000))
    for line in described(tables):
        console.print(line, highlight=False, soft_wrap=True)
    if config.dry_run:
        console.print(f"dry run: nothing was written to {address}", highlight=False, soft_wrap=True)
        return
    started = time.perf_counter()
    publication = publish(address, tables, console, update=config.update)
    if publication is None:
        console.print(f"{address} has exactly these rows already", highlight=False, soft_wrap=True)
        return
    seconds = time.perf_counter() - started
    done = f"published to {address} in {seconds:.1f} s, generation {publication.generation}"
    console.print(done, highlight=False, soft_wrap=True)


def described(tables: dict[Keyed, Table]) -> list[str]:
    """Say what each table holds."""
    lines = []
    for entity, table in tables.items():
        columns = table.rows.num_columns - 2
        line = f"{entity}s: {table.rows.num_rows:,} rows by {table.key}, {columns} features"
        if table.dropped:
            line += f"; {table.dropped:,} rows without a key, or replaced by a later one of their key, are left out"
        if table.left_out:
            line += f"; not among them, so left to requests: {', '.join(table.left_out)}"
        lines.append(line)
    return lines


def publish(
    address: Address, tables: dict[Keyed, Table], console: Console, *, update: bool = False
) -> Publication | None:
    """Write the tables; nothing if the store has exactly them."""
    if isinstance(address, ParquetAddress):
        published = publish_parquet.current(address.place)
        wanted = publish_parquet.merged(address.place, tables) if update and published else tables
        if published is not None and published.content == digest(wanted):
            return None
        return publish_parquet.publish(address.place, wanted)
    # Not at the top: who has no Redis need not have its client.
    from serving.store.publish_redis import RedisPublisher

    with closing(RedisPublisher(address)) as publisher, shown(console) as bar:
        found = publisher.current()
        if not update and found is not None and found.content == digest(tables):
            return None
        stages: dict[str, TaskID] = {e: bar.add_task(f"{e}s", total=t.rows.num_rows) for e, t in tables.items()}

        def progress(entity: str, rows: int) -> None:
            bar.advance(stages[entity], rows)

        return publisher.update(tables, progress) if update else publisher.publish(tables, progress)


def shown(console: Console) -> Progress:
    """Make a bar for a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
