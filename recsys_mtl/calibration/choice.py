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
    distances = {kind: held_out_distances(kind, halves) for kind in kinds}
    errors = {kind: float(distance_N.sum()) for kind, distance_N in distances.items()}
    if method == "auto":
        best_N = distances[min(kinds, key=errors.__getitem__)]
        method = next(kind for kind in kinds if _not_worse(distances[kind], best_N))
    return Choice(_fit(method, whole), errors["identity"], errors[method])


def held_out_distances(kind: Method, halves: tuple[Counts, Counts]) -> Tensor:
    """Return the parts of the calibration error by bin, of both halves, each calibrated by the other.

    Bins hold the same rows whatever the kind, for all of them keep the order of logits.
    """
    rows = sum(_rows(half) for half in halves)
    return torch.cat([_distances(test.moved(_fit(kind, fit))) / rows for fit, test in (halves, halves[::-1])])


def calibration_error(counts: Counts) -> float:
    """Return the mean distance of predicted and observed rate over equal-mass bins."""
    return float(_distances(counts).sum() / _rows(counts))


def _not_worse(distance_N: Tensor, best_N: Tensor) -> bool:
    """Tell whether an error is within one standard error of the best, their difference taken bin by bin.

    Label noise in a bin moves both distances alike; what is left of it in the difference is what decides.
    """
    excess_N = distance_N - best_N
    return float(excess_N.sum()) <= float(excess_N.std(correction=0)) * math.sqrt(len(excess_N))


def _distances(counts: Counts) -> Tensor:
    predicted_N, positives_N = _binned(counts)
    return (predicted_N - positives_N).abs()


def _binned(counts: Counts) -> tuple[Tensor, Tensor]:
    """Sum predicted events and events in bins that hold about as many rows each."""
    n_K = counts.positives_K + counts.negatives_K
    bin_K = (n_K.cumsum(0) - n_K) * BINS // n_K.sum()
    terms_2K = torch.stack([counts.logits_K.double().sigmoid() * n_K, counts.positives_K.double()])
    predicted_N, positives_N = terms_2K.new_zeros(2, BINS).index_add_(1, bin_K.long(), terms_2K)
    return predicted_N, positives_N


def _rows(counts: Counts) -> int:
    return int(counts.positives_K.sum() + counts.negatives_K.sum())


def _fit(method: Method, counts: Counts) -> Calibrator:
    if method == "platt":
        return platt.fit_platt(*counts)
    return isotonic.fit_isotonic(*counts) if method == "isotonic" else Identity()
