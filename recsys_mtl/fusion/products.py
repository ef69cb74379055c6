"""Formulas that multiply objectives."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from recsys_mtl.config import Config
from recsys_mtl.fusion.base import LARGEST, SMALLEST, FormulaBase, Weight, amounts, column
from recsys_mtl.tasks import TaskName

FLOOR = 1e-9
"""An objective below this counts as this in a power product: a zero would veto whatever the others say."""


class Factor(Config):
    """How one objective enters a product."""

    scale: Weight = 1.0
    """``a``: about 1 / median(p) puts frequent and rare objectives on a par."""
    power: Weight = 1.0
    """``b``: the importance of the objective."""


class Product(FormulaBase):
    """``Π_j (1 + a_j p_j)^{b_j}``: additive where ``a_j p_j`` is small, ratios count where it is large.

    An amount below zero counts as zero.
    """

    kind: Literal["product"] = "product"
    factors: Annotated[dict[TaskName, Factor], Field(min_length=1)]
    """By task; a task that is not listed does not count."""

    def effects(self) -> Mapping[str, float]:
        return {task: min(factor.scale, factor.power) for task, factor in self.factors.items()}

    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        scales_T = column({task: factor.scale for task, factor in self.factors.items()}, tasks)
        powers_T = column({task: factor.power for task, factor in self.factors.items()}, tasks)
        logs_BT = torch.log1p(amounts(scores_BT) * scales_T)
        return (logs_BT @ powers_T).clamp(max=LARGEST).exp()


class PowerProduct(FormulaBase):
    """``Π_j p_j^{w_j}`` (Tang et al., RecSys 2020, equation 1): only ratios count, whatever an objective's scale.

    An objective below 1e-9 counts as 1e-9.
    """

    kind: Literal["power_product"] = "power_product"
    powers: Annotated[dict[TaskName, Annotated[float, Field(ge=0, le=100)]], Field(min_length=1)]
    """By task, up to 100; a task that is not listed does not count."""

    def effects(self) -> Mapping[str, float]:
        return self.powers

    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        logs_BT = scores_BT.double().clamp(min=FLOOR).log()
        return (logs_BT @ column(self.powers, tasks)).clamp(SMALLEST, LARGEST).exp()
