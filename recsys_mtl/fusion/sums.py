"""Formulas that add objectives up."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from recsys_mtl.fusion.base import HIGHEST, FormulaBase, Weight, amounts, column
from recsys_mtl.tasks import TaskName


class WeightedSum(FormulaBase):
    """``Σ_j w_j p_j``: with weights in money or minutes, the expected value of showing a candidate."""

    kind: Literal["weighted_sum"] = "weighted_sum"
    weights: Annotated[dict[TaskName, Weight], Field(min_length=1)]
    """By task; a task that is not listed does not count."""

    def effects(self) -> Mapping[str, float]:
        return self.weights

    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        return (scores_BT.double() @ column(self.weights, tasks)).clamp(max=HIGHEST)


class ClickTimesSum(FormulaBase):
    """``p_click · (1 + Σ_j w_j p_j)``: nothing comes of a candidate that is not clicked.

    It is an expected value where the other objectives are probabilities among those who click (``space``). An amount
    below zero counts as zero.
    """

    kind: Literal["click_times_sum"] = "click_times_sum"
    click: TaskName
    """The event without which nothing else happens."""
    weights: Annotated[dict[TaskName, Weight], Field(min_length=1)]
    """By task; a task that is not listed does not count."""

    def effects(self) -> Mapping[str, float]:
        return {**self.weights, self.click: 1.0}

    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        scores_BT = amounts(scores_BT)
        # Clamped before they are multiplied, too: infinity times a probability of 0 is no number.
        sums_B = (1 + scores_BT @ column(self.weights, tasks)).clamp(max=HIGHEST)
        return (scores_BT[:, list(tasks).index(self.click)] * sums_B).clamp(max=HIGHEST)
