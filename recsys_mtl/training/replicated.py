"""Replicated tables: whole on every worker (data-parallel), with the optimiser that other tables have fused."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recsys_mtl.training.optim import SparseConfig


class ReplicatedTables:
    """Updates replicated tables after the backward pass, as the fused kernels update all others inside of it.

    Their gradients are averaged over the workers by then. What it remembers has the names and shapes of the fused
    optimiser's moments, so that a checkpoint does not know which tables were replicated.
    """

    def __init__(self, tables: Mapping[str, nn.Parameter], sparse: SparseConfig) -> None:
        """``tables`` have the names of the model's weights."""
        self.tables, self.sparse = dict(tables), sparse
        self.moments = {name: _zeros(table, sparse) for name, table in self.tables.items() if sparse.kind != "sgd"}

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights, and forget the gradients."""
        for name, table_ND in self.tables.items():
            if (gradient_ND := table_ND.grad) is None:
                continue
            if (moment := self.moments.get(name)) is None:
                table_ND.add_(gradient_ND, alpha=-self.sparse.lr)
                continue
            squares_ND = gradient_ND.square()
            moment += squares_ND.mean(1) if moment.dim() == 1 else squares_ND
            root = moment.sqrt().add_(self.sparse.eps)
            scale = root.unsqueeze(1) if root.dim() == 1 else root
            table_ND.addcdiv_(gradient_ND, scale, value=-self.sparse.lr)
        for table_ND in self.tables.values():
            table_ND.grad = None

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the moments by weight, under the names that fused ones have."""
        return {name: {f"{name.split('.')[-2]}.momentum1": moment} for name, moment in self.moments.items()}


def _zeros(table: nn.Parameter, sparse: SparseConfig) -> Tensor:
    rows, dim = table.shape
    shape = (rows,) if sparse.kind == "rowwise_adagrad" else (rows, dim)
    return torch.zeros(shape, device=table.device)
