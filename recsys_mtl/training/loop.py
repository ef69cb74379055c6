"""The loop: epochs of steps, evaluations in between, the best weights at the end. It knows nothing of Ray."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.batch import Batch
from recsys_mtl.data.pinning import pinned
from recsys_mtl.data.prefetch import Prefetch
from recsys_mtl.data.reader import Cursor, TrainReader
from recsys_mtl.training.checkpoint import CheckpointConfig, Checkpoints, DamagedCheckpointError, Saved
from recsys_mtl.training.faults import batch_record, count_damage, explain
from recsys_mtl.training.meter import Meter
from recsys_mtl.training.plan_record import recorded_plan, tell_changes
from recsys_mtl.training.progress import Listener, Outcome, Progress
from recsys_mtl.training.select import Metrics, SelectConfig
from recsys_mtl.training.sharding import restore, snapshot
from recsys_mtl.training.state import put_back, training_state
from recsys_mtl.training.step import NotFiniteError, TrainStep

logger = logging.getLogger(__name__)


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
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products in bottom and experts while training. ``bfloat16`` is faster where processors have it (AMX,
    AVX512-BF16, GPUs), slower where they do not. Weights, tables, sequences, heads, losses, evaluation: float32."""
    skip_not_finite: NonNegativeInt = 0
    """Batches that may be left out because their loss is not a finite number; one more ends the run."""
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
    """A copy of the best weights, unless the model has them to the end."""
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
        try:
            self._train()
        finally:
            self._finish_save()
        if self.evaluate is None:
            self.outcome.best_step = self.outcome.steps
        if self.best is not None:
            restore(self.step.model, self.best)
        return self.outcome

    def _train(self) -> None:
        epoch, step = divmod(self.outcome.steps, self.reader.steps)
        while not self._is_over():
            self._epoch(Cursor(epoch, step))
            epoch, step = epoch + 1, 0

    def _is_over(self) -> bool:
        return self.outcome.steps >= self.total or self.outcome.stopped_early

    def _epoch(self, cursor: Cursor) -> None:
        batches = Prefetch(pinned(self.reader.epoch(cursor), self.step.device), self.reader.config.prefetch)
        for batch in batches:
            started = time.perf_counter()
            self._learn(batch)
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

    def _learn(self, batch: Batch) -> None:
        cursor = Cursor(*divmod(self.outcome.steps, self.reader.steps))
        count_damage(self.reader, cursor, self.outcome.damaged, like=self.step.objective.weights_K)
        try:
            self.meter.add(self.step(batch))
        except NotFiniteError as error:
            self._leave_out(cursor, error)

    def _leave_out(self, cursor: Cursor, error: NotFiniteError) -> None:
        """Pass over a batch, which counts as used, if that may be."""
        record = batch_record(self.reader, cursor, error)
        self.listener.on_not_finite(record)
        if error.learnt or self.outcome.not_finite >= self.config.skip_not_finite:
            raise ConfigError([explain(record, error)]) from None
        self.outcome.not_finite += 1
        self.step.go_to(self.step.steps)

    def _count(self, batch: Batch, waited_s: float, worked_s: float) -> None:
        self.outcome.steps += 1
        self.outcome.rows += len(batch)
        self.outcome.waited_s += waited_s
        self.outcome.seconds += waited_s + worked_s

    def _progress(self, losses: Mapping[str, float]) -> Progress:
        seconds = max(self.outcome.seconds, 1e-9)
        rows_per_s = self.outcome.steps * self.reader.rows / self.reader.steps / seconds
        waited = self.outcome.waited_s / seconds
        return Progress(self.outcome.steps, self.total, losses, rows_per_s, waited, self.outcome.left_out)

    def _evaluation_is_due(self) -> bool:
        return self.outcome.steps % (self.config.eval_every or self.reader.steps) == 0

    def _checkpoint_is_due(self) -> bool:
        config = self.config.checkpoint
        if self.checkpoints is None or config.every_steps is None:
            return False
        is_best = self.outcome.steps in self.config.select.best(self.outcome.evaluations, config.keep_best)
        return is_best or self.outcome.steps % config.every_steps == 0

    def _save(self) -> None:
        """Save everything. The best weights are there once: as the model's where these are the best."""
        assert self.checkpoints is not None
        self._finish_save()
        outcome = self.outcome
        progress = {"outcome": asdict(outcome), "bad_evaluations": self.bad_evaluations, "losses": self.meter.state()}
        progress["unsent"] = self.listener.unsent()
        progress["plan"] = recorded_plan(self.step.model)
        progress["best"] = self.best is not None and outcome.best_step != outcome.steps
        best = {"best": self.best} if progress["best"] else {}
        value = dict(outcome.evaluations).get(outcome.steps)
        self.checkpoints.save(outcome.steps, training_state(self.step), progress, constant=best, value=value)

    def _finish_save(self) -> None:
        """Wait for the save under way. Every worker does: it is whole when all of them have written their part."""
        if self.checkpoints is not None and not self.checkpoints.finish():
            self.outcome.failed_saves += 1

    def _resume(self, checkpoints: Checkpoints) -> None:
        """Go on from the newest checkpoint; from the one before it if that is damaged."""
        saved = checkpoints.latest()
        while saved is not None:
            try:
                self._go_on(checkpoints, saved)
                break
            except DamagedCheckpointError as error:
                saved = checkpoints.latest(before=saved.step)
                if saved is None:
                    raise
                logger.warning("%s; the run goes on from step %d", error, saved.step)

    def _go_on(self, checkpoints: Checkpoints, saved: Saved) -> None:
        best = {"best": snapshot(self.step.model)} if saved.progress["best"] else {}
        state = training_state(self.step) | best
        checkpoints.load(saved, state)
        put_back(self.step, state, saved.step)
        self.outcome = Outcome(**saved.progress["outcome"])
        self.bad_evaluations = saved.progress["bad_evaluations"]
        self.meter.put_back(saved.progress["losses"])
        tell_changes(saved.progress.get("plan", {}), recorded_plan(self.step.model))
        self.listener.resend(saved.progress["unsent"])
        is_best = self.outcome.best_step == saved.step
        self.best = best.get("best", self._snapshot() if is_best else None)

    def _judge(self, metrics: Metrics) -> None:
        value = self.config.select.value(metrics)
        first = not self.outcome.evaluations
        self.outcome.evaluations.append((self.outcome.steps, value))
        best = self.config.select.better(value, self.outcome.best_value)
        if best or first:
            self.outcome.best_value, self.outcome.best_step = value, self.outcome.steps
            self.best = self._snapshot()
            self.bad_evaluations = 0
        else:
            self.bad_evaluations += 1
        patience = self.config.select.patience
        self.outcome.stopped_early = patience is not None and self.bad_evaluations > patience
        self.listener.on_evaluation(self.outcome.steps, metrics, best)

    def _snapshot(self) -> dict[str, Any] | None:
        """Copy the weights, which takes as much memory again, unless no step will change them."""
        return snapshot(self.step.model) if self.outcome.steps < self.total else None
