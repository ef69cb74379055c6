"""Records: what experts, gates and gradients add up to over the rows that pass.

All are sums, whose size does not depend on the rows: those of several workers or parts of a split add up to the whole.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import chain
from typing import Self

import torch
from torch import Tensor

from recsys_mtl.layers import ExpertBank, Gate, SelfGate

ZERO = 1e-6
"""An output no larger than this counts as zero."""
CHUNK_ROWS = 256
"""Rows that a CPU sums at a time: their temporaries then stay in its cache, which takes a third of the time."""


class Record(ABC):
    """Sums over rows."""

    @abstractmethod
    def state(self) -> tuple[Tensor, ...]:
        """Return all that is known; the states of two parts of the rows add up to the state of the whole."""

    def merge(self, other: Self) -> None:
        """Add what another record of the same thing has seen."""
        for mine, theirs in zip(self.state(), other.state(), strict=True):
            mine += theirs.to(mine.device)


class ModuleRecord(Record):
    """Sums of what a module puts out."""

    name: str
    """Where the module is in the model; the same whether the model is sharded or not."""

    @abstractmethod
    def update(self, output: Tensor) -> None:
        """Add a batch."""


class BankRecord(ModuleRecord):
    """Mean, spread and share of zeros of each expert's output, over rows and units."""

    def __init__(self, name: str, bank: ExpertBank) -> None:
        self.name = name
        self.experts = tuple(chain(*bank.names))
        device = next(bank.parameters()).device
        self._values = torch.zeros((), dtype=torch.int64, device=device)
        self._sums_3K = torch.zeros(3, len(self.experts), dtype=torch.float64, device=device)

    @property
    def mean_K(self) -> Tensor:
        """Mean output by expert; NaN without rows."""
        return self._sums_3K[0] / self._values

    @property
    def std_K(self) -> Tensor:
        """Standard deviation of the output; NaN without rows."""
        return (self._sums_3K[1] / self._values - self.mean_K.square()).clamp(min=0).sqrt()

    @property
    def zero_ratio_K(self) -> Tensor:
        """Share of outputs that are zero; NaN without rows."""
        return self._sums_3K[2] / self._values

    def update(self, output: Tensor) -> None:
        h_BGEH = output.detach().float()
        B, *groups, H = h_BGEH.shape
        self._values += B * H
        for h_BJ in torch.split(h_BGEH.flatten(1), CHUNK_ROWS if h_BGEH.is_cpu else max(B, 1)):
            scratch_BJ = h_BJ.abs()
            zeros_J = scratch_BJ.le_(ZERO).sum(0)
            squares_J = torch.mul(h_BJ, h_BJ, out=scratch_BJ).sum(0)
            sums_3J = torch.stack([h_BJ.sum(0), squares_J, zeros_J]).double()
            self._sums_3K += sums_3J.view(3, *groups, H).sum(-1).flatten(1)

    def state(self) -> tuple[Tensor, ...]:
        return self._values, self._sums_3K


class GateRecord(ModuleRecord):
    """Mean and spread of one gate's weights (PLE, figure 8 of the paper), and which expert weighs most how often."""

    def __init__(self, name: str, gate: Gate | SelfGate) -> None:
        self.name = name
        self.is_self = isinstance(gate, SelfGate)
        """Whether its weights come on top of those of another gate."""
        self.readers, self.experts = gate.readers, gate.experts
        device = gate.linear.weight_IKO.device
        self._rows = torch.zeros((), dtype=torch.int64, device=device)
        shape = (3, len(self.readers), len(self.experts[0]))
        self._sums_3TE = torch.zeros(shape, dtype=torch.float64, device=device)

    @property
    def rows(self) -> int:
        """Number of rows seen."""
        return int(self._rows)

    @property
    def mean_TE(self) -> Tensor:
        """Mean weight by reader and expert; NaN without rows."""
        return self._sums_3TE[0] / self._rows

    @property
    def std_TE(self) -> Tensor:
        """Standard deviation of the weight over the rows; NaN without rows."""
        return (self._sums_3TE[1] / self._rows - self.mean_TE.square()).clamp(min=0).sqrt()

    @property
    def first_TE(self) -> Tensor:
        """Share of rows where the expert has the reader's highest weight; NaN without rows."""
        return self._sums_3TE[2] / self._rows

    def update(self, output: Tensor) -> None:
        w_BTE = output.detach().float()
        B, T, E = w_BTE.shape
        self._rows += B
        cells_BT = w_BTE.argmax(-1) + E * torch.arange(T, device=w_BTE.device)
        firsts_TE = torch.bincount(cells_BT.flatten(), minlength=T * E).view(T, E)
        self._sums_3TE += torch.stack([w_BTE.sum(0), w_BTE.square().sum(0), firsts_TE]).double()

    def state(self) -> tuple[Tensor, ...]:
        return self._rows, self._sums_3TE


@dataclass(frozen=True)
class RowSample:
    """Which rows of a split are looked at more closely: every so many, wherever they are read."""

    limit: int
    """Most rows of the sample; none with 0."""
    total: int
    """Rows of the whole split."""
    first: int = 0
    """Place in the split of the first row that this worker reads."""

    def places(self, seen: int, rows: int, device: torch.device) -> Tensor:
        """Return which of ``rows`` rows are in the sample, ``seen`` rows of this worker having come before."""
        if not self.limit:
            return torch.empty(0, dtype=torch.int64, device=device)
        every = max(1, -(-self.total // self.limit))
        start = min(-(self.first + seen) % every, rows)
        return torch.arange(start, rows, every, device=device)


class GradientRecord(Record):
    """Products of the tasks' loss gradients with respect to the representation, summed over rows.

    The gradient of a task's mean loss is, up to a factor that cosines do not see, that of its sum; and rows do not
    depend on each other in evaluation, so that its part at a row is the gradient of the row's own loss.
    """

    def __init__(self, tasks: tuple[str, ...], device: torch.device) -> None:
        self.tasks = tasks
        self._rows = torch.zeros((), dtype=torch.int64, device=device)
        self._products_TT = torch.zeros(len(tasks), len(tasks), dtype=torch.float64, device=device)

    @property
    def rows(self) -> int:
        """Number of rows seen."""
        return int(self._rows)

    @property
    def cosine_TT(self) -> Tensor:
        """Cosine between every two tasks' gradients; NaN for a task without any."""
        length_T = self._products_TT.diagonal().sqrt()
        return (self._products_TT / torch.outer(length_T, length_T)).clamp(-1, 1)

    def update(self, gradients_TBGR: Tensor) -> None:
        """Add each task's gradient at some rows."""
        self._rows += gradients_TBGR.shape[1]
        g_TX = gradients_TBGR.flatten(1)
        self._products_TT += (g_TX @ g_TX.T).double()

    def state(self) -> tuple[Tensor, ...]:
        return self._rows, self._products_TT
