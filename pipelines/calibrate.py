"""Calibrators of a run's events, chosen and fitted on held-out rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from recsys_mtl.calibration import MIN_EVENTS, Calibration, Choice, Counts, Method, choose, levelled, mean_chance
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

    def kept_where_few(self, earlier: Calibration, day: MetricBank) -> "Fitted":
        """Keep the earlier model's calibrator of an event that a day has too few of to fit one."""
        choices = dict(self.choices)
        for task, choice in self.choices.items():
            _, negatives_K, positives_K = day.cell_counts(task)
            if min(positives_K.sum(), negatives_K.sum()) < MIN_EVENTS and task in earlier.tasks:
                choices[task] = choice._replace(calibrator=earlier.tasks[task])
        return Fitted(choices)

    def means(self, held_out: MetricBank) -> dict[str, float]:
        """Return what is promised on average of held-out rows, by event; the bank has uncalibrated logits."""
        rows = {task: rows_of(held_out, task) for task in self.choices}
        return {
            task: mean_chance(choice.calibrator, *rows[task]) if len(rows[task][0]) else math.nan
            for task, choice in self.choices.items()
        }

    def levelled(self, held_out: MetricBank, means: Mapping[str, float]) -> "Fitted":
        """Shift every calibrator so that it promises the same on average, by a model that has changed since."""
        choices = {
            task: choice._replace(calibrator=levelled(choice.calibrator, *rows_of(held_out, task), means[task]))
            for task, choice in self.choices.items()
        }
        return Fitted(choices)


def calibrate(held_out: MetricBank, method: Method) -> Fitted:
    """Choose and fit a calibrator for every event; the bank counts halves of the users apart."""
    choices = {}
    for task in held_out.binary.tasks:
        whole = _counts(held_out.cell_counts(task))
        first, second = held_out.half_counts(task)
        choices[task] = choose(whole, (_counts(first), _counts(second)), method)
    return Fitted(choices)


def rows_of(bank: MetricBank, task: str) -> tuple[Tensor, Tensor]:
    """Return logits of an event, and how many rows have each."""
    logits_K, negatives_K, positives_K = bank.cell_counts(task)
    return logits_K, negatives_K + positives_K


def _counts(cells: tuple[Tensor, Tensor, Tensor]) -> Counts:
    logits_K, negatives_K, positives_K = cells
    return Counts(logits_K, positives_K, negatives_K)
