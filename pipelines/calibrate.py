"""Calibrators of a run's events, chosen and fitted on held-out rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from recsys_mtl.calibration import Calibration, Choice, Counts, Method, choose
from recsys_mtl.metrics.bank import MetricBank


@dataclass(frozen=True)
class Fitted:
    """The calibrator of every event, and what speaks for it."""

    choices: Mapping[str, Choice]

    @property
    def calibration(self) -> Calibration:
        """Return what the bundle holds."""
        return Calibration(tasks={task: choice.calibrator for task, choice in self.choices.items()})

    def report(self) -> dict[str, dict[str, str | float | None]]:
        """Return what ``metrics.json`` and the card say, by task; null where there are too few events."""
        return {
            task: {
                "calibrator": choice.calibrator.kind,
                "ece_before": None if math.isnan(choice.ece_before) else choice.ece_before,
                "ece_after": None if math.isnan(choice.ece_after) else choice.ece_after,
            }
            for task, choice in self.choices.items()
        }


def calibrate(held_out: MetricBank, method: Method) -> Fitted:
    """Choose and fit a calibrator for every event; the bank counts halves of the users apart."""
    choices = {}
    for task in held_out.binary.tasks:
        whole = _counts(held_out.cell_counts(task))
        first, second = held_out.half_counts(task)
        choices[task] = choose(whole, (_counts(first), _counts(second)), method)
    return Fitted(choices)


def _counts(cells: tuple[Tensor, Tensor, Tensor]) -> Counts:
    logits_K, negatives_K, positives_K = cells
    return Counts(logits_K, positives_K, negatives_K)
