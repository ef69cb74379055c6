"""Gate records: how much every gate of a model draws from each of its experts, over the rows that pass through it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recsys_mtl.layers import Gate

WRAPPERS = {"_dmp_wrapped_module", "module"}
"""Attributes under which sharding and data parallelism keep the model that they wrap."""


class GateRecord:
    """Mean and spread of one gate's weights (PLE, figure 8 of the paper). Its size does not depend on the rows."""

    def __init__(self, name: str, gate: Gate) -> None:
        self.name = name
        """Where the gate is in the model; the same whether the model is sharded or not."""
        self.readers, self.experts = gate.readers, gate.experts
        device = gate.linear.weight_IKO.device
        self._rows = torch.zeros((), dtype=torch.int64, device=device)
        shape = (2, len(self.readers), len(self.experts[0]))
        self._sums_2TE = torch.zeros(shape, dtype=torch.float64, device=device)

    @property
    def rows(self) -> int:
        """Number of rows seen."""
        return int(self._rows)

    @property
    def mean_TE(self) -> Tensor:
        """Mean weight by reader and expert; NaN without rows."""
        return self._sums_2TE[0] / self._rows

    @property
    def std_TE(self) -> Tensor:
        """Standard deviation of the weight over the rows; NaN without rows."""
        return (self._sums_2TE[1] / self._rows - self.mean_TE.square()).clamp(min=0).sqrt()

    def update(self, weights_BTE: Tensor) -> None:
        """Add a batch."""
        exact_BTE = weights_BTE.detach().double()
        self._rows += exact_BTE.shape[0]
        self._sums_2TE += torch.stack([exact_BTE.sum(0), exact_BTE.square().sum(0)])

    def state(self) -> dict[str, Tensor]:
        """Return all that is known; the states of two parts of the rows add up to the state of the whole."""
        return {"rows": self._rows, "sums": self._sums_2TE}

    def merge(self, other: "GateRecord") -> None:
        """Add what another record of the same gate has seen."""
        for mine, theirs in zip(self.state().values(), other.state().values(), strict=True):
            mine += theirs.to(mine.device)


@contextmanager
def record_gates(model: nn.Module) -> Iterator[tuple[GateRecord, ...]]:
    """Record every gate of ``model`` while the context lasts, in the order of its modules.

    Each worker records the rows that it sees itself; the sum of all workers' `GateRecord.state` is the whole.
    """
    gates = {name: module for name, module in model.named_modules() if isinstance(module, Gate)}
    records = {name: GateRecord(_plain(name), gate) for name, gate in gates.items()}
    handles = [
        gate.register_forward_hook(lambda _gate, _inputs, weights_BTE, record=records[name]: record.update(weights_BTE))
        for name, gate in gates.items()
    ]
    try:
        yield tuple(records.values())
    finally:
        for handle in handles:
            handle.remove()


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
