"""What training knew last of every user and item, as raw values: what a feature store begins with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.data.golden import columns_by_entity
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import Array, as_text, single_array

FEATURES = "features"
"""Directory of a prepared data set with a file for each entity."""
PENDING_ROWS = 262_144
"""Rows that are collected before those that newer ones have replaced are dropped."""
MOST_BYTES = 2 * 2**30
"""An entity whose newest values take more than this is left out: they are held in memory."""

Keyed = Literal["user", "item"]
"""An entity that has a key."""
FILES: Mapping[Keyed, str] = {"user": "users.parquet", "item": "items.parquet"}


class NewestRows:
    """Keeps the last row of every user and of every item, in the order in which rows come."""

    def __init__(self, schema: Schema, crosses: frozenset[str] = frozenset()) -> None:
        self.entities = [
            NewestOf(entity, key, names)
            for entity, (key, names) in stored_columns(schema, crosses).items()
            if names != [key]
        ]

    def offer(self, raw: pa.Table) -> None:
        """Take the rows of a table, which are newer than those before."""
        for entity in self.entities:
            entity.offer(raw)

    def save(self, directory: Path) -> None:
        """Write a file for each entity."""
        (directory / FEATURES).mkdir()
        for entity in self.entities:
            if (table := entity.newest()) is not None:
                pq.write_table(table, directory / FEATURES / FILES[entity.entity], compression="zstd")


class NewestOf:
    """The last row of every key of one entity."""

    def __init__(self, entity: Keyed, key: str, names: list[str]) -> None:
        self.entity, self.key, self.names = entity, key, names
        self.tables: list[pa.Table] = []
        self.rows = 0
        self.is_too_large = False

    def offer(self, raw: pa.Table) -> None:
        """Take the rows of a table."""
        if self.is_too_large:
            return
        self.tables.append(last_rows(raw.select(self.names), self.key))
        self.rows += self.tables[-1].num_rows
        if self.rows >= PENDING_ROWS:
            self._compact()

    def newest(self) -> pa.Table | None:
        """Return the rows, or nothing if they were too many."""
        self._compact()
        return None if self.is_too_large or not self.tables else self.tables[0]

    def _compact(self) -> None:
        if len(self.tables) > 1:
            self.tables = [last_rows(pa.concat_tables(self.tables, promote_options="permissive"), self.key)]
        self.rows = 0  # counted anew, so that many keys do not mean many passes over them
        if self.tables and self.tables[0].nbytes > MOST_BYTES:
            self.tables, self.is_too_large = [], True


def stored_columns(schema: Schema, crosses: frozenset[str] = frozenset()) -> dict[Keyed, tuple[str, list[str]]]:
    """Name each entity's key and raw columns, the key first; without those that are of user and item together."""
    columns = columns_by_entity(schema)
    keys: dict[Keyed, str | None] = {"user": schema.group, "item": schema.item}
    return {
        entity: (key, list(dict.fromkeys([key, *(name for name in columns[entity] if name not in crosses)])))
        for entity, key in keys.items()
        if key is not None
    }


def last_rows(table: pa.Table, key: str) -> pa.Table:
    """Keep the last row of every key; rows without a key go."""
    texts = key_texts(table, key).dictionary_encode()
    codes = texts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    found, from_the_end = np.unique(codes[::-1], return_index=True)
    rows = np.sort(len(codes) - 1 - from_the_end[found >= 0])
    return (
        table.combine_chunks() if len(rows) == len(codes) else table.take(pa.array(rows, pa.int64())).combine_chunks()
    )


def key_texts(table: pa.Table, key: str) -> Array:
    """Write the keys as text, the same for ``7``, ``7.0`` and ``"7"``.

    Raises:
        FeatureError: they are no ids.
    """
    return as_text(single_array(table[key]), key)
