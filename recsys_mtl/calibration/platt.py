"""Platt's calibrator, fitted to counts of events by logit."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recsys_mtl.calibration.calibrators import Identity, Platt

MIN_EVENTS = 50
"""Fewer events, or fewer non-events, than this in validation do not determine two numbers."""
STEPS = 100
"""Limit of Newton's method, which needs about ten."""
PRECISION = 1e-12
"""Nats per row that are not worth another step; a million rows' sum has rounding errors of that size."""


def fit_platt(logits_K: Tensor, positives_K: Tensor, negatives_K: Tensor) -> Identity | Platt:
    """Fit Platt's slope and intercept to counts of events and non-events at K logits.

    Maximum likelihood, with a unit of prior weight on slope 1 so that separable counts, and logits that hardly differ,
    have a solution too. Counts to which no rising line can be fitted leave the model's own probability.
    """
    if min(positives_K.sum(), negatives_K.sum()) < MIN_EVENTS:
        return Identity()
    x_K, positives_K, negatives_K = logits_K.double(), positives_K.double(), negatives_K.double()
    n_K = positives_K + negatives_K
    centre = (x_K * n_K).sum() / n_K.sum()
    slope, level = _maximise(x_K - centre, positives_K, negatives_K).tolist()
    return Platt(slope=slope, intercept=level - slope * float(centre)) if slope > 0 else Identity()


def _maximise(x_K: Tensor, positives_K: Tensor, negatives_K: Tensor) -> Tensor:
    """Return slope and intercept by Newton's method, its steps halved as long as they overshoot."""
    design_K2 = torch.stack([x_K, torch.ones_like(x_K)], dim=1)
    n_K, ridge_22 = positives_K + negatives_K, torch.diag(x_K.new_tensor([1.0, 1e-9]))  # solvable if all p are 0 or 1

    def loss(theta_2: Tensor) -> Tensor:
        z_K = design_K2 @ theta_2
        likelihoods_K = positives_K * logsigmoid(z_K) + negatives_K * logsigmoid(-z_K)
        return (theta_2[0] - 1).square() / 2 - likelihoods_K.sum()

    theta_2 = torch.stack([x_K.new_tensor(1.0), (positives_K.sum() / negatives_K.sum()).log()])
    for _ in range(STEPS):
        p_K = (design_K2 @ theta_2).sigmoid()
        gradient_2 = design_K2.T @ (n_K * p_K - positives_K) + ridge_22[0] * (theta_2 - 1)
        curvature_22 = (design_K2.T * (n_K * p_K * (1 - p_K))) @ design_K2 + ridge_22
        step_2 = torch.linalg.solve(curvature_22, gradient_2)
        if gradient_2 @ step_2 < PRECISION * n_K.sum():
            break
        while loss(theta_2 - step_2) > loss(theta_2):
            step_2 = step_2 / 2
        theta_2 = theta_2 - step_2
    return theta_2
