"""Losses: outputs and labels to one number, over known labels only."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss, mse_loss

from recsys_mtl.config import Config
from recsys_mtl.tasks import RegressionTask, Task


class ObjectiveConfig(Config):
    """How the tasks' losses become one."""

    average_over: Literal["known", "rows"] = "known"
    """A task's loss is its sum over known labels, divided by their number (as PLE does) or by the rows of the batch.
    The latter gives a task whose label is rarely known correspondingly less weight."""

    def build(self, tasks: tuple[Task, ...]) -> "Objective":
        """Make the objective for ``tasks``."""
        return Objective(self, tasks)


class Objective(nn.Module):
    """Sums each task's loss over its known labels; the caller divides, since the divisor belongs to all workers."""

    task_weights_T: Tensor

    def __init__(self, config: ObjectiveConfig, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.config = config
        self.tasks = tasks
        self.spaces = Spaces(tasks)
        self.register_buffer("task_weights_T", torch.tensor([task.weight for task in tasks]), persistent=False)

    def forward(self, logits_BT: Tensor, labels_BT: Tensor, weights_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``sums_T``, weighted losses summed over rows, and ``divisors_T``, the weights that they rest on."""
        labels_BT = self.spaces(labels_BT)
        known_BT = labels_BT.isfinite()
        weights_BT = weights_B.unsqueeze(1) * known_BT
        losses_BT = task_losses(logits_BT, labels_BT.where(known_BT, 0.0), self.tasks)
        every_row = self.config.average_over == "rows"
        divisors_T = weights_B.sum().expand(len(self.tasks)) if every_row else weights_BT.sum(0)
        return (losses_BT * weights_BT).sum(0), divisors_T

    def combine(self, sums_T: Tensor, divisors_T: Tensor) -> Tensor:
        """Return the weighted sum of the tasks' mean losses; a task without known labels contributes nothing."""
        return (self.task_weights_T * sums_T / divisors_T.clamp(min=1e-12)).sum()


class Spaces(nn.Module):
    """Makes labels unknown where a row lies outside of a task's sample space."""

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        names = [task.name for task in tasks]
        if missing := [task for task in tasks if task.space is not None and task.space not in names]:
            raise ValueError(f"tasks.include: {missing[0].name} needs {missing[0].space}, the task of its sample space")
        self.pairs = [(names.index(task.name), names.index(task.space)) for task in tasks if task.space is not None]

    def forward(self, labels_BT: Tensor) -> Tensor:
        """Return the labels with NaN outside of each task's space."""
        if not self.pairs:
            return labels_BT
        inside_BT = torch.ones_like(labels_BT, dtype=torch.bool)
        for task, space in self.pairs:
            inside_BT[:, task] = labels_BT[:, space] == 1
        return labels_BT.where(inside_BT, torch.nan)


def task_losses(logits_BT: Tensor, labels_BT: Tensor, tasks: tuple[Task, ...]) -> Tensor:
    """Return each row's loss for each task (B, T)."""
    columns = []
    for task, out_B, label_B in zip(tasks, logits_BT.unbind(1), labels_BT.unbind(1), strict=True):
        if isinstance(task, RegressionTask):
            loss = huber_loss if task.loss == "huber" else mse_loss
            columns.append(loss(out_B, learning_scale(label_B, task), reduction="none"))
        else:
            columns.append(binary_cross_entropy_with_logits(out_B, label_B, reduction="none"))
    return torch.stack(columns, dim=1)


def learning_scale(label_B: Tensor, task: RegressionTask) -> Tensor:
    """Bring an amount from its natural unit to the scale on which it is learnt."""
    clipped_B = label_B if task.upper is None else label_B.clamp(max=task.upper)
    return clipped_B.log1p() if task.transform == "log1p" else clipped_B
