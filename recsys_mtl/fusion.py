"""Fusion: one score out of several objectives, by a named formula that never falls when an objective rises."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.tasks import BinaryTask, Task, TaskName

DEFAULT = "default"
LARGEST = math.log(torch.finfo(torch.float64).max)
"""Natural logarithm of the largest score; beyond it all candidates would tie at infinity, which JSON cannot say."""

FusionName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=64)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Not negative: a fused score must not fall when an objective rises."""


class FormulaBase(Config, ABC):
    """What every formula has."""

    version: PositiveInt = 1
    """Raise it with every change of the numbers: answers carry it, so that logged scores can be told apart."""

    @abstractmethod
    def effects(self) -> Mapping[str, float]:
        """Say by task how strongly it counts; nought means not at all."""

    @abstractmethod
    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return ``fused_B`` (float64) from scores whose columns are ``tasks``."""

    @model_validator(mode="after")
    def _counts_something(self) -> "FormulaBase":
        if not any(self.effects().values()):
            raise ValueError("at least one task must count, or all candidates tie")
        return self


class WeightedSum(FormulaBase):
    """``Σ_j w_j p_j``: with weights in money or minutes, the expected value of showing a candidate."""

    kind: Literal["weighted_sum"] = "weighted_sum"
    weights: Annotated[dict[TaskName, Weight], Field(min_length=1)]
    """By task; a task that is not listed does not count."""

    def effects(self) -> Mapping[str, float]:
        return self.weights

    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        weights_T = torch.tensor([self.weights.get(task, 0.0) for task in tasks], dtype=torch.float64)
        return (scores_BT.double() @ weights_T).clamp(max=torch.finfo(torch.float64).max)


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
        absent = Factor(scale=0.0, power=0.0)
        factors = [self.factors.get(task, absent) for task in tasks]
        scales_T = torch.tensor([factor.scale for factor in factors], dtype=torch.float64)
        powers_T = torch.tensor([factor.power for factor in factors], dtype=torch.float64)
        logs_BT = torch.log1p(scores_BT.double().clamp(min=0) * scales_T)
        return (logs_BT @ powers_T).clamp(max=LARGEST).exp()


Formula = Annotated[WeightedSum | Product, Field(discriminator="kind")]


class Fusions(Config):
    """The formulas that requests can name; ``fusion.yaml`` of a bundle."""

    formulas: Annotated[dict[FusionName, Formula], Field(min_length=1)]
    default: FusionName = DEFAULT
    """The formula of requests that name none."""

    @model_validator(mode="after")
    def _default_exists(self) -> "Fusions":
        if self.default not in self.formulas:
            raise ValueError(f"default: no formula {self.default!r}; there are {', '.join(self.formulas)}")
        return self

    def check(self, tasks: Sequence[str], where: str = "") -> None:
        """Make sure that every formula reads only objectives that the model has; ``where`` prefixes the paths.

        Raises:
            ConfigError: every formula and task that does not fit.
        """
        problems = [
            f"{where}formulas.{name}: no task {task!r} in the model; it has {', '.join(tasks)}"
            for name, formula in self.formulas.items()
            for task in formula.effects()
            if task not in tasks
        ]
        if problems:
            raise ConfigError(problems)


def fuse(formula: Formula, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
    """Return one score per row (float64): calibrated probabilities and amounts in, columns in the order of ``tasks``.

    Raises:
        ValueError: the formula reads an objective that is not among ``tasks``.
    """
    if unknown := [task for task in formula.effects() if task not in tasks]:
        raise ValueError(f"fusion: no task {unknown[0]!r} among the scores; they are {', '.join(tasks)}")
    return formula.combine(scores_BT, tasks)


def default_fusions(tasks: Sequence[Task]) -> Fusions:
    """Start with the expected value of an impression: every event weighs what its task's ``value`` says.

    Amounts have other units, so they stay out unless the model has nothing else that is of value.
    """
    weights = {task.name: task.value for task in tasks if isinstance(task, BinaryTask) and task.value > 0}
    return Fusions(formulas={DEFAULT: WeightedSum(weights=weights or {task.name: 1.0 for task in tasks})})
