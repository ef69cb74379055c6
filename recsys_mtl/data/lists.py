"""Columns of lists: flat values and the length of every row's list."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.data.values import Array, FeatureError, Int32s, Ints, as_text, is_text


def as_lists(values: Array, column: str, separator: str | None) -> tuple[Array, Ints]:
    """Split a column of lists into its flat values and each row's length; null is an empty list.

    Raises:
        FeatureError: cells that are neither lists nor text with a known separator.
    """
    if pa.types.is_null(values.type):
        return pa.array([], pa.string()), np.zeros(len(values), np.int64)
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if is_text(values):
        if separator is None:
            raise FeatureError(column, "expected a list of values; for text, name the feature's separator")
        values = pc.split_pattern(as_text(values, column), separator)
    if not isinstance(values, pa.ListArray | pa.LargeListArray):
        raise FeatureError(column, f"expected a list of values, got {values.type}")
    lengths = values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return values.flatten(), lengths.astype(np.int64)


def trim(values: Array, lengths: Ints, limit: int, *, keep: Literal["first", "last"]) -> tuple[Array, Ints]:
    """Cut every list to its first or last ``limit`` values."""
    if lengths.max(initial=0) <= limit:
        return values, lengths
    position = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    mask = position < limit if keep == "first" else position >= np.repeat(lengths - limit, lengths)
    return values.filter(pa.array(mask)), np.minimum(lengths, limit)


def lists_of(values: Int32s, lengths: Ints) -> Array:
    """Build a list column from flat values and row lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.int32()))
