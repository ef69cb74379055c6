"""Calibration: from a task's logit to a probability that can be taken at its word."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from recsys_mtl.config import Config
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task


class Identity(Config):
    """The model's own probability."""

    kind: Literal["identity"] = "identity"


class Platt(Config):
    """σ(slope · logit + intercept), Platt (1999), fitted on validation. It keeps the order of candidates."""

    kind: Literal["platt"] = "platt"
    slope: PositiveFloat
    intercept: float


Calibrator = Annotated[Identity | Platt, Field(discriminator="kind")]


class Calibration(Config):
    """One calibrator for each event; ``calibration.json`` of a bundle."""

    tasks: dict[str, Calibrator] = {}
    """By task; a task that is not listed keeps the model's own probability."""

    def apply(self, logits_BT: Tensor, tasks: tuple[Task, ...]) -> Tensor:
        """Return calibrated logits (B, T); outputs of tasks without a calibrator stay as they are."""
        found = [self.tasks.get(task.name) for task in tasks]
        slope_T = logits_BT.new_tensor([c.slope if isinstance(c, Platt) else 1.0 for c in found])
        intercept_T = logits_BT.new_tensor([c.intercept if isinstance(c, Platt) else 0.0 for c in found])
        return logits_BT * slope_T + intercept_T


def predictions(logits_BT: Tensor, tasks: tuple[Task, ...], calibration: Calibration | None = None) -> Tensor:
    """Turn outputs into predictions: calibrated probabilities of events, amounts in their natural unit (B, T)."""
    scaled_BT = logits_BT if calibration is None else calibration.apply(logits_BT, tasks)
    columns = [
        out_B.sigmoid() if isinstance(task, BinaryTask) else natural_unit(out_B, task)
        for task, out_B in zip(tasks, scaled_BT.unbind(1), strict=True)
    ]
    return torch.stack(columns, dim=1)


def natural_unit(out_B: Tensor, task: RegressionTask) -> Tensor:
    """Bring an amount back from the scale on which it is learnt."""
    amount_B = out_B.expm1().clamp(min=0) if task.transform == "log1p" else out_B
    return amount_B if task.upper is None else amount_B.clamp(max=task.upper)


MIN_POSITIVES = 50
"""Fewer events than this in validation do not determine two numbers."""


def fit_platt(logits_K: Tensor, positives_K: Tensor, negatives_K: Tensor) -> Calibrator:
    """Fit Platt's slope and intercept to counts of events and non-events at K logits, by Newton's method.

    Maximum likelihood, with a unit of prior weight on the identity so that separable counts have a solution too.
    """
    x_K, n_K = logits_K.double(), (positives_K + negatives_K).double()
    if min(positives_K.sum(), negatives_K.sum()) < MIN_POSITIVES:
        return Identity()
    theta = torch.tensor([1.0, 0.0], dtype=torch.float64)
    design_K2 = torch.stack([x_K, torch.ones_like(x_K)], dim=1)
    for _ in range(50):
        p_K = (design_K2 @ theta).sigmoid()
        gradient = design_K2.T @ (n_K * p_K - positives_K.double()) + theta - torch.tensor([1.0, 0.0])
        hessian = (design_K2.T * (n_K * p_K * (1 - p_K))) @ design_K2 + torch.eye(2)
        step = torch.linalg.solve(hessian, gradient)
        theta = theta - step
        if step.abs().max() < 1e-10:
            break
    slope, intercept = theta.tolist()
    return Platt(slope=slope, intercept=intercept) if math.isfinite(slope) and slope > 0 else Identity()
