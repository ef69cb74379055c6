"""Pictures of a finished run, for MLflow."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipelines.worker import Trained
from recsys_mtl.health import Gradients
from recsys_mtl.metrics.bank import MetricBank
from recsys_mtl.plots import cosine_figure, gate_figure, reliability_figure, roc_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(trained: Trained) -> "Iterator[tuple[str, Figure]]":
    """Draw what the test split shows, each picture with its file name."""
    yield from event_figures(trained.test, "test")
    for gate in trained.record.gates if trained.record else ():
        title = f"Gate weights of {gate.name}, mean ± sd over {gate.rows:,} rows"
        picture = gate_figure(
            gate.mean_TE.cpu().numpy(),
            gate.std_TE.cpu().numpy(),
            readers=gate.readers,
            experts=gate.experts,
            title=title,
        )
        yield f"plots/gates/{gate.name}.png", picture
    if trained.health is not None and trained.health.gradients.pairs:
        yield "plots/gradient_cosines.png", gradient_picture(trained.health.gradients, "test")


def gradient_picture(gradients: Gradients, split: str) -> "Figure":
    """Draw the cosines between the tasks' gradients."""
    title = f"Cosine of the tasks' gradients at the representation, {gradients.rows:,} rows of {split}"
    return cosine_figure(np.asarray(gradients.cosines), names=gradients.tasks, title=title)


def event_figures(bank: MetricBank, split: str) -> "Iterator[tuple[str, Figure]]":
    """Draw ROC curves and reliability of all events of a split."""
    metrics = bank.compute()
    tasks = bank.binary.tasks
    if not tasks:
        return
    curves = {task: torch.stack(list(bank.roc(task)), dim=1).numpy() for task in tasks}
    bins = {task: torch.stack([part.double() for part in bank.reliability(task)], dim=1).numpy() for task in tasks}
    yield f"plots/roc_{split}.png", roc_figure(curves, metrics, title=f"ROC, {split} split")
    yield f"plots/calibration_{split}.png", reliability_figure(bins, metrics, title=f"Calibration, {split} split")
