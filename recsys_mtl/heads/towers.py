"""Towers: a perceptron for each task."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from recsys_mtl.heads.base import Heads
from recsys_mtl.layers import GroupedLinear, GroupedMLP, LayerStyle
from recsys_mtl.tasks import Task


class TowersConfig(LayerStyle):
    """Independent towers."""

    kind: Literal["towers"] = "towers"
    hidden: tuple[PositiveInt, ...] = (64,)
    """Widths of each tower's hidden layers; none for one linear map."""
    calibrator: NonNegativeFloat = 0.0
    """Weight of AITM's behavioural expectation calibrator, which holds an event's probability below that of the event
    it follows."""

    def build(self, in_dim: int, tasks: tuple[Task, ...]) -> "Towers":
        """Make one tower for each of ``tasks``."""
        return Towers(self, in_dim, len(tasks))


class Towers(Heads):
    """All towers as one stack of batched matmuls."""

    def __init__(self, config: TowersConfig, in_dim: int, num_tasks: int) -> None:
        super().__init__()
        self.mlp = GroupedMLP(num_tasks, in_dim, config.hidden, config)
        self.out = GroupedLinear(num_tasks, self.mlp.out_dim, 1)

    def forward(self, h_BTH: Tensor) -> Tensor:
        """Return ``logits_BT``."""
        return self.out(self.mlp(h_BTH)).squeeze(2)
