"""Cells of a request to ids and numbers, equal to what `recsys_mtl.data.encode.Encoder` makes of them.

The encoder works on Arrow columns, which pays from thousands of rows on. A request has one row or some hundred: there
a look-up per cell, and one pass over all numbers together, take a tenth of the time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from recsys_mtl.data.encode import Encoder, bucketise, default_text, hash64
from recsys_mtl.data.feature_kinds import (
    FIRST_ID,
    MISSING_ID,
    UNKNOWN_ID,
    Hashing,
    IdFeature,
    IdPart,
    IdsFeature,
    NumberFeature,
    SequenceFeature,
    column_of,
    table_of,
)
from recsys_mtl.data.values import FeatureError, Float32s, Floats, Ints, as_float32, first_where, text_of
from recsys_mtl.inference.encoded import Encoded, Flags, Lists, Side

Scalar: TypeAlias = str | int | None
ListCell: TypeAlias = Sequence[Scalar] | str | None
Columns: TypeAlias = Mapping[str, Sequence[object]]
"""Cells by raw column: text, whole numbers or None for ids, lists of these (or text to be split) for lists of ids,
numbers or None for numbers. No booleans and no fractions as ids: their text is left to the encoder."""

MOST_HASHES = 1_000_000
"""Texts whose hashes are remembered."""


class CellEncoder:
    """Encodes one side of requests."""

    def __init__(self, encoder: Encoder, side: Side) -> None:
        self.side = side
        tables = {table_of(part): LookUp(encoder, table_of(part)) for part in id_parts(side)}
        self.singles = [
            (feature, column_of(feature), tables[table_of(feature)] if isinstance(feature, IdFeature) else None)
            for feature in side.singles
        ]
        self.missing = [
            tables[table_of(f)].rows([default_text(f)])[0] if isinstance(f, IdFeature) and f.default is not None
            else MISSING_ID
            for f in side.singles
        ]  # fmt: skip
        self.bags = [(feature, tables[table_of(feature)]) for feature in side.bags]
        self.sequences = [(s, [tables[table_of(column)] for column in s.columns]) for s in side.sequences]
        self.numbers = Numbers.of(encoder, side.dense)

    def encode(self, columns: Columns, rows: int) -> Encoded:
        """Encode ``rows`` rows; an absent column counts as missing in every row.

        Raises:
            FeatureError: events of a sequence's columns that do not match, or a number beyond float32.
        """
        singles_FB = np.empty((len(self.singles), rows), np.int64)
        for i, (feature, column, lookup) in enumerate(self.singles):
            cells = columns.get(column)
            if cells is None:
                singles_FB[i] = self.missing[i]
            elif lookup is None:
                assert isinstance(feature, NumberFeature)
                singles_FB[i] = bucketise(feature, _numbers(cells))
            else:
                singles_FB[i] = lookup.rows(cells, self.missing[i])
        lists = [_bag(feature, lookup, columns.get(column_of(feature)), rows) for feature, lookup in self.bags]
        for sequence, lookups in self.sequences:
            lists += _sequence(sequence, lookups, columns, rows)
        return Encoded(singles_FB, tuple(lists), *self.numbers.encode(columns, rows))


def id_parts(side: Side) -> list[IdPart]:
    """List what looks ids up in a vocabulary or by their hash."""
    return [*(f for f in side.singles if isinstance(f, IdFeature)), *side.lists]


class LookUp:
    """Rows of one embedding table by the value of a cell."""

    def __init__(self, encoder: Encoder, table: str) -> None:
        encoding = encoder.spec.table(table).encoding
        self.buckets = encoding.buckets if isinstance(encoding, Hashing) else 0
        self.index: dict[str, int] = {} if self.buckets else encoder.index(table)

    def rows(self, cells: Sequence[object], missing: int = MISSING_ID) -> list[int]:
        """Return the row of every cell: text, a whole number or None."""
        get = self.index.get
        # Text and whole numbers are their own canonical text; only what is not found is looked at more closely.
        found = [get(cell if cell.__class__ is str else str(cell)) for cell in cells]
        if None in found:
            return [self._slowly(cell, missing) if row is None else row for cell, row in zip(cells, found, strict=True)]
        return found  # type: ignore[return-value]

    def _slowly(self, cell: object, missing: int) -> int:
        if (text := text_of(cell)) is None:
            return missing
        if not self.buckets:
            return self.index.get(text, UNKNOWN_ID)
        if len(self.index) >= MOST_HASHES:
            self.index = {}
        row = self.index[text] = FIRST_ID + hash64(text) % self.buckets
        return row


@dataclass(frozen=True)
class Numbers:
    """The transforms of all dense inputs at once, see `recsys_mtl.data.encode.transform`; C of them, as columns."""

    columns: tuple[str, ...]
    default_C1: Floats
    low_C1: Floats
    high_C1: Floats
    log_C: npt.NDArray[np.bool_]
    mean_C1: Floats
    deviation_C1: Floats

    @classmethod
    def of(cls, encoder: Encoder, features: tuple[NumberFeature, ...]) -> "Numbers":
        """Gather the settings of ``features``."""
        clips = [f.clip or (-np.inf, np.inf) for f in features]
        moments = [encoder.spec.moments[f.name] if f.standardise else (0.0, 1.0) for f in features]
        return cls(
            columns=tuple(column_of(f) for f in features),
            default_C1=_column([f.default for f in features]),
            low_C1=_column([low for low, _ in clips]),
            high_C1=_column([high for _, high in clips]),
            log_C=np.array([f.log1p for f in features], np.bool_),
            mean_C1=_column([mean for mean, _ in moments]),
            deviation_C1=_column([deviation for _, deviation in moments]),
        )

    def encode(self, columns: Columns, rows: int) -> tuple[Float32s, Flags]:
        """Return ``dense_CB``, and which of them stand for an empty cell.

        Raises:
            FeatureError: a number beyond float32.
        """
        absent = [None] * rows
        raw = [columns.get(column, absent) for column in self.columns]
        x_CB = _numbers(raw).reshape(len(raw), rows)
        empty_CB = np.isnan(x_CB)
        x_CB = np.clip(np.where(empty_CB, self.default_C1, x_CB), self.low_C1, self.high_C1)
        if self.log_C.any():
            logged = x_CB[self.log_C]
            x_CB[self.log_C] = np.sign(logged) * np.log1p(np.abs(logged))
        x_CB = (x_CB - self.mean_C1) / self.deviation_C1
        if (row := first_where(np.abs(x_CB).max(1, initial=0) > np.finfo(np.float32).max)) is not None:
            as_float32(x_CB[row], self.columns[row])
        return x_CB.astype(np.float32), empty_CB


def _column(values: list[float]) -> Floats:
    return np.array(values, np.float64).reshape(-1, 1)


def _numbers(cells: object) -> Floats:
    """Read numbers; None becomes NaN."""
    numbers = np.array(cells, np.float64)
    numbers[np.isinf(numbers)] = np.nan
    return numbers


def _bag(feature: IdsFeature, lookup: LookUp, cells: Sequence[object] | None, rows: int) -> Lists:
    lists = [_listed(cell, feature.separator)[: feature.max_length] for cell in cells or [None] * rows]
    return _flat(lists, lookup)


def _sequence(sequence: SequenceFeature, lookups: list[LookUp], columns: Columns, rows: int) -> list[Lists]:
    """Encode the aligned columns of a sequence: the last events of each row."""
    raw = [columns.get(column_of(column)) or [None] * rows for column in sequence.columns]
    split = [[_listed(cell, sequence.separator) for cell in cells] for cells in raw]
    for column, lists in zip(sequence.columns[1:], split[1:], strict=True):
        for row, (events, first) in enumerate(zip(lists, split[0], strict=True)):
            if len(events) != len(first):
                name = column_of(sequence.columns[0])
                message = f"{len(events)} events where {name} has {len(first)}; a sequence's columns are aligned"
                raise FeatureError(column_of(column), message, row)
    last = slice(-sequence.max_length, None)
    return [_flat([events[last] for events in lists], lookup) for lists, lookup in zip(split, lookups, strict=True)]


def _listed(cell: object, separator: str | None) -> Sequence[object]:
    """Return the values of a cell: a list, or text of several values."""
    if isinstance(cell, str):
        assert separator is not None, "text where the schema knows no separator"
        return cell.split(separator) if cell else ()
    return cell or ()  # type: ignore[return-value]


def _flat(lists: list[Sequence[object]], lookup: LookUp) -> Lists:
    values = [value for cells in lists for value in cells]
    lengths_B: Ints = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.array(lookup.rows(values), np.int64), lengths_B
