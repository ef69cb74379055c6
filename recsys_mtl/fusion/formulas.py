"""All kinds of formulas, and those of a model by name."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator
from torch import Tensor

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.fusion.base import FusionName
from recsys_mtl.fusion.expression import Expression
from recsys_mtl.fusion.products import PowerProduct, Product
from recsys_mtl.fusion.ranks import WeightedRanks
from recsys_mtl.fusion.sums import ClickTimesSum, WeightedSum
from recsys_mtl.tasks import BinaryTask, Task

DEFAULT = "default"

Formula = Annotated[
    WeightedSum | ClickTimesSum | Product | PowerProduct | WeightedRanks | Expression, Field(discriminator="kind")
]


class Fusions(Config):
    """The formulas that requests can name; ``fusion.yaml`` of a bundle."""

    formulas: Annotated[dict[FusionName, Formula], Field(min_length=1)]
    """By the name that requests give."""
    default: FusionName = DEFAULT
    """The formula of requests that name none."""

    @model_validator(mode="after")
    def _default_exists(self) -> "Fusions":
        if self.default not in self.formulas:
            raise ValueError(f"default: no formula {self.default!r}; there are {', '.join(self.formulas)}")
        return self

    def check(self, tasks: Sequence[Task], where: str = "") -> None:
        """Make sure that every formula reads only what the model has, and never falls; ``where`` prefixes the paths.

        Raises:
            ConfigError: every formula that does not fit, with what is wrong.
        """
        problems = [
            f"{where}formulas.{name}: {problem}"
            for name, formula in self.formulas.items()
            for problem in formula.problems(tasks)
        ]
        if problems:
            raise ConfigError(problems)


def fuse(formula: Formula, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
    """Return one score per row (float64): calibrated probabilities and amounts in, columns in the order of ``tasks``.

    The rows are the candidates of one request: formulas of ranks compare them.

    Raises:
        ValueError: the formula reads an objective that is not among ``tasks``.
        NotFinite: an expression has no finite value for a row.
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
