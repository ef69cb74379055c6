"""The feature schema: what a data set's columns mean, once for training and serving."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, NonNegativeInt, model_validator

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.feature_kinds import (
    FIRST_ID,
    MISSING_ID,
    UNKNOWN_ID,
    Encoding,
    Entity,
    Feature,
    Hashing,
    IdFeature,
    IdPart,
    IdsFeature,
    Name,
    NumberFeature,
    Raw,
    SequenceColumn,
    SequenceFeature,
    Table,
    Vocabulary,
    column_of,
    parts_of,
    table_of,
)
from recsys_mtl.tasks import BinaryTask, Task, funnel

__all__ = [
    "FIRST_ID",
    "MISSING_ID",
    "UNKNOWN_ID",
    "Encoding",
    "Entity",
    "Feature",
    "Hashing",
    "IdFeature",
    "IdPart",
    "IdsFeature",
    "Name",
    "NumberFeature",
    "Raw",
    "Schema",
    "SequenceColumn",
    "SequenceFeature",
    "Table",
    "Vocabulary",
    "column_of",
    "parts_of",
    "source_columns",
    "table_of",
    "table_readers",
    "target_of",
]


class Schema(Config):
    """Features, tables and tasks of a data set, as a person writes them."""

    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    tables: dict[Name, Table] = {}
    """Settings of tables; one that a feature names without an entry here has the defaults."""
    group: str
    """Source column whose rows are ranked against each other: the user, for grouped AUC."""
    item: str | None = None
    """Source column that identifies a candidate in requests and answers."""
    weight: str | None = None
    """Source column with a weight for each row's loss."""
    version: NonNegativeInt = 1
    """Layout of this file."""

    @model_validator(mode="after")
    def _consistent(self) -> "Schema":
        checks = (_repeated_names, _bad_spaces, _bad_funnel, _bad_tables, _bad_targets, _leaks)
        if problems := [problem for check in checks for problem in check(self)]:
            raise ConfigError(problems)
        return self

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """Tables that have a vocabulary, in the order in which features name them."""
        tables = dict.fromkeys(table for _, table in table_readers(self))
        return tuple(name for name in tables if isinstance(self.table(name).encoding, Vocabulary))

    def table(self, name: str) -> Table:
        """Return the settings of a table that some id feature, bag or sequence reads."""
        return self.tables.get(name, Table())


def table_readers(schema: Schema) -> list[tuple[Feature, str]]:
    """Pair every feature with each table that it reads; bucketed numbers have private tables and are not listed."""
    return [(feature, table_of(part)) for feature, part in id_parts(schema)]


def id_parts(schema: Schema) -> list[tuple[Feature, IdPart]]:
    """List what looks ids up in a shared table, each with its feature."""
    pairs = ((feature, part) for feature in schema.features for part in parts_of(feature))
    return [(feature, part) for feature, part in pairs if not isinstance(part, NumberFeature)]


def source_columns(schema: Schema) -> tuple[str, ...]:
    """Every raw column that the features read, each once, in the schema's order."""
    return tuple(dict.fromkeys(column_of(part) for feature in schema.features for part in parts_of(feature)))


def target_of(column: SequenceColumn, schema: Schema) -> str | None:
    """Name the id feature of the candidate that this column's events are compared with, if there is one."""
    if column.target:
        return column.target
    ids = (f for f in schema.features if isinstance(f, IdFeature) and f.entity == "item")
    return next((f.name for f in ids if table_of(f) == table_of(column)), None)


def _repeated_names(schema: Schema) -> Iterator[str]:
    features = [feature.name for feature in schema.features]
    columns = [part.name for f in schema.features if isinstance(f, SequenceFeature) for part in f.columns]
    for field, names in (("features", features + columns), ("tasks", [task.name for task in schema.tasks])):
        yield from (f"{field}: {name!r} is used twice" for name, count in Counter(names).items() if count > 1)


def _bad_spaces(schema: Schema) -> Iterator[str]:
    binary = {task.name for task in schema.tasks if isinstance(task, BinaryTask)}
    for task in schema.tasks:
        if task.space is not None and task.space not in binary - {task.name}:
            yield f"tasks.{task.name}.space: {task.space!r} is not another binary task"


def _bad_funnel(schema: Schema) -> Iterator[str]:
    try:
        funnel(schema.tasks)
    except ConfigError as error:
        yield from error.problems


def _bad_tables(schema: Schema) -> Iterator[str]:
    used = {table for _, table in table_readers(schema)}
    yield from (f"tables.{name}: no feature reads it" for name in schema.tables if name not in used)
    poolings: dict[str, set[str]] = {}
    for feature in schema.features:
        if isinstance(feature, IdsFeature):
            poolings.setdefault(table_of(feature), set()).add(feature.pooling)
        if isinstance(feature, NumberFeature) and feature.boundaries is not None and feature.name in used:
            yield f"features.{feature.name}: another feature reads a table of this name, which its buckets need"
    yield from (f"tables.{name}: bags that share a table must pool alike" for name, p in poolings.items() if len(p) > 1)


def _bad_targets(schema: Schema) -> Iterator[str]:
    ids = {f.name: table_of(f) for f in schema.features if isinstance(f, IdFeature)}
    for column in (part for _, part in id_parts(schema) if isinstance(part, SequenceColumn)):
        if column.target and ids.get(column.target) != table_of(column):
            yield f"features.{column.name}.target: {column.target!r} is not an id feature on table {table_of(column)!r}"


def _leaks(schema: Schema) -> Iterator[str]:
    labels = {task.label_column: task.name for task in schema.tasks}
    for part in (part for feature in schema.features for part in parts_of(feature)):
        if (task := labels.get(column_of(part))) is not None:
            yield f"features.{part.name}: column {column_of(part)!r} is the label of task {task!r}"
