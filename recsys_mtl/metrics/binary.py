"""Metrics of yes-or-no tasks from a histogram of logits: memory is fixed, whatever the number of rows."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from recsys_mtl.metrics.reduction import Group, sum_over_workers_

CELLS = 2**18
"""Cells of the grid; logits with a standard deviation of 0.2 or more then have an AUC error bound below 1e-4."""
LIMIT = 16.0
"""The grid spans logits of that size either way (probabilities down to 1e-7); logits beyond are in the end cells."""
ECE_BINS = 50
"""Equal-mass bins of the calibration error. More bins see finer errors and more label noise."""


@dataclass(frozen=True)
class BinaryMetrics:
    """Quality of one task's probabilities; what its rows do not define is NaN."""

    rows: int
    """Rows with a known label."""
    positives: int
    auc: float
    """Probability that a positive scores above a negative; a tie counts half."""
    auc_error_bound: float
    """The exact AUC is within this distance: only pairs that share a cell are not ordered by the histogram."""
    logloss: float
    normalized_entropy: float
    """Log-loss over that of always predicting the base rate: below 1 is better than knowing no feature."""
    calibration: float
    """Predicted over observed positives."""
    ece: float
    """Expected calibration error: mean distance of predicted and observed rate over equal-mass bins."""


class RocCurve(NamedTuple):
    """Points of the ROC curve from (0, 0) to (1, 1)."""

    false_positive_rate: Tensor
    true_positive_rate: Tensor


class Reliability(NamedTuple):
    """Predicted and observed rate in bins of equal mass, by rising prediction."""

    predicted: Tensor
    observed: Tensor
    rows: Tensor


class BinaryAccumulator:
    """Counts labels of several tasks on a fixed grid of logits, beside exact sums.

    The state of a union of rows is the sum of the states. Log-loss and calibration are exact. AUC has a proven bound,
    and the calibration bins take a cell's middle for its logits, which moves a bin's mean by less than 2e-5.
    """

    def __init__(self, tasks: tuple[str, ...], *, cells: int = CELLS, device: torch.device | None = None) -> None:
        self.tasks = tasks
        self.cells = cells
        self.counts = torch.zeros(len(tasks), 2, cells, dtype=torch.int64, device=device)
        """Rows per task, label and cell."""
        self.sums = torch.zeros(len(tasks), 2, dtype=torch.float64, device=device)
        """Per task, the sums of log-loss and of predicted probability."""

    def update(self, logits_BT: Tensor, labels_BT: Tensor) -> None:
        """Add rows; a NaN label is unknown and counts for nothing.

        Raises:
            ValueError: a logit is NaN, or a label is neither 0, 1 nor NaN.
        """
        logits_BT, labels_BT = logits_BT.detach().float(), labels_BT.float()
        known_BT = ~labels_BT.isnan()
        self._check(logits_BT, labels_BT, known_BT)
        self._count(logits_BT, labels_BT, known_BT)
        x_BT = logits_BT.double()
        loss_BT = softplus(torch.where(labels_BT > 0, -x_BT, x_BT))
        for column, term_BT in enumerate((loss_BT, x_BT.sigmoid_())):
            self.sums[:, column] += torch.where(known_BT, term_BT, 0.0).sum(0)

    def _check(self, logits_BT: Tensor, labels_BT: Tensor, known_BT: Tensor) -> None:
        if logits_BT.isnan().any():
            raise ValueError(f"task {self._first(logits_BT.isnan())!r}: a logit is NaN")
        wrong_BT = known_BT & (labels_BT != 0) & (labels_BT != 1)
        if wrong_BT.any():
            value = labels_BT[wrong_BT][0].item()
            raise ValueError(f"task {self._first(wrong_BT)!r}: label {value:g} is neither 0, 1 nor missing")

    def _first(self, where_BT: Tensor) -> str:
        return self.tasks[int(where_BT.nonzero()[0, 1])]

    def _count(self, logits_BT: Tensor, labels_BT: Tensor, known_BT: Tensor) -> None:
        scaled_BT = (logits_BT.clamp(-LIMIT, LIMIT) + LIMIT) * (self.cells / (2 * LIMIT))
        cell_BT = scaled_BT.long().clamp_(max=self.cells - 1)
        plane_BT = torch.arange(len(self.tasks), device=cell_BT.device) * 2 + (labels_BT > 0)
        index = (plane_BT * self.cells + cell_BT)[known_BT]
        self.counts.view(-1).scatter_add_(0, index, torch.ones_like(index))

    def state(self) -> dict[str, Tensor]:
        """Return all that is known; the states of two parts of the rows add up to the state of the whole."""
        return {"counts": self.counts, "sums": self.sums}

    def merge(self, other: "BinaryAccumulator") -> None:
        """Add what another accumulator of the same tasks and grid has seen."""
        for mine, theirs in zip(self.state().values(), other.state().values(), strict=True):
            mine += theirs.to(mine.device)

    def reduce_(self, group: Group = None) -> None:
        """Replace this worker's counts by those of all workers; once, after the last update."""
        sum_over_workers_(list(self.state().values()), group)

    def compute(self) -> tuple[BinaryMetrics, ...]:
        """Return the metrics of every task, in the tasks' order."""
        return tuple(self._compute(task) for task in range(len(self.tasks)))

    def _compute(self, task: int) -> BinaryMetrics:
        loss_sum, predicted = self.sums[task].tolist()
        negatives, positives = self.counts[task].sum(-1).tolist()
        rows = negatives + positives
        auc, bound = self._auc(task)
        return BinaryMetrics(
            rows=rows,
            positives=positives,
            auc=auc,
            auc_error_bound=bound,
            logloss=ratio(loss_sum, rows),
            normalized_entropy=ratio(loss_sum, rows * base_rate_loss(positives, rows)),
            calibration=ratio(predicted, positives),
            ece=self._ece(task),
        )

    def _auc(self, task: int) -> tuple[float, float]:
        negative, positive = self.counts[task].double()
        pairs = float(negative.sum() * positive.sum())
        shared = float(negative @ positive)
        below = float((negative.cumsum(0) - negative) @ positive)
        return ratio(below + shared / 2, pairs), ratio(shared / 2, pairs)

    def _ece(self, task: int) -> float:
        predicted, observed, rows = self.reliability(task, ECE_BINS)
        return ratio(float((predicted - observed).abs() @ rows.double()), float(rows.sum()))

    def roc(self, task: int, max_points: int = 200) -> RocCurve:
        """Return at most ``max_points`` points of the curve, evenly spaced along it; none where a class is missing."""
        negative, positive = self.counts[task].double().flip(-1)
        if not (negative.any() and positive.any()):
            return RocCurve(negative.new_zeros(0), negative.new_zeros(0))
        rates = [torch.cat([side.new_zeros(1), side.cumsum(0) / side.sum()]) for side in (negative, positive)]
        length = rates[0] + rates[1]
        wanted = torch.linspace(0, 2, max_points, dtype=length.dtype, device=length.device)
        chosen = torch.unique_consecutive(torch.searchsorted(length, wanted).clamp_(max=self.cells))
        return RocCurve(rates[0][chosen].cpu(), rates[1][chosen].cpu())

    def cell_counts(self, task: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the middles of the cells that hold rows, with their negatives and positives."""
        cell = self.counts[task].sum(0).nonzero().squeeze(-1)
        negative, positive = self.counts[task][:, cell]
        return (cell.double() + 0.5) * (2 * LIMIT / self.cells) - LIMIT, negative, positive

    def reliability(self, task: int, bins: int = 20) -> Reliability:
        """Return predicted and observed rates in at most ``bins`` bins of about the same number of rows.

        Bins are cut between cells: rows with the same score are never torn apart, so a popular score is one wide bin.
        """
        middle, negative, positive = self.cell_counts(task)
        weight = negative + positive
        bin_of_cell = (weight.cumsum(0) - weight) * bins // weight.sum().clamp(min=1)
        terms = torch.stack([middle.sigmoid() * weight, positive.double(), weight.double()])
        totals = terms.new_zeros(3, bins).index_add_(1, bin_of_cell, terms).cpu()
        predicted, observed, rows = totals[:, totals[2] > 0]
        return Reliability(predicted / rows, observed / rows, rows.long())


def ratio(part: float, whole: float) -> float:
    """Divide; NaN where there is nothing to divide by."""
    return part / whole if whole else float("nan")


def base_rate_loss(positives: int, rows: int) -> float:
    """Return the log-loss of predicting the base rate for every row."""
    if not rows:
        return 0.0
    rate = torch.tensor([positives / rows, 1 - positives / rows], dtype=torch.float64)
    return float(torch.special.entr(rate).sum())
