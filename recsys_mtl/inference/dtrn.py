"""DTRN: a request's histories are encoded once for every task; only their fit to each candidate is left."""

import torch
from torch import Tensor

from recsys_mtl.bottoms.dtrn import DTRN
from recsys_mtl.features import Features
from recsys_mtl.histories import Packing
from recsys_mtl.inference.inputs import Embedded, Inputs
from recsys_mtl.inference.plain import PlainInference
from recsys_mtl.interests import TaskInterests
from recsys_mtl.model import Ranker


class DTRNInference(PlainInference):
    """Logits of a request's candidates."""

    def __init__(self, ranker: Ranker, inputs: Inputs) -> None:
        super().__init__(ranker, inputs)
        bottom = ranker.bottom
        assert isinstance(bottom, DTRN)
        assert bottom.interests is not None
        self.bottom, self.interests = bottom, bottom.interests

    def below(self, embedded: Embedded) -> Tensor:
        """Return ``x_BGR``."""
        features, head = self.inputs.without_histories(embedded), self.inputs.one_row(embedded)
        return self.bottom.represent(features, [fitting(self.interests, features, head)])


def fitting(interests: TaskInterests, features: Features, head: Features) -> Tensor:
    """Return every task's interests (B, T, S·D) in the candidates of ``features``; ``head`` has the histories once."""
    packing = Packing.of(head.lengths, interests.max_events)
    h_NTD = interests.encoded(head, packing)
    parts = []
    events = torch.split(h_NTD, list(packing.per_sequence))
    for q_BD, h_nTD in zip(interests.asked(features.fields_BX), events, strict=True):
        h_TnD = h_nTD.transpose(0, 1)
        weight_TBn = (q_BD @ h_TnD.transpose(1, 2)).softmax(2)  # of no event at all: the sum below is zero
        parts.append(weight_TBn @ h_TnD)
    return torch.cat(parts, dim=2).transpose(0, 1)
