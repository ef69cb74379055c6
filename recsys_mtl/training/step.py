"""The training step: one global batch through the model and into the weights."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from recsys_mtl.data.batch import Batch
from recsys_mtl.layers import Gate, SelfGate
from recsys_mtl.objectives.losses import Objective
from recsys_mtl.training.optim import DenseConfig
from recsys_mtl.training.replicated import ReplicatedTables
from recsys_mtl.training.sharding import dense_parameters

SEED_STRIDE = 1_000_003
"""A prime: random numbers of different seeds, steps and workers have nothing in common."""


@dataclass(frozen=True)
class StepResult:
    """What a step tells of itself; tensors of this worker, reduced only when somebody asks."""

    sums_K: Tensor
    divisors_K: Tensor
    """Over all workers."""
    rows: int


class NotFiniteError(Exception):
    """Terms of a loss that are not finite numbers; nothing has been learnt from the batch."""

    def __init__(self, terms: tuple[str, ...]) -> None:
        super().__init__(", ".join(terms))
        self.terms = terms


class TrainStep:
    """Forward, loss, backward (which also updates the tables), dense update.

    Each task's loss is divided by its known labels over *all* workers: DistributedDataParallel and torchrec average
    gradients over workers, so the local sum is scaled by their number first. The result does not depend on how rows are
    spread.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, config: DenseConfig, total_steps: int, *, seed: int = 0
    ) -> None:
        """``seed`` is that of dropout."""
        self.model, self.objective = model, objective
        self.seed, self.steps = seed, 0
        self.parameters = dense_parameters(model)
        self.clip_norm = config.clip_norm
        self.optimizer = config.build(self.parameters, gate_parameters(model))
        self.replicated: ReplicatedTables | None = getattr(model, "replicated", None)
        self.schedule = config.schedule(self.optimizer, total_steps)

    def __call__(self, batch: Batch) -> StepResult:
        """Learn from this worker's part of a global batch.

        Raises:
            NotFiniteError: on all workers, if some worker's loss is not a finite number.
        """
        # What is dropped follows from seed, step and worker: a resumed run drops the same without having to remember.
        torch.manual_seed((self.seed * SEED_STRIDE + self.steps) * SEED_STRIDE + rank())
        self.steps += 1
        logits_BT = self.model(batch)
        sums_K, divisors_K = self.objective(logits_BT, batch.labels_BT, batch.weights_B)
        divisors_K = self._over_workers(sums_K.detach(), divisors_K.detach())
        loss = self.objective.combine(sums_K, divisors_K) * world_size()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip_norm is not None:
            clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        if self.replicated is not None:
            self.replicated.step()
        self.schedule.step()
        return StepResult(sums_K.detach(), divisors_K, len(batch))

    def _over_workers(self, sums_K: Tensor, divisors_K: Tensor) -> Tensor:
        """Sum the divisors over workers, and hear with the same message whether all their losses are finite."""
        both_2K = all_sum(torch.stack([divisors_K, (~sums_K.isfinite()).to(divisors_K.dtype)]))
        if both_2K[1].any():
            bad = zip(self.objective.terms, both_2K[1].tolist(), strict=True)
            raise NotFiniteError(tuple(name for name, workers in bad if workers))
        return both_2K[0]


def gate_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Weights of everything that chooses between experts."""
    gates = (module for module in model.modules() if isinstance(module, Gate | SelfGate))
    return [parameter for gate in gates for parameter in gate.parameters()]


def rank() -> int:
    """Return this worker's number; 0 outside of a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of workers; 1 outside of a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_sum(x: Tensor) -> Tensor:
    """Sum a tensor over workers."""
    if world_size() > 1:
        x = x.contiguous()
        dist.all_reduce(x)
    return x
