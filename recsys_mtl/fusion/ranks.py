"""The formula that reads ranks and not scores ("ensemble sort")."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from recsys_mtl.config import Config
from recsys_mtl.fusion.base import HIGHEST, FormulaBase, Weight
from recsys_mtl.tasks import TaskName


class RankWeight(Config):
    """How one objective's ranks count."""

    weight: Weight = 1.0
    """``w``: the importance of the objective."""
    power: Annotated[float, Field(ge=0, le=10)] = 1.0
    """``α``: how steeply a candidate's share falls with its rank; not at all with 0."""
    shift: Weight = 0.0
    """``β``: the larger, the less the first places stand out."""


class WeightedRanks(FormulaBase):
    """``Σ_j w_j / (r_j^{α_j} + β_j)``, ``r_j`` the candidate's rank by objective j among those of the request.

    1 is the best; ties share their mean rank. The scale of objectives does not matter, and a score says nothing beyond
    its request.
    """

    kind: Literal["rank"] = "rank"
    ranks: Annotated[dict[TaskName, RankWeight], Field(min_length=1)]
    """By task; a task that is not listed does not count."""

    def effects(self) -> Mapping[str, float]:
        return {task: min(rank.weight, rank.power) for task, rank in self.ranks.items()}

    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        fused_B = torch.zeros(len(scores_BT), dtype=torch.float64)
        for task, rank in self.ranks.items():
            rank_B = ranks(scores_BT[:, list(tasks).index(task)])
            fused_B += rank.weight / (rank_B**rank.power + rank.shift)
        return fused_B.clamp(max=HIGHEST)


def ranks(scores_B: Tensor) -> Tensor:
    """Rank scores, the highest first and ties by the mean of their ranks (float64)."""
    _, value_B, counts_V = np.unique(scores_B.numpy(), return_inverse=True, return_counts=True)
    above_V = len(scores_B) - counts_V.cumsum()
    return torch.from_numpy((above_V + (counts_V + 1) / 2)[value_B])
