"""How Redis holds a store: names of keys, and rows and events as bytes.

Values are MessagePack: it keeps integers of 64 bits, floats, text, null and lists as they are, any language reads it,
and a row is far smaller than an Arrow message, which repeats its schema. A row is the list of its values in the order
of the publication's columns, so that no row repeats their names.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from recsys_mtl.data.newest import Keyed
from recsys_mtl.data.values import array
from serving.store.rows import Event

VERSION = 1
"""Part of every key: releases with another layout do not meet."""

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


class Keys:
    """Names of the keys of one data set."""

    def __init__(self, name: str) -> None:
        self.base = f"recsys:{name}:v{VERSION}"
        self.current = f"{self.base}:current"
        """Holds the publication that counts."""
        self.publishing = f"{self.base}:publishing"
        """Lock of whoever publishes."""

    def row(self, generation: str, entity: Keyed, key: str) -> str:
        """Name the row of a user or an item."""
        return f"{self.rows(generation)}:{entity}:{key}"

    def rows(self, generation: str) -> str:
        """Name what the keys of a publication's rows begin with."""
        return f"{self.base}:g:{generation}"

    def events(self, user: str, sequence: str) -> str:
        """Name the list of a user's latest events."""
        return f"{self.base}:e:{sequence}:{user}"

    def event_id(self, user: str, event_id: str) -> str:
        """Name the mark of an event that was added."""
        return f"{self.base}:i:{len(user)}:{user}:{event_id}"


def rows_as_bytes(table: pa.Table) -> Iterator[bytes]:
    """Write every row."""
    columns = [table[name].to_pylist() for name in table.column_names]
    return map(encode, zip(*columns, strict=True))


def table_of(rows: Sequence[bytes], columns: Sequence[str]) -> pa.Table:
    """Read rows.

    Raises:
        ValueError: they are not rows of these columns.
    """
    values = zip(*map(decode, rows), strict=True) if rows else ([] for _ in columns)
    return pa.table({name: array(cells) for name, cells in zip(columns, values, strict=True)})


def event_as_bytes(event: Event) -> bytes:
    """Write an event of a list, which has the sequence's name already."""
    return encode([event.time_ms, event.values])


def event_of(content: bytes, sequence: str) -> Event:
    """Read an event.

    Raises:
        ValueError: it is none.
    """
    parts: Any = decode(content)
    return Event(sequence, values=parts[1], time_ms=parts[0])
