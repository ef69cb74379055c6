"""No experts: every task reads the representation itself."""

from typing import Literal

from torch import Tensor

from recsys_mtl.config import Config
from recsys_mtl.experts.base import ExpertLayer
from recsys_mtl.tasks import Task


class DirectConfig(Config):
    """Hand the representation on; with a shared bottom this is the Shared-Bottom model."""

    kind: Literal["direct"] = "direct"

    def build(self, in_dim: int, tasks: tuple[Task, ...]) -> "Direct":
        """Make the layer for ``tasks``."""
        return Direct(in_dim, len(tasks))


class Direct(ExpertLayer):
    """The identity."""

    def __init__(self, in_dim: int, num_tasks: int) -> None:
        super().__init__()
        self.out_dim = in_dim
        self.num_tasks = num_tasks

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``h_BTH``."""
        return x_BGR.expand(-1, self.num_tasks, -1)
