"""Arrow arrays of raw values in their canonical form: text for ids, float64 for numbers, flat values for lists."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class FeatureError(ValueError):
    """A raw value that a feature cannot take; ``row`` counts from 0 in the table that was encoded."""

    def __init__(self, column: str, message: str, row: int | None = None) -> None:
        self.column = column
        self.row = row
        super().__init__(f"{column}: {message}" + ("" if row is None else f" (row {row + 1})"))


def array(values: Sequence[Any]) -> pa.Array:
    """Build an array from a request's values; a mixture of types becomes text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([[_text(v) for v in x] if isinstance(x, list | tuple) else _text(x) for x in values])


def as_text(values: pa.Array) -> pa.Array:
    """Write ids as text, the same for ``7``, ``7.0`` and ``"7"``; empty text and NaN become null."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        return _float_text(values)
    texts = values.cast(pa.string())
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def as_numbers(values: pa.Array, column: str) -> Floats:
    """Read numbers as float64; null and non-finite become NaN.

    Raises:
        FeatureError: a value that is not a number.
    """
    try:
        numbers = values.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row, value = next(((i, v) for i, v in enumerate(values.to_pylist()) if not _is_number(v)), (None, None))
        raise FeatureError(column, f"{value!r} is not a number", row) from None
    result = np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
    result[~np.isfinite(result)] = np.nan
    return result


def as_lists(values: pa.Array, column: str, separator: str | None) -> tuple[pa.Array, Ints]:
    """Split a column of lists into its flat values and each row's length; null is an empty list.

    Raises:
        FeatureError: cells that are neither lists nor text with a known separator.
    """
    if pa.types.is_null(values.type):
        return pa.array([], pa.string()), np.zeros(len(values), np.int64)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        if separator is None:
            raise FeatureError(column, "expected a list of values; for text, name the feature's separator")
        values = pc.split_pattern(as_text(values), separator)
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        raise FeatureError(column, f"expected a list of values, got {values.type}")
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return values.flatten(), lengths


def trim(lengths: Ints, limit: int, *, keep: str) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Mask the flat values that stay when every list keeps its ``first`` or ``last`` ``limit`` values."""
    if lengths.size == 0 or lengths.max(initial=0) <= limit:
        return np.ones(int(lengths.sum()), np.bool_), lengths
    starts = np.cumsum(lengths) - lengths
    position = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    mask = position < limit if keep == "first" else position >= np.repeat(lengths - limit, lengths)
    return mask, np.minimum(lengths, limit)


def lists_of(values: npt.NDArray[np.int32], lengths: Ints) -> pa.Array:
    """Build a list column from flat values and row lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def single_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a table's column as one contiguous array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def first_where(mask: Iterable[bool] | npt.NDArray[np.bool_]) -> int | None:
    """Return the first position at which ``mask`` holds."""
    hits = np.flatnonzero(np.asarray(mask))
    return int(hits[0]) if hits.size else None


def _float_text(values: pa.Array) -> pa.Array:
    numbers = np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    whole = np.isfinite(numbers) & (np.abs(numbers) < 2**63) & (numbers == np.floor(numbers))
    as_integer = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
    as_float = pa.array(numbers).cast(pa.string())
    return pc.if_else(pa.array(whole), as_integer, pc.if_else(pa.array(np.isnan(numbers)), None, as_float))


def _text(value: Any) -> str | None:
    return None if value is None else as_text(pa.array([value]))[0].as_py()


def _is_number(value: Any) -> bool:
    try:
        float(value if value is not None else 0)
    except (TypeError, ValueError):
        return False
    return True
