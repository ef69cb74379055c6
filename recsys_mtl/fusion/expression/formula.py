"""A written expression as a formula."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator
from torch import Tensor

from recsys_mtl.fusion.base import FormulaBase, NotFinite
from recsys_mtl.fusion.expression.evaluation import evaluate
from recsys_mtl.fusion.expression.intervals import Interval
from recsys_mtl.fusion.expression.parser import KEPT, parse
from recsys_mtl.fusion.expression.slopes import Survey
from recsys_mtl.fusion.expression.tokens import ExpressionError
from recsys_mtl.fusion.expression.tree import Node, objectives
from recsys_mtl.tasks import RegressionTask, Task

MOST = 1e6
"""An amount above this counts as this: what an expression does further out need not be proven."""


def well_formed(text: str) -> str:
    """Check the grammar.

    Raises:
        ExpressionError: it is no expression.
    """
    parse(text)
    return text


class Expression(FormulaBase):
    """A formula that is written down; it is taken if it can be shown never to fall when an objective rises.

    Amounts enter it between 0 and 1,000,000.
    """

    kind: Literal["expression"] = "expression"
    text: Annotated[str, AfterValidator(well_formed)]
    """Names of tasks, numbers, ``+ - * / ^``, parentheses, ``log``, ``exp``, ``min`` and ``max``."""

    @property
    def tree(self) -> Node:
        """The expression's parts."""
        return parse(self.text)

    def effects(self) -> Mapping[str, float]:
        return {objective.name: 1.0 for objective in objectives(self.tree)}

    def combine(self, scores_BT: Tensor, tasks: Sequence[str]) -> Tensor:
        scores_TB = scores_BT.double().clamp(0, MOST).T.contiguous().numpy()
        fused_B = evaluate(self.tree, dict(zip(tasks, scores_TB, strict=True)))
        if (wrong_B := ~np.isfinite(fused_B)).any():
            raise NotFinite(int(wrong_B.argmax()))
        return torch.from_numpy(fused_B.copy())  # where it is one objective alone, that is a row of the scores

    def problems(self, tasks: Sequence[Task]) -> Iterator[str]:
        limits = {task.name: limits_of(task) for task in tasks}
        unknown: dict[str, int] = {}
        for mention in objectives(self.tree):
            if mention.name not in limits:
                unknown.setdefault(mention.name, mention.position)
        for name, position in unknown.items():
            yield f"at character {position}: no task {name!r} in the model; it has {', '.join(limits)}"
        if not unknown:
            yield from _falls(self.text, tuple(limits.items()))


def limits_of(task: Task) -> Interval:
    """Return where a task's scores lie."""
    if not isinstance(task, RegressionTask):
        return Interval(0, 1)
    return Interval(0, MOST if task.upper is None else min(task.upper, MOST))


@lru_cache(maxsize=KEPT)
def _falls(text: str, limits: tuple[tuple[str, Interval], ...]) -> tuple[str, ...]:
    """Say why an expression cannot be shown never to fall."""
    try:
        slopes = Survey(dict(limits)).explore(parse(text)).slopes
    except ExpressionError as error:
        return (str(error),)
    falling = [name for name, slope in slopes.items() if slope.low < 0]
    if not falling and not any(slope.high > 0 for slope in slopes.values()):
        return ("it rises with no task, so all candidates tie",)
    return tuple(f"cannot show that the score does not fall when {name} rises" for name in falling)
