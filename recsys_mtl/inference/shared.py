"""Models on a shared bottom: the head's part of the first layer is computed once per request."""

import torch
from torch import Tensor, nn

from recsys_mtl.bottoms.shared import SharedBottom
from recsys_mtl.inference.attention import OneHistory
from recsys_mtl.inference.inputs import Embedded, Inputs
from recsys_mtl.inference.split import SplitLinear, joint, pick
from recsys_mtl.model import Ranker
from recsys_mtl.sequences import ActivationUnit, AttentionEncoder


class SharedInference:
    """Logits of a request's candidates. It keeps the ranker and changes it: give it a copy."""

    def __init__(self, ranker: Ranker, inputs: Inputs) -> None:
        bottom = ranker.bottom
        assert isinstance(bottom, SharedBottom)
        self.inputs, self.ranker = inputs, ranker
        self.histories = Histories(bottom.encoder, inputs)
        head_I, items_I = self._columns()
        layers = list(bottom.mlp.children())
        first = layers[0] if layers else None
        self.first: SplitLinear | None = None
        if isinstance(first, nn.Linear):
            bias_J = first(first.weight.new_zeros(first.in_features))  # which the layer may lack
            self.first = SplitLinear(first.weight.T, bias_J, head_I, items_I)
        elif maps := ranker.experts.input_maps():
            self.first = SplitLinear(*joint(maps), head_I, items_I)
            pick(ranker.experts, maps)
        self.rest = nn.Sequential(*layers[1:])
        self.order_X = torch.cat([head_I, items_I]).argsort()

    def below(self, embedded: Embedded) -> Tensor:
        """Return ``x_BX``, the bottom's inputs, or the first layer's outputs where that could be split."""
        head_U, items_BV = self.histories(embedded)
        if self.first is not None:
            return self.first(head_U, items_BV)
        return torch.cat([head_U.expand(len(items_BV), -1), items_BV], dim=1).index_select(1, self.order_X)

    def above(self, x_BX: Tensor) -> Tensor:
        """Return ``logits_BT``."""
        x_B1R = self.rest(x_BX).unsqueeze(1)
        return self.ranker.heads(self.ranker.experts(x_B1R))

    def _columns(self) -> tuple[Tensor, Tensor]:
        """Tell for all inputs of the request, and for those of a candidate, which column of the bottom's x they are."""
        fields, pooled = self.inputs.layout.fields_dim, self.histories
        width = sum(sequence.dim for sequence in self.inputs.layout.sequences)

        def moved(columns: Tensor) -> Tensor:  # the bottom puts pooled sequences between fields and dense inputs
            return torch.where(columns < fields, columns, columns + width)

        sequences = torch.arange(fields, fields + width)
        head_I, items_I = moved(self.inputs.head_columns), moved(self.inputs.item_columns)
        if pooled.by_candidate:
            return head_I, torch.cat([items_I, sequences])
        return torch.cat([head_I, sequences]), items_I


class Histories:
    """Pools histories: for each candidate where events are compared with it, otherwise once per request."""

    def __init__(self, encoder: nn.Module, inputs: Inputs) -> None:
        self.by_candidate = isinstance(encoder, AttentionEncoder)
        self.units: list[tuple[OneHistory, Tensor]] = []
        if isinstance(encoder, AttentionEncoder):
            place = {int(column): i for i, column in enumerate(inputs.item_columns)}
            for unit in encoder.units:
                assert isinstance(unit, ActivationUnit)
                columns = [c for part in unit.query for c in range(part.start, part.stop)]
                self.units.append((OneHistory(unit), torch.tensor([place[c] for c in columns])))

    def __call__(self, embedded: Embedded) -> tuple[Tensor, Tensor]:
        """Return what belongs to the request and what to each candidate, with the pooled sequences at the end."""
        head_U, items_BV = embedded.head_U, embedded.items_BV
        if not embedded.events:
            return head_U, items_BV
        if not self.by_candidate:
            means = [e_LD.sum(0) / max(len(e_LD), 1) for e_LD in embedded.events]
            return torch.cat([head_U, *means]), items_BV
        pairs = zip(self.units, embedded.events, strict=True)
        pooled = [unit(items_BV.index_select(1, query), e_LD) for (unit, query), e_LD in pairs]
        return head_U, torch.cat([items_BV, *pooled], dim=1)
