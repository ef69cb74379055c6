"""Encoded values of one side of a request: of its head (user and context, one row) or of its candidates."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_mtl.data.encode import raw_column
from recsys_mtl.data.feature_kinds import (
    MISSING_ID,
    UNKNOWN_ID,
    Feature,
    IdFeature,
    IdsFeature,
    NumberFeature,
    SequenceColumn,
    SequenceFeature,
    column_of,
)
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import Float32s, Ints, as_numbers, single_array

Flags = npt.NDArray[np.bool_]
Lists = tuple[Ints, Ints]
"""Flat ids, and how many of them each row has."""


@dataclass(frozen=True)
class Side:
    """Features of one side, by how they are held; the order of each kind is the schema's."""

    singles: tuple[IdFeature | NumberFeature, ...]
    """One id per row: categorical values and bucketed numbers."""
    bags: tuple[IdsFeature, ...]
    sequences: tuple[SequenceFeature, ...]
    dense: tuple[NumberFeature, ...]

    @classmethod
    def of(cls, schema: Schema, *, candidates: bool) -> "Side":
        """Take the features of items, or all others."""
        features = [feature for feature in schema.features if (feature.entity == "item") == candidates]
        return cls(
            singles=tuple(f for f in features if isinstance(f, IdFeature) or _is_bucketed(f)),  # type: ignore[misc]
            bags=tuple(f for f in features if isinstance(f, IdsFeature)),
            sequences=tuple(f for f in features if isinstance(f, SequenceFeature)),
            dense=tuple(f for f in features if isinstance(f, NumberFeature) and f.boundaries is None),
        )

    @property
    def lists(self) -> tuple[IdsFeature | SequenceColumn, ...]:
        """Everything that has a list of ids per row: bags, then the columns of sequences."""
        return (*self.bags, *(column for sequence in self.sequences for column in sequence.columns))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of everything that reads a column: singles, lists, dense inputs."""
        return tuple(part.name for part in (*self.singles, *self.lists, *self.dense))


def _is_bucketed(feature: Feature) -> bool:
    return isinstance(feature, NumberFeature) and feature.boundaries is not None


@dataclass(frozen=True)
class Encoded:
    """B rows of one side, in the order of its `Side`."""

    singles_FB: Ints
    lists: tuple[Lists, ...]
    dense_CB: Float32s
    empty_CB: Flags
    """Which of the dense inputs stand for an empty cell."""

    @classmethod
    def of(cls, table: pa.Table, side: Side, raw: pa.Table | None = None) -> "Encoded":
        """Take the columns of an encoded table; the ``raw`` one tells which numbers were there."""
        shape = (-1, table.num_rows)
        singles = [_numpy(table, feature.name) for feature in side.singles]
        dense = [_numpy(table, feature.name) for feature in side.dense]
        return cls(
            singles_FB=np.array(singles, np.int64).reshape(len(singles), table.num_rows),
            lists=tuple(_lists(table, part.name) for part in side.lists),
            dense_CB=np.array(dense, np.float32).reshape(shape if dense else (0, table.num_rows)),
            empty_CB=_empty(side, table.num_rows, raw),
        )

    def __len__(self) -> int:
        """B."""
        return int(self.singles_FB.shape[1])

    def take(self, rows: Ints) -> "Encoded":
        """Return these rows, of a side without lists of several rows' own order: as `pyarrow.Table.take` does."""
        return replace(
            self,
            singles_FB=self.singles_FB[:, rows],
            lists=tuple(_taken(pair, rows) for pair in self.lists),
            dense_CB=self.dense_CB[:, rows],
            empty_CB=self.empty_CB[:, rows],
        )

    def counts(self) -> Ints:
        """Count for each of the side's ``names`` the values, and how many of them are unknown and missing (N, 3)."""
        ids = len(self.singles_FB) + len(self.lists)
        counts = np.empty((ids + len(self.empty_CB), 3), np.int64)
        singles = counts[: len(self.singles_FB)]
        singles[:, 0] = len(self)
        singles[:, 1] = (self.singles_FB == UNKNOWN_ID).sum(1)
        singles[:, 2] = (self.singles_FB == MISSING_ID).sum(1)
        for row, (values_N, _) in enumerate(self.lists, len(self.singles_FB)):
            counts[row] = len(values_N), (values_N == UNKNOWN_ID).sum(), (values_N == MISSING_ID).sum()
        counts[ids:, 0], counts[ids:, 1], counts[ids:, 2] = len(self), 0, self.empty_CB.sum(1)
        return counts


def _empty(side: Side, rows: int, raw: pa.Table | None) -> Flags:
    empty_CB = np.zeros((len(side.dense), rows), np.bool_)
    for place, feature in enumerate(side.dense):
        if raw is not None:
            column = column_of(feature)
            empty_CB[place] = np.isnan(as_numbers(raw_column(raw, column), column))
    return empty_CB


def _numpy(table: pa.Table, name: str) -> npt.NDArray[np.generic]:
    return single_array(table[name]).to_numpy(zero_copy_only=False)


def _lists(table: pa.Table, name: str) -> Lists:
    column = single_array(table[name])
    assert isinstance(column, pa.ListArray)
    return column.flatten().to_numpy().astype(np.int64), np.diff(column.offsets.to_numpy()).astype(np.int64)


def _taken(pair: Lists, rows: Ints) -> Lists:
    values_N, lengths_B = pair
    starts_B = np.cumsum(lengths_B) - lengths_B
    lengths = lengths_B[rows]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return values_N[np.repeat(starts_B[rows], lengths) + within], lengths
