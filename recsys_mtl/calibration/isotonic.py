"""The isotonic calibrator: pools of logits, in which events became more frequent, by pool-adjacent-violators."""

import math

import torch
from torch import Tensor

from recsys_mtl.calibration.calibrators import MAX_KNOTS, Identity, Isotonic

MIN_EVENTS = 300
"""Fewer events, or fewer non-events, than this say more about noise than about the curve."""
STEEPEST = 20.0
"""Slope of the curve at most: a steeper one would turn the rounding of logits into differences of scores."""
Pool = tuple[float, float, float]
"""Events, non-events, and the sum of the logits of both."""


def fit_isotonic(logits_K: Tensor, positives_K: Tensor, negatives_K: Tensor) -> Identity | Isotonic:
    """Fit a rising curve to counts of events and non-events at K rising logits.

    Rates rise from pool to pool (Ayer et al., 1955); a knot is a pool's mean logit and the log-odds of its rate. Counts
    that do not show a curve leave the model's own probability.
    """
    if min(positives_K.sum(), negatives_K.sum()) < MIN_EVENTS:
        return Identity()
    bins = _bins(logits_K.double(), positives_K.double(), negatives_K.double())
    sizes = torch.tensor(_gentle(_with_both(pool_violators(bins))), dtype=torch.float64)
    positives, negatives, total = sizes.unbind(1)
    x, y = total / (positives + negatives), (positives / negatives).log().cummax(0).values  # of rounding, too
    return Isotonic(logits=tuple(x.tolist()), values=tuple(y.tolist()))


def pool_violators(bins: list[Pool]) -> list[Pool]:
    """Merge neighbours until the share of events rises from each pool to the next."""
    pools: list[Pool] = []
    for pool in bins:
        while pools and pools[-1][0] * pool[1] >= pool[0] * pools[-1][1]:  # rates compared without a division
            pool = _merged(pools.pop(), pool)
        pools.append(pool)
    return pools


def _bins(x_K: Tensor, positives_K: Tensor, negatives_K: Tensor) -> list[Pool]:
    """Sum counts in bins of about equal shares of events and non-events together, so that rare events are told apart.

    Rows with the same logit are never torn apart.
    """
    share_K = (positives_K / positives_K.sum() + negatives_K / negatives_K.sum()) / 2
    bin_K = ((share_K.cumsum(0) - share_K / 2) * MAX_KNOTS).long().clamp_(0, MAX_KNOTS - 1)
    terms_3K = torch.stack([positives_K, negatives_K, x_K * (positives_K + negatives_K)])
    sums_3N = terms_3K.new_zeros(3, MAX_KNOTS).index_add_(1, bin_K, terms_3K)
    return [(p, n, total) for p, n, total in sums_3N.T.tolist() if p + n > 0]


def _with_both(pools: list[Pool]) -> list[Pool]:
    """Merge a pool without events, which only the first can be, or without non-events, with its neighbour."""
    if len(pools) > 1 and pools[0][0] == 0:
        pools = [_merged(*pools[:2]), *pools[2:]]
    if len(pools) > 1 and pools[-1][1] == 0:
        pools = [*pools[:-2], _merged(*pools[-2:])]
    return pools


def _gentle(pools: list[Pool]) -> list[Pool]:
    """Merge neighbours between which the curve would be too steep."""
    gentle: list[Pool] = []
    for pool in pools:
        while gentle and _slope(gentle[-1], pool) > STEEPEST:
            pool = _merged(gentle.pop(), pool)
        gentle.append(pool)
    return gentle


def _slope(left: Pool, right: Pool) -> float:
    (x0, y0), (x1, y1) = ((total / (p + n), math.log(p / n)) for p, n, total in (left, right))
    return (y1 - y0) / (x1 - x0) if x1 > x0 else math.inf


def _merged(left: Pool, right: Pool) -> Pool:
    return left[0] + right[0], left[1] + right[1], left[2] + right[2]
