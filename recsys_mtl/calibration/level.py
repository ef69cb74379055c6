"""The level of a calibrator: how much it promises on average, whatever it says of one row against another."""

import torch
from torch import Tensor

from recsys_mtl.calibration.calibrators import Calibration, Calibrator, Isotonic, Platt
from recsys_mtl.tasks import BinaryTask

FARTHEST = 20.0
"""Logits are shifted by no more."""
HALVINGS = 60
"""Bisections; after that many, the shift is exact to the last bit."""
_EVENT = (BinaryTask(name="event"),)


def levelled(calibrator: Calibrator, logits_K: Tensor, rows_K: Tensor, mean: float) -> Calibrator:
    """Shift the logits that a calibrator takes so that it promises a mean probability of K logits, each of some rows.

    Nothing changes where there are no rows, or the mean is 0 or 1.
    """
    if not rows_K.sum() or not 0 < mean < 1:
        return calibrator
    low, high = -FARTHEST, FARTHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_much = mean_chance(shifted(calibrator, middle), logits_K, rows_K) > mean
        low, high = (low, middle) if too_much else (middle, high)
    return shifted(calibrator, (low + high) / 2)


def mean_chance(calibrator: Calibrator, logits_K: Tensor, rows_K: Tensor) -> float:
    """Return the mean probability that a calibrator promises."""
    calibration = Calibration(tasks={"event": calibrator})
    chances_K = calibration.apply(logits_K.double().unsqueeze(1), _EVENT).squeeze(1).sigmoid()
    weights_K = rows_K.double()
    return float((chances_K @ weights_K) / weights_K.sum())


def shifted(calibrator: Calibrator, by: float) -> Calibrator:
    """Return the calibrator that does with a logit what the given one does with the logit and ``by``."""
    if isinstance(calibrator, Isotonic):
        moved = torch.tensor(calibrator.logits, dtype=torch.float64) - by
        return Isotonic(logits=tuple(moved.tolist()), values=calibrator.values)
    slope, intercept = (calibrator.slope, calibrator.intercept) if isinstance(calibrator, Platt) else (1.0, 0.0)
    return Platt(slope=slope, intercept=intercept + slope * by)
