"""Stored rows, and which of them belong to the keys that were asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_mtl.data.newest import key_texts
from recsys_mtl.data.values import Array, Ints, single_array

Key = str | None
"""Canonical text of an id, the same for ``7``, ``7.0`` and ``"7"``; None where there is nothing to ask for."""


@dataclass(frozen=True)
class Event:
    """Something that a user did, as an entry of one of the user's histories."""

    sequence: str
    """Name of the sequence feature."""
    values: Mapping[str, Any]
    """By raw column of the sequence."""
    time_ms: int
    """When the service heard of it."""
    id: str | None = None
    """The client's name for it: an event that is sent twice counts once."""


@dataclass(frozen=True)
class Asked:
    """What a request needs to know."""

    user: Key
    items: Sequence[Key]
    """One for each candidate; empty where all bring their features."""

    def __bool__(self) -> bool:
        return self.user is not None or any(key is not None for key in self.items)


@dataclass(frozen=True)
class Found:
    """Stored rows and, for every key that was asked for, its row; -1 where there is none."""

    table: pa.Table
    rows: Ints

    @cached_property
    def columns(self) -> Mapping[str, Array]:
        """The keys' values by raw column, null where there is no row."""
        if len(self.rows) == 1 and self.rows[0] >= 0:  # a user: no copy
            taken = self.table.slice(int(self.rows[0]), 1)
        else:
            taken = self.table.take(pa.array(self.rows, pa.int64(), mask=self.rows < 0))
        return {name: single_array(column) for name, column in zip(taken.column_names, taken.columns, strict=True)}

    def column(self, name: str) -> Array:
        """Return a raw column's values for the keys, null where there are none."""
        column = self.columns.get(name)
        return pa.nulls(len(self.rows)) if column is None else column

    @property
    def hits(self) -> int:
        """Number of keys that have a row."""
        return int((self.rows >= 0).sum())


def nothing(keys: int) -> Found:
    """Make the answer of a store that knows none of the keys."""
    return Found(pa.table({}), np.full(keys, -1))


@dataclass(frozen=True)
class Answer:
    """What a store knows of what was asked."""

    user: Found
    items: Found
    events: Sequence[Event] = field(default=())
    """What the user did, oldest first; the row of the user may know of some of it."""


class Rows:
    """All rows of an entity in memory."""

    def __init__(self, table: pa.Table, key: str) -> None:
        self.table = table
        self.index = {text: row for row, text in enumerate(key_texts(table, key).to_pylist())}

    def rows(self, keys: Sequence[Key]) -> Ints:
        """Return the row of every key, -1 where there is none."""
        find = self.index.get
        return np.fromiter((find(key, -1) for key in keys), np.int64, len(keys))

    def find(self, keys: Sequence[Key]) -> Found:
        """Return the rows of keys."""
        return Found(self.table, self.rows(keys))
