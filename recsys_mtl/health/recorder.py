"""The recorder: watches a model's experts, gates and gradients while it is evaluated."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from recsys_mtl.data.batch import Batch
from recsys_mtl.health.records import BankRecord, GateRecord, GradientRecord, ModuleRecord, Record, RowSample
from recsys_mtl.layers import ExpertBank, Gate, SelfGate
from recsys_mtl.metrics.reduction import sum_over_workers_
from recsys_mtl.objectives.losses import LabelRules, task_losses
from recsys_mtl.tasks import Task, task_names

WRAPPERS = {"_dmp_wrapped_module", "module"}
"""Attributes under which sharding and data parallelism keep the model that they wrap."""
BOTTOM, UPPER = "ranker.bottom", ("ranker.experts", "ranker.heads")
"""Where the representation comes from, and what reads it, in turn."""
GRADIENT_ROWS = 256
"""Rows whose gradients are taken at a time: there is one for each task, of the size of the representation."""


@dataclass(frozen=True)
class HealthRecord:
    """All that a recorder has seen, in the order of the model's modules."""

    banks: tuple[BankRecord, ...]
    gates: tuple[GateRecord, ...]
    gradients: GradientRecord

    @property
    def parts(self) -> tuple[Record, ...]:
        """Everything that is summed."""
        return *self.banks, *self.gates, self.gradients

    def merge(self, other: "HealthRecord") -> None:
        """Add what was seen of other rows with the same model."""
        for mine, theirs in zip(self.parts, other.parts, strict=True):
            mine.merge(theirs)

    def reduce_(self) -> None:
        """Replace this worker's sums by those of all workers. A collective."""
        sum_over_workers_([tensor for part in self.parts for tensor in part.state()])


class Recorder:
    """Records what passes through a model in evaluation, sharded or not, for as long as its context lasts.

    Each worker records its own rows; `HealthRecord.reduce_` makes the whole of them. Nothing else is a collective:
    gradients are taken of the dense layers above the representation, which every worker has.
    """

    def __init__(self, model: nn.Module, tasks: tuple[Task, ...], sample: RowSample) -> None:
        self.tasks, self.sample = tasks, sample
        self.rules = LabelRules(tasks)
        self.modules = {plain_name(name): module for name, module in model.named_modules()}
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.record = HealthRecord(
            tuple(BankRecord(name, module) for name, module in self.modules.items() if isinstance(module, ExpertBank)),
            tuple(
                GateRecord(name, module) for name, module in self.modules.items() if isinstance(module, Gate | SelfGate)
            ),
            GradientRecord(task_names(tasks), device),
        )
        self.paused = False
        self.seen = 0
        """Rows so far."""
        self._batch: Batch | None = None
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        records: tuple[ModuleRecord, ...] = (*self.record.banks, *self.record.gates)
        for record in records:
            self._hook(record.name, record.update)
        if BOTTOM in self.modules and self.sample.limit:
            self._hook(BOTTOM, self._look_at_gradients)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def expect(self, batch: Batch) -> None:
        """Hear which batch passes next. The stand-in row of a worker that has no more rows is not recorded."""
        self._batch = None if is_stand_in(batch) else batch
        self.paused = self._batch is None

    def _hook(self, name: str, look: Callable[[Tensor], None]) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if not self.paused:
                look(output)

        self._handles.append(self.modules[name].register_forward_hook(hook))

    def _look_at_gradients(self, x_BGR: Tensor) -> None:
        if self._batch is None:
            return
        labels_BT = self.rules(self._batch.labels_BT.to(x_BGR.device))
        weights_BT = self._batch.weights_B.to(x_BGR.device).unsqueeze(1) * labels_BT.isfinite()
        places_S = self.sample.places(self.seen, len(x_BGR), x_BGR.device)
        self.seen += len(x_BGR)
        if not len(places_S):
            return
        self.paused = True  # what follows is not another batch of the model's
        for place_S in torch.split(places_S, GRADIENT_ROWS):
            x_SGR, labels_ST, weights_ST = x_BGR[place_S], labels_BT[place_S].nan_to_num(), weights_BT[place_S]
            self.record.gradients.update(self._gradients(x_SGR, labels_ST, weights_ST))
        self.paused = False

    @torch.enable_grad()
    def _gradients(self, x_SGR: Tensor, labels_ST: Tensor, weights_ST: Tensor) -> Tensor:
        """Return each task's gradient (T, S, G, R); those of the weights are not even computed."""
        x_SGR = h = x_SGR.detach().requires_grad_()
        for name in UPPER:
            h = self.modules[name](h)
        sums_T = (task_losses(h, labels_ST, self.tasks) * weights_ST).sum(0)
        # One pass for each task: a batched one takes as long, and not every operation has it.
        gradients = (torch.autograd.grad(s, x_SGR, retain_graph=True, materialize_grads=True)[0] for s in sums_T)
        return torch.stack(list(gradients))


def is_stand_in(batch: Batch) -> bool:
    """Tell a stand-in from a batch of the data: one row about which nothing is known."""
    return len(batch) == 1 and not bool(batch.labels_BT.isfinite().any())


def plain_name(name: str) -> str:
    """Return what a module is called in the model before it is sharded."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
