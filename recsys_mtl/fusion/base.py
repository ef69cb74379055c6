"""What every formula has: a version, objectives that count, and one score per candidate."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from recsys_mtl.config import Config
from recsys_mtl.tasks import Task

HIGHEST = torch.finfo(torch.float64).max
"""The largest score; beyond it all candidates would tie at infinity, which JSON cannot say."""
LARGEST, SMALLEST = math.log(HIGHEST), math.log(torch.finfo(torch.float64).tiny)
"""Natural logarithms of the largest and of the smallest score that a formula of factors gives."""

NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
"""What names of formulas look like; other text can only be a formula itself."""
FusionName = Annotated[str, Field(pattern=NAME, max_length=64)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Not negative: a fused score must not fall when an objective rises."""


class NotFinite(ValueError):
    """A formula has no finite value for a candidate."""

    def __init__(self, row: int) -> None:
        self.row = row
        super().__init__(f"the formula has no finite value for candidate {row}")


class FormulaBase(Config, ABC):
    """What every formula has."""

    version: PositiveInt = 1
    """Raise it with every change of the numbers: answers carry it, so that logged scores can be told apart."""

    @abstractmethod
    def effects(self) -> Mapping[str, float]:
        """Say by task how strongly it counts; nought means not at all."""

    @abstractmethod
    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return ``fused_B`` (float64) from scores whose columns are ``tasks``; the rows are one request's candidates.

        Raises:
            NotFinite: the formula has no finite value for a row.
        """

    def problems(self, tasks: Sequence[Task]) -> Iterator[str]:
        """Yield what is wrong with the formula for a model that has ``tasks``."""
        names = [task.name for task in tasks]
        for task in self.effects():
            if task not in names:
                yield f"no task {task!r} in the model; it has {', '.join(names)}"

    @model_validator(mode="after")
    def _counts_something(self) -> "FormulaBase":
        if not any(self.effects().values()):
            raise ValueError("at least one task must count, or all candidates tie")
        return self


def column(values: Mapping[str, float], tasks: Sequence[str]) -> Tensor:
    """Lay numbers by task out in the order of ``tasks`` (T,); nought for a task that has none."""
    return torch.tensor([values.get(task, 0.0) for task in tasks], dtype=torch.float64)


def amounts(scores_BT: Tensor) -> Tensor:
    """Return scores in double precision; an amount below zero counts as zero."""
    return scores_BT.double().clamp(min=0)
