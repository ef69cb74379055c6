"""Progressive layered extraction (Tang et al., RecSys 2020)."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from recsys_mtl.experts.base import ExpertLayer
from recsys_mtl.layers import ExpertBank, Gate, GroupedLinear, LayerStyle
from recsys_mtl.tasks import Task, task_names


class PLEConfig(LayerStyle):
    """Experts of each task's own beside shared ones, extracted level by level."""

    kind: Literal["ple"] = "ple"
    num_levels: PositiveInt = 2
    """Extraction levels; with one level the model is the paper's CGC."""
    task_experts: PositiveInt = 2
    """Experts of each task's own, per level."""
    shared_experts: PositiveInt = 2
    """Experts that all tasks share, per level."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64,)
    """Widths of each expert's layers; the last is H. The paper's experts have one layer."""
    gate_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the gates' weights that are dropped in training, against gates that settle on one expert."""

    def build(self, in_dim: int, tasks: tuple[Task, ...]) -> "PLE":
        """Make the layer for ``tasks``."""
        return PLE(self, in_dim, tasks)


class PLE(ExpertLayer):
    """Levels of extraction; the last one has no shared output."""

    def __init__(self, config: PLEConfig, in_dim: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.out_dim = config.hidden[-1]
        widths = [in_dim] + [self.out_dim] * (config.num_levels - 1)
        last = len(widths) - 1
        self.levels = nn.ModuleList(
            Level(config, width, task_names(tasks), last=i == last) for i, width in enumerate(widths)
        )

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``h_BTH``.

        Where tasks have representations of their own (G = T), shared experts of the first level read their mean: they
        see what every task sees, and are evaluated once.
        """
        task_BGR = x_BGR
        shared_B1R = x_BGR.mean(1, keepdim=True) if x_BGR.shape[1] > 1 else x_BGR
        for level in self.levels:
            task_BGR, shared_B1R = level(task_BGR, shared_B1R)
        return task_BGR

    def input_maps(self) -> list[GroupedLinear]:
        """Return the first layer of the first level's experts, and its gates."""
        first = self.levels[0]
        assert isinstance(first, Level)
        gates = [first.task_gate, *([] if first.shared_gate is None else [first.shared_gate])]
        return [first.own.input_map, first.shared.input_map, *(gate.linear for gate in gates)]


class Level(nn.Module):
    """One extraction level: g^k mixes the task's own and the shared experts, g^s mixes ALL experts of the level."""

    def __init__(self, config: PLEConfig, in_dim: int, tasks: tuple[str, ...], *, last: bool) -> None:
        super().__init__()
        own = {task: tuple(f"{task} {i}" for i in range(config.task_experts)) for task in tasks}
        shared = tuple(f"shared {i}" for i in range(config.shared_experts))
        self.own = ExpertBank(tuple(own.values()), in_dim, config.hidden, config)
        self.shared = ExpertBank((shared,), in_dim, config.hidden, config)
        choices = tuple(own[task] + shared for task in tasks)
        self.task_gate = Gate(in_dim, tasks, choices, dropout=config.gate_dropout)
        everything = tuple(name for task in tasks for name in own[task]) + shared
        self.shared_gate = None if last else Gate(in_dim, ("shared",), (everything,), dropout=config.gate_dropout)

    def forward(self, task_BGR: Tensor, shared_B1R: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``g_BTH`` of the tasks and ``g_B1H`` of the shared part; the last level hands on its input for it."""
        own_BTEH = self.own(task_BGR)
        shared_BSH = self.shared(shared_B1R).squeeze(1)
        weights_BTE = self.task_gate(task_BGR)
        own_weights_BTE, shared_weights_BTS = torch.split(weights_BTE, [own_BTEH.shape[2], shared_BSH.shape[1]], dim=2)
        # For the few experts of one task, product and sum take half the time of B·T matmuls of a few rows.
        g_BTH = (own_weights_BTE.unsqueeze(3) * own_BTEH).sum(2) + shared_weights_BTS @ shared_BSH
        if self.shared_gate is None:
            return g_BTH, shared_B1R
        every_BEH = torch.cat([own_BTEH.flatten(1, 2), shared_BSH], dim=1)
        return g_BTH, self.shared_gate(shared_B1R) @ every_BEH
