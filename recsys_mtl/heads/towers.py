"""Towers: a perceptron for each task."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from recsys_mtl.config import Config
from recsys_mtl.heads.base import Heads
from recsys_mtl.layers import GroupedLinear, GroupedMLP


class TowersConfig(Config):
    """Independent towers."""

    kind: Literal["towers"] = "towers"
    hidden: tuple[PositiveInt, ...] = (64,)
    """Widths of each tower's hidden layers; none for one linear map."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each hidden layer's outputs that are dropped in training."""

    def build(self, in_dim: int, tasks: tuple[str, ...]) -> "Towers":
        """Make one tower for each of ``tasks``."""
        return Towers(self, in_dim, len(tasks))


class Towers(Heads):
    """All towers as one stack of batched matmuls."""

    def __init__(self, config: TowersConfig, in_dim: int, num_tasks: int) -> None:
        super().__init__()
        self.mlp = GroupedMLP(num_tasks, in_dim, config.hidden, dropout=config.dropout)
        self.out = GroupedLinear(num_tasks, self.mlp.out_dim, 1)

    def forward(self, h_BTH: Tensor) -> Tensor:
        """Return ``logits_BT``."""
        return self.out(self.mlp(h_BTH)).squeeze(2)
