"""Which formula a request asks for: one of the model's by name, or one that it brings along."""

import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

from pydantic import ValidationError
from torch import Tensor

from recsys_mtl.fusion import Expression, Formula, Fusions, NotFinite, fuse
from recsys_mtl.fusion.base import NAME
from recsys_mtl.tasks import Task, task_names
from serving.errors import RequestError
from serving.schemas import FormulaName, InlineFormula

KEPT = 256
"""Checked expressions that are kept for each model."""


class Inline(Protocol):
    """A formula as an object in a request, whichever way that was read."""

    @property
    def expression(self) -> str:
        """The formula."""


@dataclass(frozen=True)
class AskedFormula:
    """What stands in a request's field ``fusion``."""

    text: str
    is_name: bool
    place: tuple[str, ...]

    @classmethod
    def of(cls, fusion: "str | Inline | None") -> "AskedFormula | None":
        """Tell names from formulas: text that could be a name is one, whatever formulas there are."""
        if fusion is None:
            return None
        if isinstance(fusion, str):
            return cls(fusion, re.fullmatch(NAME, fusion) is not None, ("fusion",))
        return cls(fusion.expression, False, ("fusion", "expression"))


class Formulas:
    """The formulas that requests to one model can ask for."""

    def __init__(self, fusions: Fusions, tasks: tuple[Task, ...]) -> None:
        """Check the model's own formulas.

        Raises:
            ConfigError: one reads an objective that the model does not have, or may fall as one rises.
        """
        fusions.check(tasks, where="fusion.yaml: ")
        self.fusions, self.tasks, self.names = fusions, tasks, task_names(tasks)
        # Not of a method: with a cycle, the memory of a model that was replaced would wait for the garbage collector.
        self._written = lru_cache(maxsize=KEPT)(partial(read_expression, tasks))

    def find(self, asked: AskedFormula | None) -> tuple[FormulaName | InlineFormula, Formula]:
        """Return the formula, and what answers call it.

        Raises:
            RequestError: there is none of this name, or the expression cannot be taken.
        """
        if asked is not None and not asked.is_name:
            formula, problems = self._written(asked.text)
            if formula is None:
                raise RequestError((asked.place, problem) for problem in problems)
            return InlineFormula.model_construct(expression=asked.text), formula
        name = self.fusions.default if asked is None else asked.text
        if name not in self.fusions.formulas:
            names = ", ".join(sorted(self.fusions.formulas))
            raise RequestError([(("fusion",), f"no formula of this name; the model has {names}")])
        chosen = self.fusions.formulas[name]
        return FormulaName.model_construct(name=name, version=chosen.version), chosen

    def fuse(self, formula: Formula, scores_BT: Tensor) -> Tensor:
        """Return a score for every candidate of a request.

        Raises:
            RequestError: a candidate has no finite one.
        """
        try:
            return fuse(formula, scores_BT, self.names)
        except NotFinite as error:
            message = "the formula has no finite value for it: a number became too large, or a logarithm that of 0"
            raise RequestError([(("candidates", error.row), message)]) from None


def read_expression(tasks: tuple[Task, ...], text: str) -> tuple[Expression | None, tuple[str, ...]]:
    """Return a written formula, or all that is wrong with it."""
    try:
        formula = Expression(text=text)
    except ValidationError as error:
        return None, tuple(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
    problems = tuple(formula.problems(tasks))
    return (None, problems) if problems else (formula, ())
