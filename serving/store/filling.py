"""Filling what a request leaves out with what is stored; what the request brings wins, value by value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_mtl.data.feature_kinds import Entity, IdsFeature, NumberFeature, SequenceFeature, column_of, parts_of
from recsys_mtl.data.lists import as_lists
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import Array, Ints, as_numbers, as_text, single_array
from serving.store.rows import Found

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """A raw column, and how it is read."""

    name: str
    is_list: bool = False
    is_number: bool = False
    is_shared: bool = False
    """Read by an id and by a number."""
    separator: str | None = None


Unit = tuple[Column, ...]
"""Columns that are filled together: those of a sequence are aligned, and so all of one origin."""


def units_of(schema: Schema, entity: Entity) -> list[Unit]:
    """List an entity's raw columns by what is filled together, each column once."""
    features = sorted(
        (f for f in schema.features if f.entity == entity), key=lambda f: not isinstance(f, SequenceFeature)
    )
    columns = _columns(schema)
    units: list[Unit] = []
    seen: set[str] = set()
    for feature in features:
        names = [name for name in dict.fromkeys(map(column_of, parts_of(feature))) if name not in seen]
        seen.update(names)
        if names:
            units.append(tuple(columns[name] for name in names))
    return units


def _columns(schema: Schema) -> Mapping[str, Column]:
    columns: dict[str, Column] = {}
    for feature in schema.features:
        listed = isinstance(feature, IdsFeature | SequenceFeature)
        separator = feature.separator if isinstance(feature, IdsFeature | SequenceFeature) else None
        for part in parts_of(feature):
            name, number = column_of(part), isinstance(part, NumberFeature)
            before = columns.get(name)
            shared = before is not None and (before.is_shared or before.is_number != number)
            columns[name] = Column(name, listed, number and not shared, shared, separator)
    return columns


def gaps(given: pa.Table, units: Sequence[Unit]) -> Bools:
    """Tell which rows miss a value; of a sequence, all of its columns."""
    columns = dict(zip(given.column_names, given.columns, strict=True))
    mask = np.zeros(given.num_rows, np.bool_)
    for unit in units:
        present = [columns[column.name] for column in unit if column.name in columns]
        if all(column.null_count for column in present):
            mask |= ~_given(given, unit)
    return mask


def fill(given: pa.Table, units: Sequence[Unit], found: Found) -> pa.Table:
    """Add stored values to rows of a request; null stands for what the request leaves out.

    Raises:
        FeatureError: a given value that its feature cannot take.
    """
    columns = {name: single_array(given[name]) for name in given.column_names}
    for unit in units:
        is_given = _given(given, unit)
        if is_given.all() or not has(found, unit):
            continue
        for column in unit:
            own = columns.get(column.name)
            stored = found.column(column.name)
            columns[column.name] = (
                stored if own is None or not is_given.any() else _merged(own, stored, is_given, column)
            )
    return pa.table(columns)


def has(found: Found, unit: Unit) -> bool:
    """Tell whether a store has a unit; a part of a sequence is none."""
    return all(column.name in found.columns for column in unit)


def _given(given: pa.Table, unit: Unit) -> Bools:
    mask = np.zeros(given.num_rows, np.bool_)
    for column in unit:
        if column.name in given.column_names:
            mask |= given[column.name].is_valid().to_numpy()
    return mask


def _merged(own: Array, stored: Array, is_given: Bools, column: Column) -> Array:
    """Take each row's value from one of two columns."""
    if own.type != stored.type:
        own, stored = _alike(own, column), _alike(stored, column)
    rows = np.arange(len(own), dtype=np.int64)
    chosen = pa.array(np.where(is_given, rows, len(own) + rows), pa.int64())
    merged: Array = pa.concat_arrays([own, stored]).take(chosen)
    return merged


def _alike(values: Array, column: Column) -> Array:
    """Write values of whatever type as the encoder would understand them."""
    if column.is_list:
        flat, lengths = as_lists(values, column.name, column.separator)
        return lists(as_text(flat, column.name), lengths)
    return pa.array(as_numbers(values, column.name)) if column.is_number else as_text(values, column.name)


def lists(flat: Array, lengths: Ints) -> Array:
    """Build a column of lists of text."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    made: Array = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat.cast(pa.string()))
    return made
