"""What a model reads of a request: one row of the head and one of each candidate, embedded."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.spec import Spec
from recsys_mtl.embeddings import feature_layout
from recsys_mtl.features import FeatureLayout, Features
from recsys_mtl.inference.encoded import Encoded, Side
from recsys_mtl.inference.tables import FusedTables
from recsys_mtl.inference.vectors import Vectors


@dataclass(frozen=True)
class Embedded:
    """A request's inputs; U numbers belong to the request, V to each candidate."""

    head_U: Tensor
    """Fields, then dense inputs, of user and context."""
    items_BV: Tensor
    """Fields, then dense inputs, of the candidates."""
    events: tuple[Tensor, ...]
    """Events (L, D) of each of the request's sequences, oldest first."""
    own_events: tuple[tuple[Tensor, Tensor], ...] = ()
    """Events (N, D) of each sequence that belongs to candidates, and how many each of them has (B,)."""


class Inputs:
    """Embeds requests, and tells where in a model's own order of inputs each of the numbers belongs."""

    def __init__(self, spec: Spec, tables: FusedTables) -> None:
        self.head, self.items = Side.of(spec, candidates=False), Side.of(spec, candidates=True)
        self.layout = feature_layout(spec)
        self.of_head, self.of_items = Vectors(self.head, tables), Vectors(self.items, tables)
        dense = BatchLayout.of(spec, ()).dense
        self.head_columns = places(self.layout, dense, self.of_head, [f.name for f in self.head.dense])
        self.item_columns = places(self.layout, dense, self.of_items, [f.name for f in self.items.dense])

    def embed(self, head: Encoded, items: Encoded) -> Embedded:
        """Look everything up."""
        return Embedded(
            head_U=_side(self.of_head, head).squeeze(0),
            items_BV=_side(self.of_items, items),
            events=tuple(self.of_head.events(head)),
            own_events=tuple(zip(self.of_items.events(items), self.of_items.lengths(items), strict=True)),
        )

    def features(self, embedded: Embedded) -> Features:
        """Put the inputs in the model's own order, the head's and its histories repeated for every candidate."""
        rows = len(embedded.items_BV)
        sequences, lengths = self._histories(embedded, rows)
        return replace(self.without_histories(embedded), sequences=sequences, lengths=lengths)

    def without_histories(self, embedded: Embedded) -> Features:
        """Put all inputs but the histories in the model's own order, the head's repeated for every candidate."""
        rows, width = len(embedded.items_BV), self.layout.fields_dim
        x_BX = torch.empty(rows, width + self.layout.num_dense)
        x_BX[:, self.head_columns] = embedded.head_U
        x_BX[:, self.item_columns] = embedded.items_BV
        return Features(fields_BX=x_BX[:, :width], dense_BC=x_BX[:, width:], sequences=(), lengths=())

    def one_row(self, embedded: Embedded) -> Features:
        """Put the first candidate's inputs in the model's own order, with the request's histories."""
        first = replace(embedded, items_BV=embedded.items_BV[:1], own_events=())
        return self.features(first)

    def _histories(self, embedded: Embedded, rows: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return events (N, D) and lengths (B,) of every sequence."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for sequence, e_LD in zip(self.head.sequences, embedded.events, strict=True):
            found[sequence.name] = (e_LD.repeat(rows, 1), torch.full((rows,), len(e_LD)))
        for sequence, own in zip(self.items.sequences, embedded.own_events, strict=True):
            found[sequence.name] = own
        histories = [found[sequence.name] for sequence in self.layout.sequences]
        return tuple(e_ND for e_ND, _ in histories), tuple(length_B for _, length_B in histories)


def places(layout: FeatureLayout, dense: tuple[str, ...], vectors: Vectors, own_dense: list[str]) -> Tensor:
    """Return for each number of a side where it stands in the model's fields and dense inputs side by side."""
    targets, order = layout.slices(), sorted(vectors.slices, key=lambda name: vectors.slices[name].start)
    fields = [place for name in order for place in range(targets[name].start, targets[name].stop)]
    return torch.tensor(fields + [layout.fields_dim + dense.index(name) for name in own_dense], dtype=torch.int64)


def _side(vectors: Vectors, encoded: Encoded) -> Tensor:
    dense_BC = torch.from_numpy(encoded.dense_CB.T)
    return torch.cat([vectors.fields(encoded), dense_BC], dim=1)
