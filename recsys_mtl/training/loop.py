"""The loop: epochs of steps, evaluations in between, the best weights at the end. It knows nothing of Ray."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.batch import Batch
from recsys_mtl.data.prefetch import Prefetch
from recsys_mtl.data.reader import Cursor, TrainReader
from recsys_mtl.objectives.losses import Objective
from recsys_mtl.training.sharding import restore, snapshot
from recsys_mtl.training.step import StepResult, TrainStep, all_sum

Metrics = Mapping[str, Mapping[str, float]]
"""Values by task and metric."""


class SelectConfig(Config):
    """Which weights a run keeps, and when it stops early."""

    metric: str = "auc"
    """Metric of the validation split to judge by: ``METRIC`` for its mean over tasks, or ``TASK/METRIC``."""
    tasks: tuple[str, ...] | None = None
    """Tasks whose mean is taken; all that have the metric where it is not given."""
    mode: Literal["max", "min"] = "max"
    patience: NonNegativeInt | None = None
    """Evaluations without improvement after which the run stops; it goes on to the end where it is not given."""

    def check(self, tasks: Collection[str]) -> None:
        """Make sure that there is something to judge by.

        Raises:
            ConfigError: a task that the run does not learn.
        """
        named = {"metric": [self.metric.rpartition("/")[0]] if "/" in self.metric else [], "tasks": self.tasks or ()}
        unknown = [(field, name) for field, names in named.items() for name in names if name not in tasks]
        if unknown:
            has = ", ".join(tasks)
            raise ConfigError(
                f"trainer.select.{field}: no task {name!r} in the run; it has {has}" for field, name in unknown
            )

    def value(self, metrics: Metrics) -> float:
        """Return the number to judge by; NaN if no task has it."""
        task, _, metric = self.metric.rpartition("/")
        names = (task,) if task else self.tasks if self.tasks is not None else tuple(metrics)
        values = [metrics[name][metric] for name in names if metric in metrics.get(name, {})]
        values = [value for value in values if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    def better(self, value: float, best: float) -> bool:
        """Tell whether ``value`` beats ``best``; anything beats NaN."""
        return not math.isnan(value) and (math.isnan(best) or (value > best if self.mode == "max" else value < best))


class TrainerConfig(Config):
    """Length of a run, and what happens during it."""

    epochs: PositiveInt = 1
    """Passes over the training split."""
    steps: PositiveInt | None = None
    """Stop after so many global batches, even in the middle of an epoch."""
    batch_size: PositiveInt = 4096
    """Rows of a global batch, over all workers: results do not depend on the number of workers."""
    eval_every: PositiveInt | None = None
    """Steps between evaluations; where it is not given there is one an epoch. The end of a run always has one."""
    eval_batch_size: PositiveInt = 8192
    """Rows that each worker scores at a time."""
    select: SelectConfig = SelectConfig()

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the steps of a run."""
        whole = self.epochs * steps_per_epoch
        return min(whole, self.steps) if self.steps is not None else whole


class Listener(Protocol):
    """Who wants to know how a run goes. Called on every worker; most workers' listeners do nothing."""

    def on_step(self, progress: "Progress") -> None:
        """Hear of a step."""

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:
        """Hear of an evaluation; ``best`` tells that the weights are kept."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step."""

    step: int
    total_steps: int
    losses: Mapping[str, float]
    """Mean training loss by task since the last report, and ``total``; empty between reports."""
    rows_per_s: float
    waited: float
    """Share of the training time that steps waited for data."""


@dataclass
class Outcome:
    """What a finished run knows."""

    steps: int = 0
    best_step: int = 0
    best_value: float = math.nan
    stopped_early: bool = False
    rows: int = 0
    seconds: float = 0.0
    """Time in training steps and waiting for them, without evaluation."""
    waited_s: float = 0.0
    evaluations: list[tuple[int, float]] = field(default_factory=list)


LOG_EVERY = 20
"""Steps between reports of the loss: each needs a sum over workers."""


@dataclass
class Trainer:
    """Runs a training step over the data and keeps the best weights."""

    config: TrainerConfig
    step: TrainStep
    reader: TrainReader
    evaluate: Callable[[], Metrics]
    listener: Listener
    outcome: Outcome = field(default_factory=Outcome)
    best: list[Tensor] | None = None
    bad_evaluations: int = 0

    def fit(self) -> Outcome:
        """Train to the end, or until the selection metric stops improving; leave the best weights in the model."""
        total = self.config.total_steps(self.reader.steps)
        for epoch in range(self.config.epochs):
            self._epoch(Cursor(epoch), total)
            if self.outcome.steps >= total or self.outcome.stopped_early:
                break
        if self.best is not None:
            restore(self.step.model, self.best)
        return self.outcome

    def _epoch(self, cursor: Cursor, total: int) -> None:
        batches = Prefetch(self.reader.epoch(cursor), self.reader.config.prefetch)
        meter = Meter(self.step.objective)
        for batch in batches:
            started = time.perf_counter()
            meter.add(self.step(batch))
            self._count(batch, batches.last_wait_s, time.perf_counter() - started)
            last = self.outcome.steps == total
            losses = meter.read() if self.outcome.steps % LOG_EVERY == 0 or last else {}
            self.listener.on_step(self._progress(total, losses))
            if last or self._evaluation_is_due():
                self._evaluate()
            if last or self.outcome.stopped_early:
                break

    def _count(self, batch: Batch, waited_s: float, worked_s: float) -> None:
        self.outcome.steps += 1
        self.outcome.rows += len(batch)
        self.outcome.waited_s += waited_s
        self.outcome.seconds += waited_s + worked_s

    def _progress(self, total: int, losses: Mapping[str, float]) -> Progress:
        seconds = max(self.outcome.seconds, 1e-9)
        world_rows = self.outcome.steps * self.reader.rows / self.reader.steps
        return Progress(self.outcome.steps, total, losses, world_rows / seconds, self.outcome.waited_s / seconds)

    def _evaluation_is_due(self) -> bool:
        return self.outcome.steps % (self.config.eval_every or self.reader.steps) == 0

    def _evaluate(self) -> None:
        metrics = self.evaluate()
        value = self.config.select.value(metrics)
        self.outcome.evaluations.append((self.outcome.steps, value))
        best = self.config.select.better(value, self.outcome.best_value)
        if best or self.best is None:
            self.outcome.best_value, self.outcome.best_step = value, self.outcome.steps
            self.best = snapshot(self.step.model)
            self.bad_evaluations = 0
        else:
            self.bad_evaluations += 1
        patience = self.config.select.patience
        self.outcome.stopped_early = patience is not None and self.bad_evaluations > patience
        self.listener.on_evaluation(self.outcome.steps, metrics, best)


class Meter:
    """Mean losses since the last reading, over all workers."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.sums_2K: Tensor | None = None

    def add(self, result: StepResult) -> None:
        """Add a step's losses."""
        both_2K = torch.stack([result.sums_K, result.divisors_K])
        self.sums_2K = both_2K if self.sums_2K is None else self.sums_2K + both_2K

    def read(self) -> dict[str, float]:
        """Return the means by term of the loss and their weighted sum, and start again. A collective."""
        if self.sums_2K is None:
            return {}
        sums_K, divisors_K = all_sum(self.sums_2K[0]), self.sums_2K[1]
        self.sums_2K = None
        total = self.objective.combine(sums_K, divisors_K).item()
        terms = zip(self.objective.terms, sums_K.tolist(), divisors_K.tolist(), strict=True)
        return {**{name: s / d for name, s, d in terms if d > 0}, "total": total}
