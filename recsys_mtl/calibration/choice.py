"""Which calibrator a task gets: the simplest that held-out rows do not tell from the best."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from recsys_mtl.calibration import isotonic, platt
from recsys_mtl.calibration.calibrators import Calibrator, Identity, Isotonic, Platt

Method = Literal["auto", "identity", "platt", "isotonic"]
BINS = 50
"""Equal-mass bins of the calibration error, as many as metrics have."""


class Counts(NamedTuple):
    """Events and non-events of one task at K rising logits."""

    logits_K: Tensor
    positives_K: Tensor
    negatives_K: Tensor

    def moved(self, calibrator: Calibrator) -> "Counts":
        """Return the same rows at calibrated logits."""
        x_K = self.logits_K.double()
        if isinstance(calibrator, Platt):
            x_K = calibrator.slope * x_K + calibrator.intercept
        elif isinstance(calibrator, Isotonic):
            x_K = calibrator.curve(x_K)
        return Counts(x_K, self.positives_K, self.negatives_K)


class Choice(NamedTuple):
    """A calibrator and what rows that it was not fitted to say of it."""

    calibrator: Calibrator
    ece_before: float
    """Expected calibration error of the model's own probabilities; NaN if there is nothing to compare."""
    ece_after: float
    """That of the calibrator's kind, each half of the users measured with what the other half fits."""


def choose(whole: Counts, halves: tuple[Counts, Counts], method: Method = "auto") -> Choice:
    """Choose a task's calibrator, and fit it to all rows.

    ``auto`` takes the simplest of identity, Platt and isotonic whose error on held-out rows is within one standard
    error of the least (Breiman et al., 1984). Where a half has too few events to compare, it takes Platt's.
    """
    kinds: tuple[Method, ...] = ("identity", "platt", "isotonic")
    comparable = all(min(half.positives_K.sum(), half.negatives_K.sum()) >= platt.MIN_EVENTS for half in halves)
    if not comparable:
        return Choice(_fit("platt" if method == "auto" else method, whole), math.nan, math.nan)
    errors = {kind: held_out_error(kind, halves) for kind in kinds}
    if method == "auto":
        within = min(errors.values()) + standard_error(whole)
        method = next(kind for kind in kinds if errors[kind] <= within)
    calibrator = _fit(method, whole)
    return Choice(calibrator, errors["identity"], errors[method])


def held_out_error(kind: Method, halves: tuple[Counts, Counts]) -> float:
    """Return the calibration error of both halves, each calibrated by the other, weighted by rows."""
    parts = [(_rows(test), calibration_error(test.moved(_fit(kind, fit)))) for fit, test in (halves, halves[::-1])]
    return sum(rows * error for rows, error in parts) / sum(rows for rows, _ in parts)


def calibration_error(counts: Counts) -> float:
    """Return the mean distance of predicted and observed rate over equal-mass bins."""
    predicted, observed, _ = _binned(counts)
    return float((predicted - observed).abs().sum() / _rows(counts))


def standard_error(counts: Counts) -> float:
    """Return the standard deviation that label noise alone gives to the error of right probabilities.

    A bin's distance is half normal then: its variance is 1 - 2/π of that of the bin's number of events.
    """
    _, positives, rows = _binned(counts)
    variance = (positives * (1 - positives / rows)).sum() * (1 - 2 / math.pi)
    return math.sqrt(float(variance)) / _rows(counts)


def _binned(counts: Counts) -> tuple[Tensor, Tensor, Tensor]:
    """Sum predicted events, events and rows in bins that hold about as many rows each."""
    n_K = counts.positives_K + counts.negatives_K
    bin_K = (n_K.cumsum(0) - n_K) * BINS // n_K.sum()
    terms = torch.stack([counts.logits_K.double().sigmoid() * n_K, counts.positives_K.double(), n_K.double()])
    sums = terms.new_zeros(3, BINS).index_add_(1, bin_K.long(), terms)
    predicted, positives, rows = sums[:, sums[2] > 0]
    return predicted, positives, rows


def _rows(counts: Counts) -> int:
    return int(counts.positives_K.sum() + counts.negatives_K.sum())


def _fit(method: Method, counts: Counts) -> Calibrator:
    if method == "platt":
        return platt.fit_platt(*counts)
    return isotonic.fit_isotonic(*counts) if method == "isotonic" else Identity()
