"""Target attention of one history for many candidates."""

import torch
from torch import Tensor, nn

from recsys_mtl.sequences import ActivationUnit


class OneHistory(nn.Module):
    """`ActivationUnit` where all rows have the same events.

    The first layer is W k + P (q ⊙ k) + U q for events k and candidates q. With the events given it is linear in q: one
    matrix for the whole request, ``[P diag(k_l) + U]`` for every event l, instead of a matrix for every candidate.
    """

    spread_QD: Tensor

    def __init__(self, unit: ActivationUnit) -> None:
        super().__init__()
        self.unit = unit
        self.register_buffer("spread_QD", unit.spread_QD, persistent=False)

    def forward(self, q_BQ: Tensor, e_LD: Tensor) -> Tensor:
        """Return each candidate's weighted sum of the events (B, D)."""
        if len(e_LD) == 0:
            return e_LD.new_zeros(len(q_BQ), e_LD.shape[1])
        unit = self.unit
        e_QL = self.spread_QD @ e_LD.T
        weight_QLH = e_QL.unsqueeze(2) * unit.from_product.weight.T.unsqueeze(1) + unit.from_query.weight.T.unsqueeze(1)
        level_LH = unit.from_event(e_LD) + unit.from_query.bias
        hidden_BJ = torch.addmm(level_LH.flatten(), q_BQ, weight_QLH.flatten(1))
        hidden_BLH = hidden_BJ.view(len(q_BQ), *level_LH.shape)
        score_BL: Tensor = unit.score(unit.rest(unit.activation(hidden_BLH))).squeeze(2)
        return (score_BL.softmax(1) if unit.normalise else score_BL) @ e_LD
