"""Pictures of a finished run, for MLflow."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from recsys_mtl.metrics.bank import MetricBank
from recsys_mtl.plots import reliability_figure, roc_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(bank: MetricBank, split: str = "test") -> "Iterator[tuple[str, Figure]]":
    """Draw ROC curves and reliability of all events of a split, each with its file name."""
    metrics = bank.compute()
    tasks = bank.binary.tasks
    if not tasks:
        return
    curves = {task: torch.stack(list(bank.roc(task)), dim=1).numpy() for task in tasks}
    bins = {task: torch.stack([part.double() for part in bank.reliability(task)], dim=1).numpy() for task in tasks}
    yield f"plots/roc_{split}.png", roc_figure(curves, metrics, title=f"ROC, {split} split")
    yield f"plots/calibration_{split}.png", reliability_figure(bins, metrics, title=f"Calibration, {split} split")
