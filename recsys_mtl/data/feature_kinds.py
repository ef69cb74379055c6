"""Kinds of features, and the embedding tables that they read."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from recsys_mtl.config import Config

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Entity = Literal["user", "item", "context"]
Raw = str | int | float | bool
Separator = Annotated[str, Field(min_length=1)]

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
    buckets: Annotated[int, Field(gt=0, le=2**31 - 3)]
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
    separator: Separator | None = None
    """Where the source cell is text: what stands between two values."""


class SequenceColumn(Config):
    """One of the aligned id columns of a behaviour sequence."""

    name: Name
    column: str | None = None
    table: Name | None = None
    target: Name | None = None
    """Id feature of the candidate that a target attention compares with; by default the item's on this table."""


class SequenceFeature(FeatureBase):
    """What a user did before this impression: aligned id columns, oldest first, most recent last."""

    kind: Literal["sequence"] = "sequence"
    columns: Annotated[tuple[SequenceColumn, ...], Field(min_length=1)]
    max_length: PositiveInt = 50
    """Events kept per row, the most recent ones."""
    separator: Separator | None = None
    """Where the source cells are text: what stands between two events."""


class NumberFeature(FeatureBase):
    """A quantity. With ``boundaries`` it is bucketed into an id; without, it is a dense input."""

    kind: Literal["number"] = "number"
    column: str | None = None
    default: FiniteFloat = 0.0
    """Raw value that stands in for an empty or non-finite cell of a dense input; a bucketed one has a missing row."""
    clip: tuple[float, float] | None = None
    """Raw values are clipped to this range, first of all."""
    log1p: bool = False
    """Then ``sign(x)·log(1+|x|)``."""
    standardise: bool = False
    """Then mean 0 and standard deviation 1 over the training split."""
    boundaries: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)] | None = None
    """Increasing raw values that cut the axis into ``len + 1`` buckets, each with a row of the feature's own table."""
    dim: Annotated[int, Field(gt=0, le=1024)] = 8
    """Embedding width of a bucketed number."""

    @model_validator(mode="after")
    def _buckets_make_sense(self) -> "NumberFeature":
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError("clip must be a lower and a higher number")
        if self.boundaries is None:
            return self
        if self.log1p or self.standardise:
            raise ValueError("boundaries cut raw values: log1p and standardise would be ignored")
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError("boundaries must be strictly increasing")
        return self


Feature = Annotated[IdFeature | IdsFeature | SequenceFeature | NumberFeature, Field(discriminator="kind")]
IdPart = IdFeature | IdsFeature | SequenceColumn
"""What reads ids from one raw column and looks them up in one table."""
Part = IdPart | NumberFeature
"""What reads one raw column."""


def parts_of(feature: Feature) -> tuple[Part, ...]:
    """Return what reads the raw columns of a feature: the columns of a sequence, any other feature itself."""
    return feature.columns if isinstance(feature, SequenceFeature) else (feature,)


def column_of(part: Part) -> str:
    """Source column of a feature or of a sequence's column."""
    return part.column or part.name


def table_of(part: IdPart) -> str:
    """Name of the table that a feature or a sequence's column reads."""
    return part.table or part.name
