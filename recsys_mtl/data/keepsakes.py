"""Raw values that a prepared data set keeps beside its encoded shards."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from recsys_mtl.data.golden import GoldenSample
from recsys_mtl.data.newest import NewestRows
from recsys_mtl.data.schema import Schema


class Keepsakes:
    """Golden rows of the test split, and what was known last of every user and item, which is what training knew."""

    def __init__(self, schema: Schema, crosses: frozenset[str], newest: Sequence[str] = ("train",)) -> None:
        """``newest`` names the splits whose rows know last what users and items are like."""
        self.splits = newest
        self.golden = GoldenSample(schema)
        self.newest = NewestRows(schema, crosses)

    def offer(self, split: str, raw: pa.Table, encoded: pa.Table) -> None:
        """Take what is to be kept of a table's rows."""
        if split in self.splits:
            self.newest.offer(raw)
        if split == "test":
            self.golden.offer(raw, encoded)

    def save(self, directory: Path) -> None:
        """Write both."""
        self.golden.save(directory)
        self.newest.save(directory)
