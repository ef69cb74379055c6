"""Raw data: what a preparer hands over, before anything is encoded."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from recsys_mtl.data.schema import Schema, source_columns

SPLITS = ("train", "valid", "test")
"""Names of the splits, in the order of time."""


@dataclass(frozen=True)
class RawData:
    """Logged impressions by split, with the schema that gives their columns a meaning.

    A split is a function that starts a new pass over the split's rows, as tables of raw values in natural units. Every
    table has the columns of `raw_columns`; a null cell is a missing value or an unknown label.
    """

    schema: Schema
    splits: Mapping[str, Callable[[], Iterator[pa.Table]]]
    crosses: frozenset[str] = frozenset()
    """Columns of item features that depend on the user as well, which no row of an item can hold."""


def raw_columns(schema: Schema) -> tuple[str, ...]:
    """Every raw column that preparation reads: features, labels, group, item and weight, each once."""
    labels = tuple(task.label_column for task in schema.tasks)
    keys = tuple(key for key in (schema.group, schema.item, schema.weight) if key is not None)
    return tuple(dict.fromkeys(source_columns(schema) + labels + keys))
