"""Losses: outputs and labels to one number, over known labels only."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss, mse_loss

from recsys_mtl.config import Config
from recsys_mtl.tasks import RegressionTask, Task, funnel, task_names

CALIBRATOR = "calibrator"
"""Name of the funnel's penalty among the terms of the loss."""


class ObjectiveConfig(Config):
    """How the tasks' losses become one."""

    average_over: Literal["known", "rows"] = "known"
    """A task's loss is its sum over known labels, divided by their number (as PLE does) or by the rows of the batch.
    The latter gives a task whose label is rarely known correspondingly less weight."""

    def build(self, tasks: tuple[Task, ...], *, calibrator: float = 0.0) -> "Objective":
        """Make the objective for ``tasks``; ``calibrator`` is the weight of the funnel's penalty."""
        return Objective(self, tasks, calibrator)


class Objective(nn.Module):
    """Sums each term of the loss over the rows that it knows; the caller divides, for the divisor is all workers'.

    There are K terms: one per task and, where it has a weight and a funnel, the behavioural expectation calibrator of
    AITM (Xi et al., KDD 2021): the mean over rows of Σ max(ŷ_t - ŷ_s, 0) for events t that follow s.
    """

    weights_K: Tensor

    def __init__(self, config: ObjectiveConfig, tasks: tuple[Task, ...], calibrator: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.tasks = tasks
        self.rules = LabelRules(tasks)
        self.ordered = self.rules.funnel if calibrator else ()
        self.terms = (*task_names(tasks), *([CALIBRATOR] if self.ordered else []))
        """Names of the terms."""
        weights = [task.weight for task in tasks] + ([calibrator] if self.ordered else [])
        self.register_buffer("weights_K", torch.tensor(weights), persistent=False)

    def forward(self, logits_BT: Tensor, labels_BT: Tensor, weights_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``sums_K``, weighted terms summed over rows, and ``divisors_K``, the weights that they rest on."""
        labels_BT = self.rules(labels_BT)
        known_BT = labels_BT.isfinite()
        weights_BT = weights_B.unsqueeze(1) * known_BT
        losses_BT = task_losses(logits_BT, labels_BT.where(known_BT, 0.0), self.tasks)
        every_row = self.config.average_over == "rows"
        divisors_T = weights_B.sum().expand(len(self.tasks)) if every_row else weights_BT.sum(0)
        sums_T = (losses_BT * weights_BT).sum(0)
        if not self.ordered:
            return sums_T, divisors_T
        penalty = (self._disorder(logits_BT) * weights_B).sum()
        return torch.cat([sums_T, penalty.view(1)]), torch.cat([divisors_T, weights_B.sum().view(1)])

    def combine(self, sums_K: Tensor, divisors_K: Tensor) -> Tensor:
        """Return the weighted sum of the terms' means; a task without known labels contributes nothing."""
        return (self.weights_K * sums_K / divisors_K.clamp(min=1e-12)).sum()

    def _disorder(self, logits_BT: Tensor) -> Tensor:
        """By how much each row's events are likelier than those that they follow (B,)."""
        later, earlier = (list(side) for side in zip(*self.ordered, strict=True))
        return (logits_BT[:, later].sigmoid() - logits_BT[:, earlier].sigmoid()).clamp(min=0).sum(1)


class LabelRules(nn.Module):
    """Brings labels in line with what is declared of their tasks.

    An unknown label is 0 where the event that it follows did not happen; a label is unknown where its row lies outside
    of its task's sample space.
    """

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        names = [task.name for task in tasks]
        if missing := [task for task in tasks if task.space is not None and task.space not in names]:
            raise ValueError(f"tasks.include: {missing[0].name} needs {missing[0].space}, the task of its sample space")
        self.spaces = [(names.index(task.name), names.index(task.space)) for task in tasks if task.space is not None]
        self.funnel = funnel(tasks)

    def forward(self, labels_BT: Tensor) -> Tensor:
        """Return the labels with NaN where they are unknown."""
        if not self.spaces and not self.funnel:
            return labels_BT
        labels_BT = labels_BT.clone()
        for later, earlier in self.funnel:
            impossible_B = labels_BT[:, later].isnan() & (labels_BT[:, earlier] == 0)
            labels_BT[:, later].masked_fill_(impossible_B, 0.0)
        inside_BT = torch.ones_like(labels_BT, dtype=torch.bool)
        for task, space in self.spaces:
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
