"""How the cells of a file become raw values, and which cells are refused."""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from pipelines.prepare.table_config import CsvOptions, LabelRule
from recsys_mtl.config import ConfigError

LARGEST_EXACT = 2**53
"""From here on, a floating-point number no longer tells neighbouring ids apart."""


@dataclass(frozen=True)
class Check:
    """Cells that are refused: where ``bad`` holds."""

    column: str
    bad: pl.Expr
    wants: str
    """What is expected instead."""
    got: pl.Expr
    """What a message shows."""


@dataclass(frozen=True)
class Cells:
    """Raw values of one column, with the checks that they need."""

    value: pl.Expr
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Source:
    """One column of one file, cleaned."""

    column: str
    dtype: pl.DataType
    expr: pl.Expr

    @classmethod
    def of(cls, column: str, dtype: pl.DataType, csv: CsvOptions | None) -> "Source":
        """Take blanks and null texts out of text; make text of categories."""
        if isinstance(dtype, pl.Categorical | pl.Enum):
            return cls(column, pl.String(), pl.col(column).cast(pl.String))
        if csv is None or dtype != pl.String:
            return cls(column, dtype, pl.col(column))
        text = pl.col(column).str.strip_chars()
        return cls(column, dtype, pl.when(~text.is_in(["", *csv.nulls])).then(text))

    @property
    def is_text(self) -> bool:
        """Whether cells are text."""
        return self.dtype == pl.String

    def check(self, bad: pl.Expr, wants: str) -> Check:
        """Refuse cells of this column."""
        return Check(self.column, bad.fill_null(value=False), wants, pl.col(self.column))

    def refuse(self, wants: str) -> ConfigError:
        """Say that the whole column has the wrong type."""
        return ConfigError([f"column {self.column!r} holds {self.dtype}, expected {wants}"])


def ids(source: Source, *, as_text: bool) -> Cells:
    """Read one id per cell, as whole numbers or text; ``as_text`` where another file of the table holds text."""
    if source.dtype.is_float() or source.dtype.is_decimal():
        number = source.expr.cast(pl.Float64).fill_nan(None)
        bad = (number != number.floor()) | (number.abs() >= LARGEST_EXACT) | number.is_infinite()
        cells = Cells(number.cast(pl.Int64, strict=False), (source.check(bad, "a whole number below 2**53 or text"),))
    elif source.dtype.is_integer():
        number = source.expr.cast(pl.Int64, strict=False)
        bad = source.expr.is_not_null() & number.is_null()
        cells = Cells(number, (source.check(bad, "an id below 2**63"),))
    elif source.dtype.is_nested() or source.dtype in (pl.Binary, pl.Object):
        raise source.refuse("one id per row")
    else:
        return Cells(source.expr.cast(pl.String))
    return Cells(cells.value.cast(pl.String), cells.checks) if as_text else cells


def numbers(source: Source, wants: str = "a number") -> Cells:
    """Read quantities; NaN and infinity stay for the encoder, which treats them as missing."""
    if source.is_text:
        number = source.expr.cast(pl.Float64, strict=False)
        return Cells(number, (source.check(source.expr.is_not_null() & number.is_null(), wants),))
    if source.dtype.is_numeric() or source.dtype in (pl.Boolean, pl.Null):
        return Cells(source.expr.cast(pl.Float64))
    raise source.refuse(wants)


def amounts(source: Source, *, least: float | None, required: bool = False) -> Cells:
    """Read finite numbers, from ``least`` on; NaN is an empty cell."""
    wants = "a finite number" if least is None else f"a finite number from {least:g} on"
    cells = numbers(source, wants)
    value = cells.value.fill_nan(None)
    bad = value.is_infinite() if least is None else value.is_infinite() | (value < least)
    checks = (*cells.checks, source.check(bad, wants))
    empty = source.check(source.expr.is_null() | cells.value.is_nan(), wants)
    return Cells(value, (*checks, empty) if required else checks)


def events(source: Source) -> Cells:
    """Read yes-or-no labels: 0, 1, true, false or empty."""
    if source.is_text:
        text = source.expr.str.to_lowercase()
        yes, no = text.is_in(["1", "1.0", "true"]), text.is_in(["0", "0.0", "false"])
        known = source.expr.is_not_null()
    else:
        number = numbers(source, "labels 0 and 1").value.fill_nan(None)
        yes, no, known = number == 1, number == 0, number.is_not_null()
    value = pl.when(known).then(yes.cast(pl.Int8))
    return Cells(value, (source.check(known & ~yes & ~no, "0, 1, true, false or an empty cell"),))


def rule_labels(source: Source, rule: LabelRule) -> Cells:
    """Apply a label rule."""
    if rule.at_least is not None:
        cells = amounts(source, least=None)
        return Cells((cells.value >= rule.at_least).cast(pl.Int8), cells.checks)
    assert rule.positive is not None
    if source.is_text or source.dtype == pl.Boolean:
        positive = [str(value).lower() if isinstance(value, bool) else str(value) for value in rule.positive]
        return Cells(source.expr.cast(pl.String).is_in(positive).cast(pl.Int8))
    number = numbers(source, "text or numbers").value.fill_nan(None)
    try:
        return Cells(number.is_in([float(value) for value in rule.positive]).cast(pl.Int8))
    except ValueError:
        raise source.refuse(f"text such as {rule.positive[0]!r}") from None


def lists(source: Source, separator: str | None) -> Cells:
    """Read several ids per cell: a list, or text with a separator that the encoder splits."""
    if isinstance(source.dtype, pl.List | pl.Array):
        if separator is not None:
            raise source.refuse(f"text with {separator!r} between values; leave out the separator to read lists")
        inner = source.dtype.inner
        if isinstance(inner, pl.DataType) and inner.is_nested():
            raise source.refuse("lists of ids")
        keep = isinstance(inner, pl.DataType) and (inner.is_integer() or inner.is_float())
        value = source.expr.arr.to_list() if isinstance(source.dtype, pl.Array) else source.expr
        return Cells(value if keep else value.cast(pl.List(pl.String)))
    if not (source.is_text or source.dtype.is_integer()):
        raise source.refuse("lists, or text with a separator")
    if separator is None:
        raise source.refuse("lists; for text, say with `separator` what stands between two values")
    return Cells(source.expr.cast(pl.String))


def aligned(parts: Iterable[tuple[Source, Cells]], separator: str | None) -> tuple[Check, ...]:
    """Check that the columns of a sequence have equally many events in every row."""
    (first, first_cells), *others = parts
    expected = _lengths(first_cells.value, separator)
    wants = f"as many events as column {first.column!r} has"
    return tuple(
        Check(other.column, _lengths(cells.value, separator) != expected, wants, _lengths(cells.value, separator))
        for other, cells in others
    )


def _lengths(value: pl.Expr, separator: str | None) -> pl.Expr:
    if separator is None:
        return value.list.len().fill_null(0)
    return (value.str.count_matches(separator, literal=True) + 1).fill_null(0)
