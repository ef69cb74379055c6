"""Multi-gate mixture of experts (Ma et al., KDD 2018)."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from recsys_mtl.experts.base import ExpertLayer
from recsys_mtl.layers import ExpertBank, Gate, GroupedLinear, LayerStyle
from recsys_mtl.tasks import Task, task_names


class MMoEConfig(LayerStyle):
    """Experts that all tasks share, mixed by a gate of each task's own."""

    kind: Literal["mmoe"] = "mmoe"
    num_experts: PositiveInt = 8
    """Experts that all tasks share."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (128, 64)
    """Widths of each expert's layers; the last is H."""
    gate_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the gates' weights that are dropped in training, against gates that settle on one expert."""

    def build(self, in_dim: int, tasks: tuple[Task, ...]) -> "MMoE":
        """Make the layer for ``tasks``."""
        return MMoE(self, in_dim, tasks)


class MMoE(ExpertLayer):
    """f^k(x) = Σ_i softmax(W_k x)_i f_i(x), section 4.2 of the paper: gates are one linear map without bias."""

    def __init__(self, config: MMoEConfig, in_dim: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.out_dim = config.hidden[-1]
        names = tuple(f"expert {i}" for i in range(config.num_experts))
        self.bank = ExpertBank((names,), in_dim, config.hidden, config)
        self.gate = Gate(in_dim, task_names(tasks), (names,) * len(tasks), dropout=config.gate_dropout)

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``h_BTH``; experts are evaluated once per representation, not once per task."""
        B, G, R = x_BGR.shape
        weights_BTE = self.gate(x_BGR)
        h_BGEH = self.bank(x_BGR.reshape(B * G, 1, R)).reshape(B, G, -1, self.out_dim)
        if G == 1:
            return weights_BTE @ h_BGEH.squeeze(1)
        return (weights_BTE.unsqueeze(2) @ h_BGEH).squeeze(2)

    def input_maps(self) -> list[GroupedLinear]:
        """Return the first layer of the experts, and the gates."""
        return [self.bank.input_map, self.gate.linear]
