"""Labels, groups and weights: the columns of a shard that are not features."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from recsys_mtl.data.encode import HASH_SEED, raw_column
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import FeatureError, as_numbers, as_text, first_where
from recsys_mtl.tasks import BinaryTask, Task

GROUP = "_group"
WEIGHT = "_weight"


def label_name(task: str) -> str:
    """Column of a shard that holds a task's label; feature names have no dot."""
    return f"label.{task}"


def encode_targets(schema: Schema, raw: pa.Table, features: pa.Table) -> pa.Table:
    """Append labels (float32, null where unknown), group (int64) and weight to encoded features.

    Raises:
        FeatureError: a label that its task cannot have.
    """
    table = features
    for task in schema.tasks:
        table = table.append_column(label_name(task.name), encode_label(task, raw))
    table = table.append_column(GROUP, encode_group(raw_column(raw, schema.group), schema.group))
    if schema.weight is not None:
        weights = as_numbers(raw_column(raw, schema.weight), schema.weight)
        if (row := first_where(~(weights >= 0))) is not None:
            raise FeatureError(schema.weight, "a weight must be zero or more", row)
        table = table.append_column(WEIGHT, pa.array(weights.astype(np.float32)))
    return table


def encode_label(task: Task, raw: pa.Table) -> pa.Array:
    """Check a label column: 0 or 1 (or null) for an event, a number (or null) for an amount."""
    column = raw_column(raw, task.label_column)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    labels = as_numbers(column, task.label_column)
    if isinstance(task, BinaryTask) and (row := first_where(~np.isin(labels, (0, 1)) & ~np.isnan(labels))) is not None:
        raise FeatureError(task.label_column, f"{column[row].as_py()!r} is not a label of {task.name}: 0, 1 or empty", row)
    if not isinstance(task, BinaryTask) and task.transform == "log1p" and (row := first_where(labels < 0)) is not None:
        raise FeatureError(task.label_column, f"{labels[row]} is negative; {task.name} is learnt as log1p", row)
    return pa.array(labels.astype(np.float32), from_pandas=True)


def encode_group(column: pa.Array, name: str) -> pa.Array:
    """Number groups: whole numbers stand for themselves, anything else for the hash of its text."""
    if column.null_count:
        raise FeatureError(name, "the group is empty", first_where(column.is_null().to_numpy(zero_copy_only=False)))
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    coded = as_text(column).dictionary_encode()
    hashes = [xxhash.xxh64_intdigest(text.encode(), HASH_SEED) >> 1 for text in coded.dictionary.to_pylist()]
    return pc.take(pa.array(hashes, pa.int64()), coded.indices)
