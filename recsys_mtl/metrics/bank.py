"""All metrics of all tasks of a model, fed batch by batch."""

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from recsys_mtl.metrics.binary import BinaryAccumulator, Reliability, RocCurve
from recsys_mtl.metrics.grouped import GroupedAUC, GroupScores
from recsys_mtl.metrics.reduction import Group, sum_over_workers_
from recsys_mtl.metrics.regression import RegressionAccumulator
from recsys_mtl.tasks import Task

TaskMetrics = dict[str, float | int]
CellCounts = tuple[Tensor, Tensor, Tensor]
"""Logits with their negatives and positives."""


class MetricBank:
    """Streaming metrics per task, whose memory does not grow with the rows, reduced over workers at the end.

    Use one bank per evaluation: ``update`` for every batch, ``reduce_`` once on every worker, ``compute``.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        device: torch.device | None = None,
        *,
        collect_groups: bool = False,
        halves: bool = False,
    ) -> None:
        """``halves`` counts one half of the groups apart as well."""
        self.tasks = tuple(task.name for task in tasks)
        self._columns = {
            kind: [column for column, task in enumerate(tasks) if task.kind == kind]
            for kind in ("binary", "regression")
        }
        binary, regression = (tuple(self.tasks[column] for column in columns) for columns in self._columns.values())
        self.binary = BinaryAccumulator(binary, device=device)
        self.grouped = GroupedAUC(binary, collect=collect_groups)
        self.regression = RegressionAccumulator(regression)
        self._half = BinaryAccumulator(binary, device=device) if halves else None

    def update(self, predictions_BT: Tensor, labels_BT: Tensor, groups_B: Tensor | None) -> None:
        """Add a batch.

        Args:
            predictions_BT: logits of binary tasks, and amounts in their natural unit of regression tasks.
            labels_BT: NaN where a label is unknown or the row is outside of the task's space.
            groups_B: the user of each row: all rows of one are contiguous and on one worker. Without groups there is
                no grouped AUC.

        Raises:
            ValueError: a prediction is NaN, a binary label is neither 0 nor 1, a group comes back after others.
        """
        binary, regression = self._columns.values()
        if binary:
            logits_BT, flags_BT = predictions_BT[:, binary], labels_BT[:, binary]
            self.binary.update(logits_BT, flags_BT)
            if groups_B is not None:
                self.grouped.update(groups_B, logits_BT, flags_BT)
                if self._half is not None:
                    chosen_B = in_half(groups_B)
                    self._half.update(logits_BT[chosen_B], flags_BT[chosen_B])
        if regression:
            self.regression.update(predictions_BT[:, regression], labels_BT[:, regression], groups_B)

    def reduce_(self, group: Group = None) -> None:
        """Replace this worker's counts by those of all workers; once, after the last update of every worker."""
        parts = (self.binary, self.grouped, self.regression)
        states = [part.state() for part in parts] + ([] if self._half is None else [self._half.state()])
        sum_over_workers_([tensor for state in states for tensor in state.values()], group)
        self.grouped.gather_(group)
        self.regression.gather_(group)

    def compute(self) -> dict[str, TaskMetrics]:
        """Return every task's metrics by name; a metric that the rows do not define is NaN."""
        metrics: dict[str, TaskMetrics] = {
            name: asdict(plain) | asdict(grouped)
            for name, plain, grouped in zip(
                self.binary.tasks, self.binary.compute(), self.grouped.compute(), strict=True
            )
        }
        amounts = zip(self.regression.tasks, self.regression.compute(), strict=True)
        metrics |= {name: asdict(values) for name, values in amounts}
        return {name: metrics[name] for name in self.tasks}

    def roc(self, task: str, max_points: int = 200) -> RocCurve:
        """Return a binary task's ROC curve."""
        return self.binary.roc(self.binary.tasks.index(task), max_points)

    def reliability(self, task: str, bins: int = 20) -> Reliability:
        """Return a binary task's predicted and observed rates."""
        return self.binary.reliability(self.binary.tasks.index(task), bins)

    def cell_counts(self, task: str) -> CellCounts:
        """Return logits of a binary task with their negatives and positives: what a calibrator is fitted to."""
        return self.binary.cell_counts(self.binary.tasks.index(task))

    def half_counts(self, task: str) -> tuple[CellCounts, CellCounts]:
        """Return the same of two halves of the groups, which share none; needs ``halves`` and groups."""
        assert self._half is not None
        column, rest = self.binary.tasks.index(task), BinaryAccumulator((task,))
        rest.counts = (self.binary.counts[column] - self._half.counts[column]).unsqueeze(0)
        return self._half.cell_counts(column), rest.cell_counts(0)

    def group_scores(self, task: str) -> GroupScores:
        """Return the groups behind a binary task's grouped AUC, to resample them; needs ``collect_groups``."""
        return self.grouped.scores(self.grouped.tasks.index(task))


def in_half(groups_B: Tensor) -> Tensor:
    """Tell which rows belong to the first half: a hash of the group decides, alike on every worker."""
    mixed_B = groups_B.long() * -7046029254386353131  # 2^64 / golden ratio, odd: the high bits depend on all bits below
    return (mixed_B >> 63) == 0
