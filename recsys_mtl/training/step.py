"""The training step: one global batch through the model and into the weights."""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from recsys_mtl.data.batch import Batch
from recsys_mtl.layers import Gate, SelfGate
from recsys_mtl.norms import BatchNorm
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
    """Numbers of a batch that are not finite; the same on all workers."""

    def __init__(self, what: str, workers: tuple[int, ...], *, learnt: bool) -> None:
        super().__init__(what)
        self.workers = workers
        """Those in whose rows it was found."""
        self.learnt = learnt
        """Whether tables have been updated with the batch before that was known."""


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
        self.device = objective.weights_K.device
        self.seed, self.steps = seed, 0
        self.parameters = dense_parameters(model)
        self.clip_norm = config.clip_norm
        self.optimizer = config.build(self.parameters, gate_parameters(model))
        self.replicated: ReplicatedTables | None = getattr(model, "replicated", None)
        self.schedule = config.schedule(self.optimizer, total_steps)
        norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
        self.statistics = [x for norm in norms for x in (norm.running_mean_J, norm.running_var_J)]

    def __call__(self, batch: Batch) -> StepResult:
        """Learn from this worker's part of a global batch.

        Raises:
            NotFiniteError: on all workers, if some worker's loss is not a finite number; then nothing has been learnt.
                Also if a loss is finite and the gradient of the dense part is not; then tables have been updated.
        """
        # What is dropped follows from seed, step and worker: a resumed run drops the same without having to remember.
        torch.manual_seed((self.seed * SEED_STRIDE + self.steps) * SEED_STRIDE + rank())
        self.steps += 1
        statistics = [x.clone() for x in self.statistics]
        batch = batch.to(self.device, non_blocking=True)
        logits_BT = self.model(batch)
        sums_K, divisors_K = self.objective(logits_BT, batch.labels_BT, batch.weights_B)
        divisors_K = self._over_workers(sums_K.detach(), divisors_K.detach(), statistics)
        loss = self.objective.combine(sums_K, divisors_K) * world_size()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_grad_norm_(self.parameters, self.clip_norm if self.clip_norm is not None else math.inf)
        if not norm.isfinite():
            raise NotFiniteError("the norm of the dense part's gradient", tuple(range(world_size())), learnt=True)
        self.optimizer.step()
        if self.replicated is not None:
            self.replicated.step()
        self.schedule.step()
        return StepResult(sums_K.detach(), divisors_K, len(batch))

    def go_to(self, steps: int) -> None:
        """Stand behind so many steps of the run: what follows from their number follows."""
        self.steps = self.schedule.last_epoch = steps
        for group, rate in zip(self.optimizer.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = rate * self.schedule.lr_lambdas[0](steps)

    def _over_workers(self, sums_K: Tensor, divisors_K: Tensor, statistics: list[Tensor]) -> Tensor:
        """Sum the divisors over workers, and hear with the same message whether all their losses are finite.

        Where they are not, running ``statistics`` are put back: they have seen the batch.
        """
        bad_K = ~sums_K.isfinite()
        both_2K = all_sum(torch.stack([divisors_K, bad_K.to(divisors_K.dtype)]))
        if not both_2K[1].any():
            return both_2K[0]
        for now, before in zip(self.statistics, statistics, strict=True):
            now.copy_(before)
        terms = [name for name, count in zip(self.objective.terms, both_2K[1].tolist(), strict=True) if count]
        raise NotFiniteError(f"the loss of {', '.join(terms)}", _workers_with(bad_K.any()), learnt=False)


def _workers_with(flag: Tensor) -> tuple[int, ...]:
    """Return the workers whose flag is set, on all workers. A collective."""
    flags_W = flag.new_zeros(world_size(), dtype=torch.float32)
    flags_W[rank()] = flag
    return tuple(all_sum(flags_W).nonzero().flatten().tolist())


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
