"""Labels, groups and weights: the columns of a shard that are not features."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_mtl.data.encode import hash64, raw_column
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import Array, FeatureError, as_float32, as_numbers, distinct_texts, first_where
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
        table = table.append_column(WEIGHT, encode_weight(raw_column(raw, schema.weight), schema.weight))
    return table


def encode_label(task: Task, raw: pa.Table) -> Array:
    """Check a label column: 0 or 1 (or null) for an event, a number (or null) for an amount."""
    name = task.label_column
    labels = as_numbers(raw_column(raw, name), name)
    if isinstance(task, BinaryTask):
        if (row := first_where(~np.isnan(labels) & (labels != 0) & (labels != 1))) is not None:
            raise FeatureError(name, f"{labels[row]:g} is not a label of {task.name}: 0, 1 or empty", row)
    elif task.transform == "log1p" and (row := first_where(labels < 0)) is not None:
        raise FeatureError(name, f"{labels[row]:g} is negative; {task.name} is learnt as log1p", row)
    return pa.array(as_float32(labels, name), from_pandas=True)


def encode_group(column: Array, name: str) -> Array:
    """Number groups: whole numbers stand for themselves, anything else for the hash of its text.

    Raises:
        FeatureError: an empty cell.
    """
    if pa.types.is_integer(column.type) and column.type != pa.uint64():
        _refuse_empty(column.is_null().to_numpy(zero_copy_only=False), name)
        return column.cast(pa.int64())
    texts, cells = distinct_texts(column, name)
    _refuse_empty(np.array([text is None for text in texts])[cells], name)
    hashes = [0 if text is None else hash64(text) >> 1 for text in texts]
    return pa.array(np.array(hashes, np.int64)[cells])


def _refuse_empty(empty: npt.NDArray[np.bool_], name: str) -> None:
    if (row := first_where(empty)) is not None:
        raise FeatureError(name, "the group is empty", row)


def encode_weight(column: Array, name: str) -> Array:
    """Check the rows' weights.

    Raises:
        FeatureError: a weight that is empty or negative.
    """
    weights = as_numbers(column, name)
    if (row := first_where(~(weights >= 0))) is not None:
        raise FeatureError(name, "a weight must be zero or more", row)
    return pa.array(as_float32(weights, name))
