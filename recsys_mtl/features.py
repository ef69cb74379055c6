"""Features: what embeddings hand to a bottom."""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Field:
    """One embedded feature: a slice of ``fields_BX``."""

    name: str
    dim: int
    entity: str


@dataclass(frozen=True)
class SequenceColumn:
    """One column of a sequence: a slice of its events' width, and the field of the candidate it is compared with."""

    dim: int
    target: str | None


@dataclass(frozen=True)
class Sequence:
    """A behaviour sequence of up to ``max_length`` events."""

    name: str
    columns: tuple[SequenceColumn, ...]
    max_length: int

    @property
    def dim(self) -> int:
        """D, the width of one event."""
        return sum(column.dim for column in self.columns)


@dataclass(frozen=True)
class FeatureLayout:
    """Names and widths of everything in `Features`."""

    fields: tuple[Field, ...]
    sequences: tuple[Sequence, ...]
    num_dense: int

    @property
    def fields_dim(self) -> int:
        """X, the width of all fields side by side."""
        return sum(field.dim for field in self.fields)

    def slices(self) -> dict[str, slice]:
        """Where each field lies in ``fields_BX``."""
        ends = list(accumulate(field.dim for field in self.fields))
        return {f.name: slice(end - f.dim, end) for f, end in zip(self.fields, ends, strict=True)}


@dataclass(frozen=True)
class Features:
    """Embedded impressions."""

    fields_BX: Tensor
    """Fields side by side, in the layout's order."""
    dense_BC: Tensor
    sequences: tuple[Tensor, ...]
    """Events of each sequence (N, D), row after row and oldest first: histories are much shorter than their maximum, so
    none of it is padding."""
    lengths: tuple[Tensor, ...]
    """Number of events of each sequence (B,)."""


class Counterparts:
    """What sequences are compared with: the candidate's fields that share a table with their columns."""

    def __init__(self, layout: FeatureLayout) -> None:
        names = [field.name for field in layout.fields]
        self.widths = [field.dim for field in layout.fields]
        self.fields = [[names.index(c.target) for c in s.columns if c.target is not None] for s in layout.sequences]

    def __call__(self, fields_BX: Tensor) -> list[Tensor]:
        """Return ``q_BQ`` of each sequence, in the order of its columns."""
        # One split, whose gradient is put together once; every slice would bring one as large as all fields.
        parts = torch.split(fields_BX, self.widths, dim=1)
        return [torch.cat([fields_BX[:, :0], *(parts[i] for i in own)], dim=1) for own in self.fields]
