"""What a person writes to bring a table of their own: the schema, how the files look, and who goes into which split."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, model_validator

from recsys_mtl.config import Config
from recsys_mtl.data.golden import columns_by_entity
from recsys_mtl.data.raw import SPLITS
from recsys_mtl.data.schema import Name, Raw, Schema, source_columns
from recsys_mtl.tasks import BinaryTask


def as_list(value: Any) -> Any:
    """Let a person write one value where several are allowed."""
    return value if isinstance(value, list | tuple) else [value]


def as_moment(value: Any) -> Any:
    """Read a day or a time as YAML gives it: ``2022-05-02``, ``20220502`` or ``2022-05-02 18:00:00``, in UTC."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError(f"expected a day such as 2022-05-02, got {value!r}") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


Values = Annotated[tuple[Raw, ...], BeforeValidator(as_list), Field(min_length=1)]
Moment = Annotated[datetime, BeforeValidator(as_moment)]
Share = Annotated[float, Field(gt=0, lt=1)]
Character = Annotated[str, Field(min_length=1, max_length=1)]


class CsvOptions(Config):
    """How the text files look. Blanks around cells never count, and empty cells are always null."""

    separator: Character = ","
    header: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the columns, in order, for files whose first line is data."""
    nulls: Annotated[tuple[str, ...], BeforeValidator(as_list)] = ()
    """Texts that stand for an empty cell, such as ``?`` or ``NA``."""
    comment: str | None = None
    """Lines that start with this are skipped."""
    quote: Character = '"'
    """What surrounds cells that contain the separator."""


class LabelRule(Config):
    """Makes a 0/1 label of a column that holds something else; an empty cell stays an unknown label."""

    column: str
    positive: Values | None = None
    """Values that mean 1; all others mean 0."""
    at_least: float | None = None
    """Numbers from here on mean 1."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.positive is None) == (self.at_least is None):
            raise ValueError("say either which values are positive or at_least, not both")
        return self


class SplitValues(Config):
    """Values of the split column."""

    train: Values
    valid: Values
    test: Values

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        texts = [str(value) for split in SPLITS for value in getattr(self, split)]
        if twice := sorted({text for text in texts if texts.count(text) > 1}):
            raise ValueError(f"{twice[0]!r} is listed twice")
        return self


class ColumnSplit(Config):
    """A column says which split a row belongs to."""

    kind: Literal["column"] = "column"
    column: str
    values: SplitValues


class DateSplit(Config):
    """Rows are split by time: the past to learn from, the future to validate and test on."""

    kind: Literal["date"] = "date"
    column: str
    valid_from: Moment
    """First moment of the validation split; everything earlier is for training."""
    test_from: Moment
    """First moment of the test split."""
    epoch: Literal["s", "ms"] | None = None
    """Unit of a column that counts from 1970 on; without it, numbers are read as YYYYMMDD."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.valid_from >= self.test_from:
            raise ValueError(f"valid_from ({self.valid_from}) must be before test_from ({self.test_from})")
        return self


class FractionSplit(Config):
    """Rows are split at random, the same way on every machine and at any time."""

    kind: Literal["fraction"] = "fraction"
    valid: Share
    test: Share
    seed: NonNegativeInt = 0
    by: str | None = None
    """Column whose equal values stay together, such as the user; without it every row falls on its own."""

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError(f"valid + test is {self.valid + self.test:g}: nothing is left for training")
        return self


Split = Annotated[ColumnSplit | DateSplit | FractionSplit, Field(discriminator="kind")]


class TableConfig(Schema):
    """A data set's schema together with what it takes to read it from files."""

    split: Split
    labels: dict[Name, LabelRule] = {}
    """Labels that the files do not hold as 0 and 1; tasks read them by these names."""
    csv: CsvOptions | None = None
    """Only for text files; the defaults fit comma-separated files with a header line."""
    file_column: Name | None = None
    """Name of an additional column with the name of each row's file, for a split by file."""
    crosses: frozenset[str] = frozenset()
    """Columns of item features that depend on the user as well, such as how often this user saw this tag: a feature
    store, which has one row for each item, leaves them out."""

    @model_validator(mode="after")
    def _labels_make_sense(self) -> Self:
        if problems := [*_unread_rules(self), *_taken_names(self), *_leaks(self), *_bad_crosses(self)]:
            raise ValueError("; ".join(problems))
        return self

    def schema_only(self) -> Schema:
        """Return what the prepared data set keeps."""
        return Schema(**{name: getattr(self, name) for name in Schema.model_fields})


def _unread_rules(config: TableConfig) -> list[str]:
    read = {task.label_column for task in config.tasks if isinstance(task, BinaryTask)}
    return [f"labels.{name}: no binary task reads it" for name in config.labels if name not in read]


def _taken_names(config: TableConfig) -> list[str]:
    keys = {config.group: "group", config.item: "item", config.weight: "weight"}
    return [f"labels.{name}: is also the {keys[name]} column" for name in config.labels if name in keys]


def _bad_crosses(config: TableConfig) -> list[str]:
    unknown = config.crosses - {*columns_by_entity(config)["item"]}
    return [f"crosses: no item feature reads column {name!r}" for name in sorted(unknown)]


def _leaks(config: TableConfig) -> list[str]:
    """Find features that read a column from which a label is made; labels themselves the schema has looked for."""
    rules = ((task, config.labels.get(task.label_column)) for task in config.tasks)
    leaks = {rule.column: task.name for task, rule in rules if rule is not None}
    columns = [column for column in source_columns(config) if column in leaks]
    return [f"features: column {column!r} is what task {leaks[column]} predicts" for column in columns]
