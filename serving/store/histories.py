"""A user's histories: which values an event adds to them, and a stored user with the latest events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_mtl.data.schema import IdFeature, Schema, SequenceFeature, column_of, target_of
from recsys_mtl.data.values import array
from serving.store.publication import AS_OF
from serving.store.rows import Event, Found


@dataclass(frozen=True)
class History:
    """A sequence of what a user did."""

    name: str
    sources: Mapping[str, str | None]
    """For each raw column of the sequence, the raw column of the item whose value an event adds to it, if any."""
    max_length: int
    separator: str | None


def histories_of(schema: Schema) -> dict[str, History]:
    """Describe the users' sequences, by name."""
    ids = {feature.name: column_of(feature) for feature in schema.features if isinstance(feature, IdFeature)}
    found: dict[str, History] = {}
    for feature in schema.features:
        if isinstance(feature, SequenceFeature) and feature.entity == "user":
            targets = {column_of(column): target_of(column, schema) for column in feature.columns}
            sources = {name: None if target is None else ids[target] for name, target in targets.items()}
            found[feature.name] = History(feature.name, sources, feature.max_length, feature.separator)
    return found


def extended(user: Found, events: Sequence[Event], histories: Mapping[str, History]) -> Found:
    """Return a user's row with the events in its histories that it does not know of yet, each cut to its length."""
    row = user.table.slice(int(user.rows[0]), 1) if user.hits else pa.table({})
    known_ms = row[AS_OF][0].as_py() if AS_OF in row.column_names else None
    fresh = [event for event in events if known_ms is None or event.time_ms > known_ms]
    if not fresh:
        return user
    columns = {name: row[name].combine_chunks() for name in row.column_names}
    for history in histories.values():
        if own := [event for event in fresh if event.sequence == history.name]:
            columns |= {name: array([cell]) for name, cell in _cells(row, history, own)}
    return Found(pa.table(columns), np.zeros(1, np.int64))


def _cells(row: pa.Table, history: History, events: Sequence[Event]) -> Iterator[tuple[str, list[Any]]]:
    stored = {name: _listed(row, name, history.separator) for name in history.sources}
    if len({len(cell) for cell in stored.values()}) > 1:  # of a model with other columns: they cannot be aligned
        stored = {name: [] for name in stored}
    for name, cell in stored.items():
        yield name, [*cell, *(event.values.get(name) for event in events)][-history.max_length :]


def _listed(row: pa.Table, name: str, separator: str | None) -> list[Any]:
    cell = row[name][0].as_py() if name in row.column_names else None
    if isinstance(cell, str):
        return cell.split(separator) if separator is not None and cell else []
    return cell or []
