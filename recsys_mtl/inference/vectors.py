"""Encoded values of one side to its embedding vectors."""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from recsys_mtl.data.feature_kinds import IdFeature, IdsFeature, SequenceFeature, table_of
from recsys_mtl.data.values import Ints
from recsys_mtl.inference.encoded import Encoded, Lists, Side
from recsys_mtl.inference.tables import FusedTables


@dataclass(frozen=True)
class Group:
    """Single ids whose vectors have one width: one look-up."""

    width: int
    places: Ints
    """Which of the side's single ids."""
    first_row_F1: Ints
    """Where each one's table begins."""


@dataclass(frozen=True)
class Bag:
    """A list of ids that becomes one vector."""

    place: int
    """Which of the side's lists."""
    width: int
    first_row: int
    mode: str


@dataclass(frozen=True)
class History:
    """A sequence of events: which of the side's lists it consists of, and their tables."""

    places: range
    widths: tuple[int, ...]
    first_rows: tuple[int, ...]


class Vectors:
    """Looks one side up. Vectors of fields stand side by side in an order of its own, which ``slices`` tells."""

    def __init__(self, side: Side, tables: FusedTables) -> None:
        self.tables = tables
        self.slices: dict[str, slice] = {}
        names = [table_of(f) if isinstance(f, IdFeature) else f.name for f in side.singles]
        self.groups = []
        for width in sorted({tables.width[name] for name in names}):
            places = [i for i, name in enumerate(names) if tables.width[name] == width]
            first_rows = np.array([[tables.first_row[names[i]]] for i in places])
            self.groups.append(Group(width, np.array(places), first_rows))
            self._lay_out([side.singles[i].name for i in places], width)
        self.bags = [self._bag(place, feature) for place, feature in enumerate(side.bags)]
        starts = accumulate((len(s.columns) for s in side.sequences), initial=len(side.bags))
        self.histories = [
            self._history(start, sequence) for start, sequence in zip(starts, side.sequences, strict=False)
        ]

    @property
    def width(self) -> int:
        """Width of all fields side by side."""
        return max((part.stop for part in self.slices.values()), default=0)

    def fields(self, encoded: Encoded) -> Tensor:
        """Return the fields (B, X), in the order of ``slices``."""
        parts = [self._singles(group, encoded) for group in self.groups]
        parts += [self._pooled(bag, encoded.lists[bag.place]) for bag in self.bags]
        return torch.cat(parts, dim=1) if parts else torch.empty(len(encoded), 0)

    def events(self, encoded: Encoded) -> list[Tensor]:
        """Return the events (N, D) of each sequence, of all rows one after another."""
        return [self._events(history, encoded) for history in self.histories]

    def lengths(self, encoded: Encoded) -> list[Tensor]:
        """Return the number of events (B,) of each sequence."""
        return [torch.from_numpy(encoded.lists[history.places[0]][1]) for history in self.histories]

    def _singles(self, group: Group, encoded: Encoded) -> Tensor:
        rows_BF = (encoded.singles_FB[group.places] + group.first_row_F1).T
        return self.tables.vectors(group.width, np.ascontiguousarray(rows_BF).reshape(-1)).view(len(encoded), -1)

    def _pooled(self, bag: Bag, lists: Lists) -> Tensor:
        values_N, lengths_B = lists
        starts_B = torch.from_numpy(np.cumsum(lengths_B) - lengths_B)
        vectors_ND = self.tables.vectors(bag.width, values_N + bag.first_row)
        return embedding_bag(torch.arange(len(vectors_ND)), vectors_ND, starts_B, mode=bag.mode)

    def _events(self, history: History, encoded: Encoded) -> Tensor:
        columns = zip(history.places, history.widths, history.first_rows, strict=True)
        parts = [self.tables.vectors(width, encoded.lists[place][0] + row) for place, width, row in columns]
        return torch.cat(parts, dim=1)

    def _bag(self, place: int, feature: IdsFeature) -> Bag:
        table = table_of(feature)
        self._lay_out([feature.name], self.tables.width[table])
        return Bag(place, self.tables.width[table], self.tables.first_row[table], feature.pooling)

    def _history(self, start: int, sequence: SequenceFeature) -> History:
        names = [table_of(column) for column in sequence.columns]
        places = range(start, start + len(names))
        widths = tuple(self.tables.width[name] for name in names)
        return History(places, widths, tuple(self.tables.first_row[name] for name in names))

    def _lay_out(self, names: list[str], width: int) -> None:
        for name in names:
            start = self.width
            self.slices[name] = slice(start, start + width)
