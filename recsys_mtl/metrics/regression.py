"""Metrics of amounts such as watch time, in their natural unit."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from recsys_mtl.metrics.binary import ratio
from recsys_mtl.metrics.pairs import SAMPLE_ROWS, PairSample, RowNumbers
from recsys_mtl.metrics.ranking import Floats
from recsys_mtl.metrics.reduction import Group, sum_over_workers_


@dataclass(frozen=True)
class RegressionMetrics:
    """Quality of one task's predicted amounts; what its rows do not define is NaN."""

    rows: int
    """Rows with a known label."""
    rmse: float
    mae: float
    calibration: float
    """Mean prediction over mean label."""
    xauc: float
    """Probability that two rows with different labels are in the right order; equal predictions count half."""
    xauc_rows: int
    """Rows that XAUC's pairs were taken from."""


class RegressionAccumulator:
    """Exact error sums, and a bounded sample of rows for the order of pairs, of several tasks."""

    def __init__(self, tasks: tuple[str, ...], *, sample_rows: int = SAMPLE_ROWS, seed: int = 0) -> None:
        self.tasks = tasks
        self.sums = torch.zeros(len(tasks), 5, dtype=torch.float64)
        """Per task: rows, and sums of squared error, absolute error, prediction and label."""
        self.samples = tuple(PairSample(sample_rows) for _ in tasks)
        self._numbers = RowNumbers(seed)

    def update(self, predictions_BT: Tensor, labels_BT: Tensor, groups_B: Tensor | None = None) -> None:
        """Add rows, in the stream's order; a NaN label is unknown and counts for nothing.

        Args:
            groups_B: with it, the sampled rows do not depend on how rows are spread over workers.

        Raises:
            ValueError: a prediction is NaN.
        """
        predictions_BT, labels_BT = predictions_BT.detach().double().cpu(), labels_BT.double().cpu()
        if predictions_BT.isnan().any():
            wrong = self.tasks[int(predictions_BT.isnan().nonzero()[0, 1])]
            raise ValueError(f"task {wrong!r}: a prediction is NaN")
        groups = groups_B.long().cpu().numpy() if groups_B is not None else np.zeros(len(labels_BT), np.int64)
        priorities_B = self._numbers.number(groups)
        values_TB2 = torch.stack([predictions_BT, labels_BT], dim=-1).transpose(0, 1).numpy()
        for task, values_B2 in enumerate(values_TB2):
            known_B = ~np.isnan(values_B2[:, 1])
            self._add_task(task, values_B2[known_B])
            self.samples[task].add(priorities_B[known_B], values_B2[known_B])

    def _add_task(self, task: int, values_N2: Floats) -> None:
        error_N = values_N2[:, 0] - values_N2[:, 1]
        self.sums[task] += torch.tensor(
            [len(error_N), error_N @ error_N, np.abs(error_N).sum(), *values_N2.sum(0)], dtype=torch.float64
        )

    def state(self) -> dict[str, Tensor]:
        """Return the sums that add up over parts of the data; the samples are merged, not added."""
        return {"sums": self.sums}

    def merge(self, other: "RegressionAccumulator") -> None:
        """Add what another accumulator of the same tasks has seen."""
        self.sums += other.sums
        for mine, theirs in zip(self.samples, other.samples, strict=True):
            theirs.settle()
            mine.add(theirs.priorities, theirs.values)

    def reduce_(self, group: Group = None) -> None:
        """Replace this worker's sums and samples by those of all workers; once, after the last update."""
        sum_over_workers_(list(self.state().values()), group)
        self.gather_(group)

    def gather_(self, group: Group = None) -> None:
        """Replace this worker's samples by those of all workers."""
        for sample in self.samples:
            sample.gather_(group)

    def compute(self) -> tuple[RegressionMetrics, ...]:
        """Return the metrics of every task, in the tasks' order."""
        return tuple(self._compute(task) for task in range(len(self.tasks)))

    def _compute(self, task: int) -> RegressionMetrics:
        rows, squared, absolute, predicted, observed = self.sums[task].tolist()
        sample = self.samples[task]
        return RegressionMetrics(
            rows=int(rows),
            rmse=sqrt(ratio(squared, rows)),
            mae=ratio(absolute, rows),
            calibration=ratio(predicted, observed),
            xauc=sample.xauc(),
            xauc_rows=len(sample.priorities),
        )
