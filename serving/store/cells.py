"""Filling the cells of a small request: in Python's own types, as the fast way reads them."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import is_
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from recsys_mtl.data.values import Array, FeatureError, as_numbers, as_text
from serving.store.filling import Bools, Column, Unit, has
from serving.store.rows import Found

Cells: TypeAlias = Mapping[str, Sequence[Any]]
"""Cells of a request by raw column, None where it has none."""


def has_none(cells: Cells, units: Sequence[Unit]) -> bool:
    """Tell whether any cell is None."""
    # Identity alone is compared, which takes two thirds of the time of ``None in column``.
    columns = (cells.get(column.name, (None,)) for unit in units for column in unit)
    return any(any(map(is_, column, repeat(None))) for column in columns)


def lacking(cells: Cells, units: Sequence[Unit], rows: int) -> Bools:
    """Tell which rows miss a value; of a sequence, all of its columns."""
    mask = np.zeros(rows, np.bool_)
    for unit in units:
        if mask.all():
            break
        mask |= _absent(cells, unit, rows)
    return mask


def fill_cells(cells: Cells, units: Sequence[Unit], found: Found) -> dict[str, Sequence[Any]] | None:
    """Add stored values to the cells of a request, or say that they are of types that need more care: None."""
    filled = dict(cells)
    rows = len(found.rows)
    for unit in units:
        absent = _absent(cells, unit, rows)
        if not absent.any() or not has(found, unit):
            continue
        for column in unit:
            if (stored := _listed(found.column(column.name), column)) is None:
                return None
            own = cells.get(column.name)
            if own is None or absent.all():
                filled[column.name] = stored
            else:
                flags = absent.tolist()
                filled[column.name] = [s if lacks else o for o, s, lacks in zip(own, stored, flags, strict=True)]
    return filled


def _absent(cells: Cells, unit: Unit, rows: int) -> Bools:
    mask = np.ones(rows, np.bool_)
    for column in unit:
        if (own := cells.get(column.name)) is not None:
            mask &= np.fromiter(map(is_, own, repeat(None)), np.bool_, rows)
    return mask


def _listed(values: Array, column: Column) -> list[Any] | None:
    """Write stored values as whole numbers and text for ids, as numbers for numbers, in lists where these are read."""
    dtype = values.type
    if pa.types.is_null(dtype):
        return [None] * len(values)
    try:
        if column.is_number:
            return list(as_numbers(values, column.name).tolist())
        if column.is_list:
            return _lists(values, column)
        if column.is_shared:  # by an id and a number: text would not do for the one, nor a fraction for the other
            return values.to_pylist() if pa.types.is_integer(dtype) else None
        plain = pa.types.is_integer(dtype) or pa.types.is_string(dtype)
        return (values if plain else as_text(values, column.name)).to_pylist()
    except FeatureError:
        return None


def _lists(values: Array, column: Column) -> list[Any] | None:
    dtype = values.type
    if pa.types.is_string(dtype):
        return None if column.separator is None else values.to_pylist()
    if not isinstance(dtype, pa.ListType):
        return None
    inner = dtype.value_type
    plain = pa.types.is_integer(inner) or pa.types.is_string(inner) or pa.types.is_null(inner)
    return values.to_pylist() if plain else None
