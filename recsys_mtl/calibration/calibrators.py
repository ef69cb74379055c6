"""Calibrators of a bundle, and predictions from logits."""

import math
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, FiniteFloat, PositiveFloat, model_validator
from torch import Tensor

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task


class Identity(Config):
    """The model's own probability."""

    kind: Literal["identity"] = "identity"


class Platt(Config):
    """σ(slope · logit + intercept), Platt (1999), fitted on validation. It keeps the order of candidates."""

    kind: Literal["platt"] = "platt"
    slope: PositiveFloat
    intercept: float


MAX_KNOTS = 100
"""Knots of an isotonic calibrator at most: a few kilobytes of JSON, and steps too fine to be told from noise beyond."""
Knots = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=MAX_KNOTS)]


class Isotonic(Config):
    """A rising curve through knots, linear between them and of slope 1 beyond the first and the last.

    It keeps the order of candidates: where ``values`` rise there are no new ties but those of rounding.
    """

    kind: Literal["isotonic"] = "isotonic"
    logits: Knots
    """The model's logits at the knots, rising."""
    values: Knots
    """Calibrated logits there, which never fall."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        problems = []
        if len(self.logits) != len(self.values):
            problems.append(f"values: {len(self.values)} numbers for {len(self.logits)} logits")
        if any(left >= right for left, right in pairwise(self.logits)):
            problems.append("logits: each must be greater than the one before")
        if any(left > right for left, right in pairwise(self.values)):
            problems.append("values: none may be less than the one before")
        if problems:
            raise ConfigError(problems)
        return self

    @cached_property
    def _segments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Knots, and of each segment, the two beyond the ends included: its start, slope and greatest value."""
        x_K, y_K = (torch.tensor(column, dtype=torch.float64) for column in (self.logits, self.values))
        one = x_K.new_ones(1)
        start_2S = torch.stack([torch.cat([column[:1], column]) for column in (x_K, y_K)])
        slope_S = torch.cat([one, y_K.diff() / x_K.diff(), one])
        return x_K, start_2S, slope_S, torch.cat([y_K, one * math.inf])

    def curve(self, logits_B: Tensor) -> Tensor:
        """Return calibrated logits."""
        x_K, start_2S, slope_S, most_S = (part.to(logits_B.device) for part in self._segments)
        x_B = logits_B.double()
        segment_B = torch.searchsorted(x_K, x_B.contiguous(), right=True)
        x0_B, y0_B = start_2S[:, segment_B]
        risen_B = y0_B + slope_S[segment_B] * (x_B - x0_B)
        return torch.minimum(risen_B, most_S[segment_B]).to(logits_B.dtype)  # no rounding above the next segment


Calibrator = Annotated[Identity | Platt | Isotonic, Field(discriminator="kind")]


class Calibration(Config):
    """One calibrator for each event; ``calibration.json`` of a bundle."""

    tasks: dict[str, Calibrator] = {}
    """By task; a task that is not listed keeps the model's own probability."""

    def apply(self, logits_BT: Tensor, tasks: tuple[Task, ...]) -> Tensor:
        """Return calibrated logits (B, T); what has neither a calibrator nor a correction stays as it is."""
        found = [self.tasks.get(task.name) if isinstance(task, BinaryTask) else None for task in tasks]
        slope_T = logits_BT.new_tensor([c.slope if isinstance(c, Platt) else 1.0 for c in found])
        intercept_T = logits_BT.new_tensor([c.intercept if isinstance(c, Platt) else 0.0 for c in found])
        corrected_BT = corrected(logits_BT, tasks)
        calibrated_BT = corrected_BT * slope_T + intercept_T
        for column, calibrator in enumerate(found):
            if isinstance(calibrator, Isotonic):
                calibrated_BT[:, column] = calibrator.curve(corrected_BT[:, column])
        return calibrated_BT


def corrected(logits_BT: Tensor, tasks: tuple[Task, ...]) -> Tensor:
    """Undo that training saw a share r of the negatives only: logit + log r, which is p = r p̂ / (1 - p̂ + r p̂)."""
    rates = [task.negative_rate if isinstance(task, BinaryTask) else 1.0 for task in tasks]
    return logits_BT + logits_BT.new_tensor([math.log(rate) for rate in rates])


def predictions(logits_BT: Tensor, tasks: tuple[Task, ...], calibration: Calibration | None = None) -> Tensor:
    """Turn outputs into predictions: calibrated probabilities of events, amounts in their natural unit (B, T)."""
    scaled_BT = (calibration or Calibration()).apply(logits_BT, tasks)
    columns = [
        out_B.sigmoid() if isinstance(task, BinaryTask) else natural_unit(out_B, task)
        for task, out_B in zip(tasks, scaled_BT.unbind(1), strict=True)
    ]
    return torch.stack(columns, dim=1)


def natural_unit(out_B: Tensor, task: RegressionTask) -> Tensor:
    """Bring an amount back from the scale on which it is learnt."""
    amount_B = out_B.expm1().clamp(min=0) if task.transform == "log1p" else out_B
    return amount_B if task.upper is None else amount_B.clamp(max=task.upper)
