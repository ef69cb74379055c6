"""The loop: epochs of steps, evaluations in between, the best weights at the end. It knows nothing of Ray."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from pydantic import PositiveInt, model_validator

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.batch import Batch
from recsys_mtl.data.prefetch import Prefetch
from recsys_mtl.data.reader import Cursor, TrainReader
from recsys_mtl.training.checkpoint import CheckpointConfig, Checkpoints
from recsys_mtl.training.meter import Meter
from recsys_mtl.training.select import Metrics, SelectConfig
from recsys_mtl.training.sharding import restore, snapshot
from recsys_mtl.training.state import put_back, training_state
from recsys_mtl.training.step import NotFiniteError, StepResult, TrainStep


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
    progressive: bool = False
    """Test the model that the run begins with on the rows that it learns then, once, and keep the last weights: what a
    daily run does. Nothing is held out that an evaluation could judge by while the rows are learnt."""
    select: SelectConfig = SelectConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _progressive_is_one_pass(self) -> Self:
        if not self.progressive:
            return self
        problems = (
            [] if self.epochs == 1 else [f"epochs: a progressive run is one pass over its rows, not {self.epochs}"]
        )
        ignored = {"eval_every": self.eval_every, "select.patience": self.select.patience}
        problems += [
            f"{name}: would be ignored, a progressive run holds nothing out" for name in ignored if ignored[name]
        ]
        if problems:
            raise ConfigError(problems)
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the steps of a run."""
        whole = self.epochs * steps_per_epoch
        return min(whole, self.steps) if self.steps is not None else whole


class Listener:
    """Who wants to know how a run goes. Called on every worker; this one, which most workers have, does nothing."""

    def on_step(self, progress: "Progress") -> None:
        """Hear of a step."""

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:
        """Hear of an evaluation; ``best`` tells that the weights are kept."""

    def unsent(self) -> Any:
        """Return what was heard and has not been passed on yet, as plain values: a checkpoint takes it along."""

    def resend(self, unsent: Any) -> None:
        """Pass on what the listener before this one could not, in the run that this one goes on with."""


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
    evaluate: Callable[[], Metrics] | None
    """None where nothing is held out: the last weights are kept."""
    listener: Listener
    checkpoints: Checkpoints | None = None
    """Where the run is saved, and goes on from."""
    outcome: Outcome = field(default_factory=Outcome)
    best: dict[str, Any] | None = None
    bad_evaluations: int = 0

    def __post_init__(self) -> None:
        self.meter = Meter(self.step.objective)
        self.total = self.config.total_steps(self.reader.steps)

    def fit(self) -> Outcome:
        """Train to the end, or until the selection metric stops improving; leave the best weights in the model.

        Where there is a checkpoint, training goes on from there and ends as if it had never stopped.

        Raises:
            ConfigError: the checkpoint is damaged, or of a run with other settings; a loss is not a finite number.
        """
        if self.checkpoints is not None:
            self._resume(self.checkpoints)
        epoch, step = divmod(self.outcome.steps, self.reader.steps)
        while not self._is_over():
            self._epoch(Cursor(epoch, step))
            epoch, step = epoch + 1, 0
        if self.evaluate is None:
            self.outcome.best_step = self.outcome.steps
        if self.best is not None:
            restore(self.step.model, self.best)
        return self.outcome

    def _is_over(self) -> bool:
        return self.outcome.steps >= self.total or self.outcome.stopped_early

    def _epoch(self, cursor: Cursor) -> None:
        batches = Prefetch(self.reader.epoch(cursor), self.reader.config.prefetch)
        for batch in batches:
            started = time.perf_counter()
            self.meter.add(self._learn(batch))
            self._count(batch, batches.last_wait_s, time.perf_counter() - started)
            last = self.outcome.steps == self.total
            losses = self.meter.read() if self.outcome.steps % LOG_EVERY == 0 or last else {}
            self.listener.on_step(self._progress(losses))
            if self.evaluate is not None and (last or self._evaluation_is_due()):
                self._judge(self.evaluate())
            if self._checkpoint_is_due():
                self._save()
            if self._is_over():
                break

    def _learn(self, batch: Batch) -> StepResult:
        try:
            return self.step(batch)
        except NotFiniteError as error:
            epoch, number = divmod(self.outcome.steps, self.reader.steps)
            place = f"step {self.outcome.steps + 1} (batch {number + 1} of epoch {epoch + 1})"
            problem = f"the loss of {error} is not a finite number, and nothing was learnt from it"
            advice = "lower optim.dense.lr or optim.sparse.lr, or look for labels or weights that are too large"
            raise ConfigError([f"{place}: {problem}; {advice}"]) from None

    def _count(self, batch: Batch, waited_s: float, worked_s: float) -> None:
        self.outcome.steps += 1
        self.outcome.rows += len(batch)
        self.outcome.waited_s += waited_s
        self.outcome.seconds += waited_s + worked_s

    def _progress(self, losses: Mapping[str, float]) -> Progress:
        seconds = max(self.outcome.seconds, 1e-9)
        world_rows = self.outcome.steps * self.reader.rows / self.reader.steps
        return Progress(self.outcome.steps, self.total, losses, world_rows / seconds, self.outcome.waited_s / seconds)

    def _evaluation_is_due(self) -> bool:
        return self.outcome.steps % (self.config.eval_every or self.reader.steps) == 0

    def _checkpoint_is_due(self) -> bool:
        every = self.config.checkpoint.every_steps
        return self.checkpoints is not None and every is not None and self.outcome.steps % every == 0

    def _save(self) -> None:
        """Save everything. The best weights are there once: as the model's where these are the best."""
        assert self.checkpoints is not None
        outcome = self.outcome
        progress = {"outcome": asdict(outcome), "bad_evaluations": self.bad_evaluations, "losses": self.meter.state()}
        progress["unsent"] = self.listener.unsent()
        progress["best"] = self.best is not None and outcome.best_step != outcome.steps
        best = {"best": self.best} if progress["best"] else {}
        self.checkpoints.save(outcome.steps, training_state(self.step) | best, progress)

    def _resume(self, checkpoints: Checkpoints) -> None:
        saved = checkpoints.latest()
        if saved is None:
            return
        best = {"best": snapshot(self.step.model)} if saved.progress["best"] else {}
        state = training_state(self.step) | best
        checkpoints.load(saved, state)
        put_back(self.step, state, saved.step)
        self.outcome = Outcome(**saved.progress["outcome"])
        self.bad_evaluations = saved.progress["bad_evaluations"]
        self.meter.put_back(saved.progress["losses"])
        self.listener.resend(saved.progress["unsent"])
        is_best = self.outcome.best_step == saved.step
        self.best = best.get("best", snapshot(self.step.model) if is_best else None)

    def _judge(self, metrics: Metrics) -> None:
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
