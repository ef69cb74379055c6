"""Evaluation: a split through the model into metrics, the same numbers on every worker."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from recsys_mtl.calibration import Calibration, predictions
from recsys_mtl.data.batch import Batch
from recsys_mtl.health import HealthRecord, Recorder, RowSample
from recsys_mtl.metrics.bank import MetricBank
from recsys_mtl.objectives.losses import LabelRules
from recsys_mtl.tasks import BinaryTask, Task


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    tasks: tuple[Task, ...],
    device: torch.device,
    calibration: Calibration | None = None,
    *,
    recorder: Recorder | None = None,
    halves: bool = False,
) -> MetricBank:
    """Score this worker's batches; return the metrics' state summed over workers. A collective.

    A ``recorder`` that watches the model hears of each batch before it passes. ``halves`` counts two halves of the
    users apart, to compare calibrators.
    """
    bank = MetricBank(tasks, halves=halves)
    rules = LabelRules(tasks)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in batches:
            if recorder is not None:
                recorder.expect(batch)
            logits_BT = model(batch.to(device)).cpu()
            labels_BT = rules(batch.labels_BT.cpu())
            if labels_BT.isfinite().any():  # the stand-in batch of a worker without rows has none, and no group either
                bank.update(scores(logits_BT, tasks, calibration), labels_BT, batch.groups_B.cpu())
    model.train(was_training)
    bank.reduce_()
    return bank


def examine(
    model: nn.Module,
    batches: Iterable[Batch],
    tasks: tuple[Task, ...],
    device: torch.device,
    calibration: Calibration | None = None,
    *,
    sample: RowSample,
) -> tuple[MetricBank, HealthRecord]:
    """Evaluate, and record experts, gates and, on a sample of the rows, gradients of all workers. A collective."""
    with Recorder(model, tasks, sample) as recorder:
        bank = evaluate(model, batches, tasks, device, calibration, recorder=recorder)
    recorder.record.reduce_()
    return bank, recorder.record


def scores(logits_BT: Tensor, tasks: tuple[Task, ...], calibration: Calibration | None = None) -> Tensor:
    """Return what metrics take: calibrated logits of events, amounts in their natural unit (B, T)."""
    events_T = torch.tensor([isinstance(task, BinaryTask) for task in tasks])
    calibrated_BT = (calibration or Calibration()).apply(logits_BT, tasks)
    return torch.where(events_T, calibrated_BT, predictions(logits_BT, tasks))
