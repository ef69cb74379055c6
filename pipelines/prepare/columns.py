"""Arrow columns from NumPy arrays, with the types that a checker can follow."""

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy.typing as npt
import pyarrow as pa

Column: TypeAlias = "pa.Array[Any]"


def column(values: npt.NDArray[Any], *, known: npt.NDArray[Any] | None = None) -> Column:
    """Wrap values; cells that are not known, and NaN among numbers, become null."""
    array: Any = pa.array
    return cast(Column, array(values, mask=None if known is None else ~known, from_pandas=True))


def text_column(names: Sequence[str], codes: npt.NDArray[Any]) -> Column:
    """Write codes as text, by position in ``names``; a negative code becomes null."""
    table: Any = pa.array(names)
    return cast(Column, table.take(column(codes, known=codes >= 0)))


def list_column(offsets: npt.NDArray[Any], values: Column) -> Column:
    """Cut flat values into lists at ``offsets``."""
    lists: Any = pa.ListArray.from_arrays
    return cast(Column, lists(column(offsets), values))
