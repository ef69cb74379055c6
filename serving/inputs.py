"""Requests as raw tables: which names each part may carry, and what kind of value each takes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import pyarrow as pa

from recsys_mtl.data.golden import columns_by_entity
from recsys_mtl.data.schema import IdsFeature, Schema, SequenceFeature, column_of
from recsys_mtl.data.values import FeatureError, array
from serving.errors import MOST_PROBLEMS, RequestError
from serving.schemas import ScoreRequest

USER_ID, ITEM_ID = "user_id", "item_id"
INT64 = 2**63
SCALARS: frozenset[type] = frozenset({str, int, float, bool, type(None)})
LISTS: frozenset[type] = frozenset({list, type(None)})
ONE_VALUE = "text, a number, true, false or null"
NAMES = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"} | {
    type(None): "null"
}
ROWS = "\0rows"
"""Column that gives a table its number of rows where a request names no feature."""

Place = tuple[str | int, ...]
PlaceOf = Callable[[str, int | None], Place]
"""Says where in a request the value of a raw column and a row is."""


@dataclass(frozen=True)
class Part:
    """A part of the request: user, context or candidate."""

    columns: Mapping[str, frozenset[type]]
    """Raw columns that features of this entity read, with the Python types of their cells."""
    alias: str | None
    """Name under which a request may give `key` without knowing the data set's name for it."""
    key: str | None
    """Column of the data set that identifies the user or the item."""

    def unknown(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield names that mean nothing here, with a message; not more of them than an answer lists."""
        allowed = {*self.columns, *filter(None, (self.alias, self.key))}
        for name in sorted(set(names) - allowed)[:MOST_PROBLEMS]:
            close = get_close_matches(name[:64], allowed, 1)
            yield name, f"unknown feature; did you mean {close[0]!r}?" if close else "unknown feature"

    def values(self, cells: Mapping[str, Any], identity: Any = None) -> Mapping[str, Any]:
        """Return the cells with the key's, taken from its alias where the cells do not name it themselves."""
        if self.key not in self.columns or self.key in cells or self.alias in self.columns:
            return cells
        identity = cells.get(self.alias or "", identity)
        return cells if identity is None else {**cells, str(self.key): identity}


class Inputs:
    """Turns the parts of a request into raw tables, which the encoder reads as it reads logged columns."""

    def __init__(self, schema: Schema) -> None:
        types = cell_types(schema)
        columns = {entity: {name: types[name] for name in names} for entity, names in columns_by_entity(schema).items()}
        others = columns["context"] | columns["item"]
        self.user = Part(columns["user"], USER_ID, schema.group if schema.group not in others else None)
        self.context = Part(columns["context"], None, None)
        others = columns["user"] | columns["context"]
        self.candidate = Part(columns["item"], ITEM_ID, schema.item if schema.item not in others else None)

    def check_names(self, request: ScoreRequest) -> None:
        """Refuse features that the model does not know: a misspelt one would silently count as missing.

        Raises:
            RequestError: every unknown name.
        """
        problems: list[tuple[Place, str]] = [
            *((("user", name), msg) for name, msg in self.user.unknown(request.user)),
            *((("context", name), msg) for name, msg in self.context.unknown(request.context)),
        ]
        for name, msg in self.candidate.unknown(set().union(*(c.model_extra or () for c in request.candidates))):
            rows = [row for row, c in enumerate(request.candidates) if name in (c.model_extra or ())]
            problems += [(("candidates", row, name), msg) for row in rows[:MOST_PROBLEMS]]
        if problems:
            raise RequestError(sorted(problems, key=lambda problem: [str(part) for part in problem[0]]))

    def head(self, request: ScoreRequest) -> pa.Table:
        """Return user and context as a table of one row.

        Raises:
            RequestError: a value of a type that its feature does not take.
        """
        parts = (
            ("context", self.context.columns, request.context, request.context),
            ("user", self.user.columns, self.user.values(request.user), request.user),
        )
        columns = {
            name: column([cells[name]], types, in_head(part, name if name in given else USER_ID))
            for part, known, cells, given in parts
            for name, types in known.items()
            if name in cells
        }
        return table(columns, rows=1)

    def items(self, request: ScoreRequest) -> pa.Table:
        """Return the candidates as a table of one row each.

        Raises:
            RequestError: a value of a type that its feature does not take.
        """
        rows = [self.cells(c.model_extra or {}, c.item_id) for c in request.candidates]
        given = set().union(*rows)
        columns = {
            name: column([cells.get(name) for cells in rows], types, in_candidates(name))
            for name, types in self.candidate.columns.items()
            if name in given
        }
        return table(columns, rows=len(rows))

    def table_of(self, candidates: pa.Table) -> pa.Table:
        """Return candidates that came as a table as one of raw columns.

        Raises:
            RequestError: a column that no feature reads, or that comes twice.
        """
        names = candidates.column_names
        problems: list[tuple[Place, str]] = [
            (("candidates", name), message) for name, message in self.candidate.unknown(names)
        ]
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [(("candidates", name), "the column comes twice") for name in twice]
        if problems:
            raise RequestError(problems)
        columns: dict[str, Any] = {name: candidates[name] for name in names if name in self.candidate.columns}
        key = self.candidate.key
        if key in self.candidate.columns and key not in columns and ITEM_ID not in self.candidate.columns:
            columns[str(key)] = candidates[ITEM_ID]
        return table(columns, rows=candidates.num_rows)

    def cells(self, extra: Mapping[str, Any], item_id: int | str) -> Mapping[str, Any]:
        """Return a candidate's cells by raw column."""
        if ITEM_ID in self.candidate.columns:
            return {**extra, ITEM_ID: item_id}
        return self.candidate.values(extra, item_id)


def cell_types(schema: Schema) -> dict[str, frozenset[type]]:
    """Say for every raw column which Python types its cells may have."""
    types: dict[str, frozenset[type]] = {}
    for feature in schema.features:
        allowed = SCALARS
        if isinstance(feature, IdsFeature | SequenceFeature):
            allowed = LISTS if feature.separator is None else LISTS | {str}
        for part in feature.columns if isinstance(feature, SequenceFeature) else (feature,):
            types[column_of(part)] = types.get(column_of(part), allowed) & allowed
    return types


def in_head(part: str, name: str) -> Callable[[int], Place]:
    """Say where a value of the user or the context stands."""
    return lambda _: (part, name)


def in_candidates(name: str) -> Callable[[int], Place]:
    """Say where a value of each candidate stands."""
    return lambda row: ("candidates", row, name)


def place_in_candidates(column: str, row: int | None) -> Place:
    """Say where in the request a raw column's value is."""
    return ("candidates", column) if row is None else ("candidates", row, column)


@contextmanager
def placed(place: PlaceOf) -> Iterator[None]:
    """Say of a value that its feature cannot take where in the request it is."""
    try:
        yield
    except FeatureError as error:
        raise RequestError([(place(error.column, error.row), error.plain)]) from None


def table(columns: dict[str, Any], *, rows: int) -> pa.Table:
    """Make a table of ``rows`` rows, which it has even without columns."""
    return pa.table({ROWS: pa.nulls(rows), **columns})


def column(values: list[Any], types: frozenset[type], place: Callable[[int], Place]) -> Any:
    """Build an Arrow array from one feature's cells; ``place`` says where in the request a row's cell is.

    Raises:
        RequestError: every cell that is not of ``types``, or that is text among lists.
    """
    found = set(map(type, values))
    mixed = {list, str} <= found
    if mixed or not found <= types:
        raise RequestError(_misfits(values, types - {str} if mixed else types, place))
    if list in found and not {type(x) for cell in values if cell for x in cell} <= SCALARS:
        raise RequestError(_nested(values, place))
    try:
        return array(values)
    except OverflowError:  # integers that fit 64 bits only without a sign
        return array([_wide(cell) for cell in values])


def _misfits(values: list[Any], types: frozenset[type], place: Callable[[int], Place]) -> Iterator[tuple[Place, str]]:
    expected = "a list of values" if list in types else ONE_VALUE
    for row, value in enumerate(values):
        if type(value) not in types:
            yield place(row), f"expected {expected}, got {NAMES[type(value)]}"


def _nested(values: list[Any], place: Callable[[int], Place]) -> Iterator[tuple[Place, str]]:
    for row, cell in enumerate(values):
        for position, value in enumerate(cell or ()):
            if type(value) not in SCALARS:
                yield (*place(row), position), f"expected {ONE_VALUE}, got {NAMES[type(value)]}"


def _wide(value: Any) -> Any:
    """Write every integer as text, which is what an id is looked up by."""
    if isinstance(value, list):
        return [_wide(x) for x in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
