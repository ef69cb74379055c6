"""Arrow arrays of raw values in their canonical form: text for ids, float64 for numbers."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array: TypeAlias = "pa.Array[Any]"
Column: TypeAlias = "pa.ChunkedArray[Any] | pa.Array[Any]"
Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]


class FeatureError(ValueError):
    """A raw value that a feature cannot take; ``row`` counts from 0 in the table that was encoded, or in ``split``."""

    def __init__(self, column: str, message: str, row: int | None = None, split: str = "", plain: str = "") -> None:
        self.column, self.message, self.row, self.split = column, message, row, split
        self.plain = plain or message
        """The message without the value, for those who answer to others."""
        place = split if row is None else f"{split} row {row + 1:,}" if split else f"row {row + 1}"
        super().__init__(f"{column}: {message}" + (f" ({place})" if place else ""))

    def __reduce__(self) -> tuple[type["FeatureError"], tuple[str, str, int | None, str, str]]:
        # Errors travel between processes; an exception is otherwise remade from its text alone.
        return type(self), (self.column, self.message, self.row, self.split, self.plain)

    def within(self, split: str, start: int) -> "FeatureError":
        """Return the error with its row counted in the whole split, ``start`` rows of which came before this table."""
        return FeatureError(
            self.column, self.message, None if self.row is None else start + self.row, split, self.plain
        )


def array(values: Sequence[Any]) -> Array:
    """Build an array from a request's values; a mixture of types becomes text."""
    try:
        made: Array = pa.array(values)
        if not _hides_bools(made, values):
            return made
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        pass
    return pa.array([[text_of(v) for v in x] if isinstance(x, list | tuple) else text_of(x) for x in values])


def as_text(values: Array, column: str) -> Array:
    """Write ids as text, the same for ``7``, ``7.0`` and ``"7"``; empty text and non-finite numbers become null.

    Raises:
        FeatureError: values of a type that is no id, such as lists or times.
    """
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        return _float_text(values)
    if pa.types.is_temporal(values.type) and not pa.types.is_date(values.type):  # a request could not know its text
        raise FeatureError(column, f"{values.type} values are no ids; make them text")
    try:
        texts = values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise FeatureError(column, f"expected one value in each cell, got {values.type}") from None
    present: Array = pc.if_else(pc.equal(texts, pa.scalar("")), None, texts)
    return present


def distinct_texts(values: Array, column: str) -> tuple[list[str | None], Int32s]:
    """Write every distinct value as text, None for missing ones, and say which of them each cell holds.

    Raises:
        FeatureError: values of a type that is no id.
    """
    try:
        coded = values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
    except pa.ArrowNotImplementedError:
        coded = as_text(values, column).dictionary_encode()
    texts = as_text(coded.dictionary, column).to_pylist()
    indices = coded.indices.cast(pa.int32()).fill_null(len(texts))
    return [*texts, None], indices.to_numpy()


def as_numbers(values: Array, column: str) -> Floats:
    """Read numbers as float64; null, empty text and non-finite numbers become NaN.

    Raises:
        FeatureError: a value that is not a number.
    """
    try:
        numbers = _float64(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row = bisect_left(range(len(values)), True, key=lambda last: not _is_numeric(values.slice(0, last + 1)))
        raise FeatureError(column, f"{_shown(values[row])} is not a number", row, plain="expected a number") from None
    result = np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
    result[~np.isfinite(result)] = np.nan
    return result


def _shown(value: "pa.Scalar[Any]") -> str:
    try:
        return f"{value.as_py()!r:.80}"
    except (OverflowError, ValueError):  # a time that Python's calendar does not reach
        return f"a {value.type}"


def as_float32(values: Floats, column: str) -> Float32s:
    """Narrow numbers to what shards and models hold.

    Raises:
        FeatureError: a number beyond float32.
    """
    refuse_large(values, column)
    return values.astype(np.float32)


def refuse_large(values: Floats, column: str) -> None:
    """Check that float32 can hold the numbers.

    Raises:
        FeatureError: it cannot.
    """
    if (row := first_where(np.abs(values) > np.finfo(np.float32).max)) is not None:
        raise FeatureError(column, "the number is too large for the model", row)


def single_array(column: Column) -> Array:
    """Return a table's column as one contiguous array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunks[0] if column.num_chunks == 1 else column.combine_chunks()


def is_text(values: Array) -> bool:
    """Tell whether cells are text of whatever layout."""
    dtype = values.type
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)


def first_where(mask: Iterable[bool] | npt.NDArray[np.bool_]) -> int | None:
    """Return the first position at which ``mask`` holds."""
    hits = np.flatnonzero(np.asarray(mask))
    return int(hits[0]) if hits.size else None


def text_of(value: Any) -> str | None:
    """Write one value of a request as `as_text` does; a whole number may be of any size."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode() or None  # a lone surrogate, which JSON can hold but not UTF-8
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value is None else as_text(pa.array([value]), "")[0].as_py()


def _hides_bools(made: Array, values: Sequence[Any]) -> bool:
    """Spot ``[true, 1.5]``, which Arrow takes for the numbers 1 and 1.5."""
    if not isinstance(made, pa.ListArray):
        return pa.types.is_floating(made.type) and bool in map(type, values)
    cells = chain.from_iterable(x for x in values if x is not None)
    return pa.types.is_floating(made.type.value_type) and bool in map(type, cells)


def _float_text(values: Array) -> Array:
    numbers = np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    finite = np.isfinite(numbers)
    whole = finite & (np.abs(numbers) < 2**63) & (numbers == np.floor(numbers))
    as_integer = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
    as_float = pa.array(numbers).cast(pa.string())
    texts: Array = pc.if_else(pa.array(whole), as_integer, pc.if_else(pa.array(finite), as_float, None))
    return texts


def _float64(values: Array) -> Array:
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    texts = as_text(values, "") if is_text(values) else values
    return texts.cast(pa.float64(), safe=False)  # safe: refuses integers that float64 rounds


def _is_numeric(values: Array) -> bool:
    try:
        _float64(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True
