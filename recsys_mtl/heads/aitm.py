"""Adaptive information transfer along a funnel (AITM: Xi et al., KDD 2021)."""

import math
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from recsys_mtl.heads.base import Funnel, Heads
from recsys_mtl.layers import GroupedLinear, GroupedMLP, LayerStyle
from recsys_mtl.tasks import Task


class AITMConfig(LayerStyle):
    """Towers that hand what they know on along the funnel; plain towers where no task follows another."""

    kind: Literal["aitm"] = "aitm"
    hidden: tuple[PositiveInt, ...] = (64,)
    """Widths of each tower's hidden layers; the last is k, the width of what is handed on."""
    calibrator: NonNegativeFloat = 0.6
    """Weight of the behavioural expectation calibrator, which holds an event's probability below that of the event it
    follows; the paper's is 0.6."""

    def build(self, in_dim: int, tasks: tuple[Task, ...]) -> "AITM":
        """Make one tower for each of ``tasks`` and one transfer for each link of their funnel."""
        return AITM(self, in_dim, tasks)


class AITM(Heads):
    """z_t = q_t, the tower, for a task that follows nothing; otherwise attention over q_t and p = g(z) of the earlier.

    Each link has a ``g`` of its own: one layer in the style of the towers, so that p and q_t are alike. h₁, h₂ and h₃
    carry no index in the paper: all links share them. The paper's funnel is a chain; here, several events may follow
    the same one.
    """

    def __init__(self, config: AITMConfig, in_dim: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.mlp = GroupedMLP(len(tasks), in_dim, config.hidden, config)
        width = self.mlp.out_dim
        self.funnel = Funnel(tasks)
        self.transfers = nn.ModuleList(GroupedMLP(len(links), width, (width,), config) for links in self.funnel)
        self.attention = Attention(width) if self.funnel else None
        self.out = GroupedLinear(len(tasks), width, 1)

    def forward(self, h_BTH: Tensor) -> Tensor:
        """Return ``logits_BT``."""
        z_BTK = self.mlp(h_BTH)
        for links, transfer in zip(self.funnel, self.transfers, strict=True):
            assert self.attention is not None
            p_BLK, q_BLK = transfer(links.earlier(z_BTK)), links.later(z_BTK)
            z_BTK = links.replace_later(z_BTK, self.attention(torch.stack([p_BLK, q_BLK], dim=2)))
        return self.out(z_BTK).squeeze(2)


class Attention(nn.Module):
    """Weighs what comes from the earlier event against what the task's own tower says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.h = nn.Linear(width, 3 * width, bias=False)

    def forward(self, u_BLUK: Tensor) -> Tensor:
        """Return ``z_BLK``: Σ_u w_u h₁(u), w the softmax over u of <h₂(u), h₃(u)> / √k."""
        value_BLUK, query_BLUK, key_BLUK = torch.chunk(self.h(u_BLUK), 3, dim=3)
        scores_BLU = (query_BLUK * key_BLUK).sum(3) / math.sqrt(u_BLUK.shape[3])
        weights_BLU = scores_BLU.softmax(2)
        return (weights_BLU.unsqueeze(3) * value_BLUK).sum(2)

    def __call__(self, u_BLUK: Tensor) -> Tensor:
        return super().__call__(u_BLUK)  # type: ignore[no-any-return]
