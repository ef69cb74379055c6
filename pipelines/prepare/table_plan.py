"""How one file of a table is read: an expression for every raw column, the row's split, and what to check."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from pipelines.prepare.table_cells import (
    Cells,
    Check,
    Source,
    aligned,
    amounts,
    events,
    ids,
    lists,
    numbers,
    rule_labels,
)
from pipelines.prepare.table_config import TableConfig
from pipelines.prepare.table_files import TableFile, file_name
from pipelines.prepare.table_split import split_column, split_of, split_reader
from recsys_mtl.config import ConfigError
from recsys_mtl.data.raw import raw_columns
from recsys_mtl.data.schema import IdFeature, NumberFeature, SequenceFeature, column_of
from recsys_mtl.tasks import BinaryTask, Task

SPLIT = "_split"
"""Column with the name of a row's split."""


@dataclass(frozen=True)
class Plan:
    """How one file is read."""

    file: TableFile
    columns: dict[str, pl.Expr]
    split: pl.Expr
    checks: tuple[Check, ...]
    used: tuple[str, ...]
    """Columns of the file itself that are read at all."""

    def rows(self) -> pl.LazyFrame:
        """Return the file's rows with their split; a text file's blank lines are no rows."""
        rows = self.file.rows
        if self.file.csv is not None:
            rows = rows.filter(pl.any_horizontal(pl.col(self.used).is_not_null()))
        return rows.with_columns(self.split.alias(SPLIT))


def plan_file(config: TableConfig, file: TableFile, texts: frozenset[str]) -> Plan:
    """Plan to read a file; ``texts`` are the columns that hold text in some file of the table.

    Raises:
        ConfigError: columns that are missing or of a type that cannot be read, all of them.
    """
    if problems := _missing(config, file):
        raise ConfigError(f"{file.path}: {problem}" for problem in problems)
    planner, names = _Planner(config, file, texts), raw_columns(config)
    try:
        *cells, sequences, split = together(
            [*(partial(planner.read, n) for n in names), planner.sequences, planner.split]
        )
    except ConfigError as error:
        raise ConfigError(f"{file.path}: {problem}" for problem in error.problems) from None
    checks = (*(check for read in cells for check in read.checks), *sequences, *split.checks)
    columns = {name: read.value for name, read in zip(names, cells, strict=True)}
    return Plan(
        file, columns, split.value, checks, tuple(column for column in readers(config) if column != config.file_column)
    )


def together(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Make every call, then report the problems of all of them at once."""
    results: list[Any] = []
    problems: list[str] = []
    for call in calls:
        try:
            results.append(call())
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return results


def readers(config: TableConfig) -> dict[str, str]:
    """Say of every column that the files must have which field reads it."""
    found: dict[str, str] = {}
    for feature in config.features:
        for part in feature.columns if isinstance(feature, SequenceFeature) else (feature,):
            found.setdefault(column_of(part), f"features.{feature.name}")
    for task in config.tasks:
        if task.label_column not in config.labels:
            found.setdefault(task.label_column, f"tasks.{task.name}")
    keys = {"group": config.group, "item": config.item, "weight": config.weight}
    keys[split_reader(config.split)] = split_column(config.split)
    for name, rule in config.labels.items():
        keys[f"labels.{name}"] = rule.column
    for field, column in keys.items():
        if column is not None:
            found.setdefault(column, field)
    return found


def _missing(config: TableConfig, file: TableFile) -> list[str]:
    wanted, found = readers(config), list(file.types)
    absent = [column for column in wanted if column not in file.types]
    if len(absent) == len(wanted) - (config.file_column in wanted) and file.csv is not None:
        first = file.csv.separator.join(found)
        hint = "if that is data, name the columns under csv.header; if it is one piece, set csv.separator"
        return [f"has none of the schema's columns; its columns are read as {first!r:.100}; {hint}"]
    return [f"column {column!r} is missing, {wanted[column]} reads it; {_nearest(column, found)}" for column in absent]


def _nearest(column: str, found: Sequence[str]) -> str:
    near = difflib.get_close_matches(column, found, n=1)
    shown = ", ".join(found[:20]) + (", ..." if len(found) > 20 else "")
    return f"did you mean {near[0]!r}?" if near else f"the file has {shown}"


@dataclass(frozen=True)
class _Planner:
    """Reads the columns of one file."""

    config: TableConfig
    file: TableFile
    texts: frozenset[str]

    def read(self, column: str) -> Cells:
        """Return the values of a raw column for the most demanding of its readers, with the checks of all."""
        readings = [*self._labels(column), *self._features(column), *self._keys(column)]
        return Cells(readings[0].value, tuple(check for cells in readings for check in cells.checks))

    def sequences(self) -> tuple[Check, ...]:
        """Return the checks that the columns of every sequence are aligned."""
        checks: list[Check] = []
        for feature in self.config.features:
            if isinstance(feature, SequenceFeature):
                sources = [self._source(column_of(part)) for part in feature.columns]
                pairs = [(source, lists(source, feature.separator)) for source in sources]
                checks += aligned(pairs, feature.separator)
        return tuple(checks)

    def split(self) -> Cells:
        """Return each row's split."""
        column = split_column(self.config.split)
        return split_of(self.config.split, self._source(column) if column else None, file_name(self.file.path))

    def _source(self, column: str) -> Source:
        return Source.of(column, self.file.types[column], self.file.csv)

    def _labels(self, column: str) -> Iterator[Cells]:
        for task in self.config.tasks:
            if task.label_column == column:
                rule = self.config.labels.get(column)
                yield rule_labels(self._source(rule.column), rule) if rule else _label(task, self._source(column))

    def _features(self, column: str) -> Iterator[Cells]:
        readings: list[tuple[int, Cells]] = []
        for feature in self.config.features:
            for part in feature.columns if isinstance(feature, SequenceFeature) else (feature,):
                if column_of(part) != column:
                    continue
                source = self._source(column)
                if isinstance(feature, IdFeature):
                    readings.append((2, ids(source, as_text=column in self.texts)))
                elif isinstance(feature, NumberFeature):
                    readings.append((1, numbers(source)))
                else:
                    readings.append((0, lists(source, feature.separator)))
        yield from (cells for _, cells in sorted(readings, key=lambda reading: reading[0]))

    def _keys(self, column: str) -> Iterator[Cells]:
        if column == self.config.weight:
            yield amounts(self._source(column), least=0, required=True)
        if column in (self.config.group, self.config.item):
            source = self._source(column)
            cells = ids(source, as_text=column in self.texts)
            empty = (source.check(cells.value.is_null(), "a value, for rows are ranked within their group"),)
            yield Cells(cells.value, cells.checks + empty) if column == self.config.group else cells


def _label(task: Task, source: Source) -> Cells:
    if isinstance(task, BinaryTask):
        return events(source)
    return amounts(source, least=0 if task.transform == "log1p" else None)
