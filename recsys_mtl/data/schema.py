"""The feature schema: what a data set's columns mean, once for training and serving."""

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from recsys_mtl.config import Config
from recsys_mtl.tasks import BinaryTask, Task

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Entity = Literal["user", "item", "context"]
Raw = str | int | float | bool

UNKNOWN_ID = 0
"""Row of every table for values that training did not see often enough."""
MISSING_ID = 1
"""Row of every table for an empty cell of a feature without a default."""
FIRST_ID = 2
"""First row that stands for a value."""


class Vocabulary(Config):
    """Every value seen often enough in training has a row of its own."""

    kind: Literal["vocabulary"] = "vocabulary"
    min_count: PositiveInt = 1
    """Values seen less often in the training split share the unknown row."""
    max_size: PositiveInt | None = None
    """Keep only the most frequent values."""


class Hashing(Config):
    """Values fall into buckets by xxh64 with seed 0 of their text: no fit, new values at any time, collisions."""

    kind: Literal["hash"] = "hash"
    buckets: PositiveInt
    """Rows that values share, beside the unknown and the missing row."""


Encoding = Annotated[Vocabulary | Hashing, Field(discriminator="kind")]


class Table(Config):
    """One embedding table; features that name it share its rows and its encoding."""

    encoding: Encoding = Vocabulary()
    dim: Annotated[int, Field(gt=0, le=1024)] = 16
    """Embedding width D. Widths above 1024 are refused: torchrec returns zeros for them (torchrec#3673)."""


class FeatureBase(Config):
    """What every feature has."""

    name: Name
    entity: Entity
    """Whose property it is: serving looks it up, and encodes it, once per user, item or request."""


class IdFeature(FeatureBase):
    """One categorical value per impression."""

    kind: Literal["id"] = "id"
    column: str | None = None
    """Source column; the feature's own name where it is not given."""
    table: Name | None = None
    """Table it reads; one of the feature's own name where it is not given."""
    default: Raw | None = None
    """Value that stands in for an empty cell; without it the cell reads the table's missing row."""


class IdsFeature(FeatureBase):
    """A bag of categorical values, pooled into one vector."""

    kind: Literal["ids"] = "ids"
    column: str | None = None
    table: Name | None = None
    pooling: Literal["sum", "mean"] = "sum"
    max_length: PositiveInt = 50
    """Values kept per row, the first ones."""
    separator: str | None = None
    """Where the source cell is text: what stands between two values."""


class SequenceColumn(Config):
    """One of the aligned id columns of a behaviour sequence."""

    name: Name
    column: str | None = None
    table: Name | None = None
    target: Name | None = None
    """Id feature of the candidate that a target attention compares with; by default the item's feature on this table."""


class SequenceFeature(FeatureBase):
    """What a user did before this impression: aligned id columns, oldest first, most recent last."""

    kind: Literal["sequence"] = "sequence"
    columns: Annotated[tuple[SequenceColumn, ...], Field(min_length=1)]
    max_length: PositiveInt = 50
    """Events kept per row, the most recent ones."""
    separator: str | None = None
    """Where the source cells are text: what stands between two events."""


class NumberFeature(FeatureBase):
    """A quantity. With ``boundaries`` it is bucketed into an id; without, it is a dense input."""

    kind: Literal["number"] = "number"
    column: str | None = None
    default: float = 0.0
    """Raw value that stands in for an empty or non-finite cell of a dense input; a bucketed one has a missing row."""
    clip: tuple[float, float] | None = None
    """Raw values are clipped to this range, first of all."""
    log1p: bool = False
    """Then ``sign(x)·log(1+|x|)``."""
    standardise: bool = False
    """Then mean 0 and standard deviation 1 over the training split."""
    boundaries: tuple[float, ...] | None = None
    """Increasing raw values that cut the axis into ``len + 1`` buckets, each with a row of the feature's own table."""
    dim: Annotated[int, Field(gt=0, le=1024)] = 8
    """Embedding width of a bucketed number."""

    @model_validator(mode="after")
    def _buckets_make_sense(self) -> "NumberFeature":
        if self.boundaries is None:
            return self
        if self.log1p or self.standardise:
            raise ValueError("boundaries cut raw values: log1p and standardise would be ignored")
        if list(self.boundaries) != sorted(set(self.boundaries)) or not self.boundaries:
            raise ValueError("boundaries must be one or more strictly increasing numbers")
        return self


Feature = Annotated[IdFeature | IdsFeature | SequenceFeature | NumberFeature, Field(discriminator="kind")]


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
        problems = [*_duplicates(self), *_bad_spaces(self.tasks), *_pooling_conflicts(self), *_bad_targets(self)]
        used = {table for _, table in table_readers(self)}
        problems += [f"tables.{name}: no feature reads it" for name in self.tables if name not in used]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def table(self, name: str) -> Table:
        """Return the settings of a table that some id feature, bag or sequence reads."""
        return self.tables.get(name, Table())


def column_of(feature: IdFeature | IdsFeature | NumberFeature | SequenceColumn) -> str:
    """Source column of a feature or of a sequence's column."""
    return feature.column or feature.name


def table_of(feature: IdFeature | IdsFeature | SequenceColumn) -> str:
    """Name of the table that a feature or a sequence's column reads."""
    return feature.table or feature.name


def table_readers(schema: Schema) -> list[tuple[Feature, str]]:
    """Pair every feature with each table that it reads; bucketed numbers have private tables and are not listed."""
    pairs: list[tuple[Feature, str]] = []
    for feature in schema.features:
        if isinstance(feature, IdFeature | IdsFeature):
            pairs.append((feature, table_of(feature)))
        elif isinstance(feature, SequenceFeature):
            pairs += [(feature, table_of(column)) for column in feature.columns]
    return pairs


def source_columns(schema: Schema) -> tuple[str, ...]:
    """Every raw column that the features read, each once, in the schema's order."""
    names: dict[str, None] = {}
    for feature in schema.features:
        parts = feature.columns if isinstance(feature, SequenceFeature) else (feature,)
        names |= dict.fromkeys(column_of(part) for part in parts)
    return tuple(names)


def target_of(column: SequenceColumn, schema: Schema) -> str | None:
    """Name the id feature of the candidate that this column's events are compared with, if there is one."""
    if column.target:
        return column.target
    ids = (f for f in schema.features if isinstance(f, IdFeature) and f.entity == "item")
    return next((f.name for f in ids if table_of(f) == table_of(column)), None)


def _duplicates(schema: Schema) -> list[str]:
    names = [feature.name for feature in schema.features]
    names += [c.name for f in schema.features if isinstance(f, SequenceFeature) for c in f.columns]
    repeated = [f"features: {name!r} is used twice" for name, count in Counter(names).items() if count > 1]
    tasks = Counter(task.name for task in schema.tasks)
    return repeated + [f"tasks: {name!r} is used twice" for name, count in tasks.items() if count > 1]


def _bad_spaces(tasks: tuple[Task, ...]) -> list[str]:
    binary = {task.name for task in tasks if isinstance(task, BinaryTask)}
    spaces = [(task.name, task.space) for task in tasks if task.space is not None]
    return [
        f"tasks.{name}.space: {space!r} is not another binary task"
        for name, space in spaces
        if space not in binary - {name}
    ]


def _pooling_conflicts(schema: Schema) -> list[str]:
    poolings: dict[str, set[str]] = {}
    for feature in schema.features:
        if isinstance(feature, IdsFeature):
            poolings.setdefault(table_of(feature), set()).add(feature.pooling)
    return [f"tables.{name}: bags that share a table must pool alike" for name, p in poolings.items() if len(p) > 1]


def _bad_targets(schema: Schema) -> list[str]:
    ids = {f.name: table_of(f) for f in schema.features if isinstance(f, IdFeature)}
    columns = [c for f in schema.features if isinstance(f, SequenceFeature) for c in f.columns]
    return [
        f"features.{c.name}.target: {c.target!r} is not an id feature on table {table_of(c)!r}"
        for c in columns
        if c.target and ids.get(c.target) != table_of(c)
    ]
