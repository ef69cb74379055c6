"""What one training process does, from data set to bundle. It knows nothing of Ray: a process group is all it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipelines.calibrate import Fitted, calibrate
from pipelines.run import TrainRun
from pipelines.warm import opened
from recsys_mtl.calibration import Calibration
from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.day import day_facts
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import EvalReader, TrainReader, Worker, shares
from recsys_mtl.data.shards import RowGroup, row_groups
from recsys_mtl.data.spec import Spec
from recsys_mtl.health import Health, HealthRecord, RowSample, measure
from recsys_mtl.health.report import positive_rates
from recsys_mtl.metrics.bank import MetricBank
from recsys_mtl.objectives.losses import Objective
from recsys_mtl.storage import Location, locate
from recsys_mtl.tasks import Task
from recsys_mtl.training.checkpoint import Checkpoints
from recsys_mtl.training.evaluate import evaluate, examine
from recsys_mtl.training.loop import Trainer
from recsys_mtl.training.moments import gather_moments
from recsys_mtl.training.progress import Listener, Outcome
from recsys_mtl.training.select import Metrics
from recsys_mtl.training.sharding import gather_weights, initialise_tables, shard
from recsys_mtl.training.step import TrainStep

PROGRESSIVE = "progressive"
"""Split in charts and files for rows that a model is measured on before it learns them."""


@dataclass(frozen=True)
class Measured:
    """What the held-out rows say of a run's model; the same on every worker."""

    fitted: Fitted
    """On validation; both banks measure calibrated scores, as they are served."""
    valid: MetricBank
    test: MetricBank
    record: HealthRecord | None
    """Of the test split; nothing where the run measures no health."""
    health: Health | None
    """What the record says."""


@dataclass(frozen=True)
class Trained(Measured):
    """What a run has to show; the same on every worker, but for the weights, which rank 0 alone has.

    A progressive run is measured as it began, when the rows that it has learnt since were held out.
    """

    outcome: Outcome
    weights: Mapping[str, torch.Tensor]
    moments: Mapping[str, torch.Tensor]
    """What the optimisers remember after the last step, of which rank 0 alone knows, too."""
    tasks: tuple[Task, ...]
    spec: Spec


class RunListener(Listener):
    """Who wants to know of experts, too; this one does nothing."""

    def on_health(self, split: str, step: int, health: Health) -> None:
        """Hear how experts are doing, before the metrics of the same evaluation."""

    def on_first_look(self, metrics: Metrics) -> None:
        """Hear how good the model is on rows that it is about to learn."""


class WorkerProgram:
    """The parts of a run as this worker sees them."""

    def __init__(
        self, run: TrainRun, worker: Worker, device: torch.device, *, checkpoint_dir: Location | None = None
    ) -> None:
        """``checkpoint_dir`` is this run's folder for checkpoints."""
        self.run, self.worker, self.device = run, worker, device
        self.checkpoint_dir = checkpoint_dir
        self.data = locate(run.data.path)
        self._held_out: dict[str, list[RowGroup]] = {}
        self.encoder = Encoder.load(self.data)
        self.spec = self.encoder.spec
        self.tasks = run.tasks.of(self.spec.tasks)
        self.layout = BatchLayout.of(self.spec, tuple(task.name for task in self.tasks))
        self.reader = TrainReader(
            row_groups(self.data, "train", allow_damage=run.data.reader.skip_damaged > 0),
            self.layout,
            run.data.reader,
            batch_size=run.trainer.batch_size,
            seed=run.seed,
            worker=worker,
        )

    def train(self, listener: RunListener) -> Trained:
        """Train, measure the weights that are kept on both held-out splits, and gather them. A collective."""
        checkpoints = self._checkpoints()
        if self.run.trainer.progressive:
            step, measured = self._progressive_step(listener)
            means = self._promised(step, measured.fitted)
            outcome = Trainer(self.run.trainer, step, self.reader, None, listener, checkpoints).fit()
            measured = replace(measured, fitted=self._levelled(step, measured.fitted, means))
        else:
            step = self.first_step(go_on=checkpoints is not None and checkpoints.latest() is not None)
            outcome, measured = self._fit(step, listener, checkpoints)
        weights, moments = gather_weights(step.model), gather_moments(step)
        return Trained(
            **vars(measured), outcome=outcome, weights=weights, moments=moments, tasks=self.tasks, spec=self.spec
        )

    def _fit(self, step: TrainStep, listener: RunListener, checkpoints: Checkpoints | None) -> tuple[Outcome, Measured]:
        """Train, and measure the best weights."""

        def evaluate_valid() -> Metrics:
            bank, record = self._examine(step, "valid", self.run.health.gradient_rows)
            metrics = bank.compute()
            if record is not None:
                listener.on_health("valid", trainer.outcome.steps, measure(record, positive_rates(metrics)))
            return metrics

        trainer = Trainer(self.run.trainer, step, self.reader, evaluate_valid, listener, checkpoints)
        outcome = trainer.fit()
        fitted = self._calibrate(step, "valid")
        valid = self._evaluate(step, "valid", fitted.calibration)
        return outcome, self._measure(step, fitted, fitted.calibration, listener, valid=valid, at=outcome.best_step)

    def _progressive_step(self, listener: RunListener) -> tuple[TrainStep, Measured]:
        """Make the step, and measure what it has not learnt yet with the earlier model's calibration.

        The new calibration rests on these predictions, too: those of rows that have been learnt are too sure of
        themselves. A run that goes on from a checkpoint measures again, with the same result.
        """
        assert self.run.init_from is not None
        step = self._build_step()
        with opened(self.run.init_from, self.run.tracking.uri) as start:
            start.fill(step, self.encoder)
        fitted = self._calibrate(step, "test")
        if self._holds_out:
            fitted = fitted.kept_where_few(start.calibration, self._evaluate(step, "test"))
        measured = self._measure(step, fitted, start.calibration, listener, at=0)
        listener.on_first_look(measured.test.compute())
        return step, measured

    @property
    def _holds_out(self) -> bool:
        """Whether a day has rows that are not learnt, and calibrators are wanted."""
        return self.run.calibration != "identity" and day_facts(self.data).held_out > 0

    def _promised(self, step: TrainStep, fitted: Fitted) -> dict[str, float]:
        """Say what is promised of a day's held-out rows before the others are learnt. A collective."""
        return fitted.means(self._evaluate(step, "valid")) if self._holds_out else {}

    def _levelled(self, step: TrainStep, fitted: Fitted, means: Mapping[str, float]) -> Fitted:
        """Let calibrators promise as much as before of rows that have not been learnt. A collective.

        Learning changes how far a model goes in general, too. Their mean needs no labels, of which a day has few.
        """
        return fitted.levelled(self._evaluate(step, "valid"), means) if self._holds_out else fitted

    def _measure(
        self,
        step: TrainStep,
        fitted: Fitted,
        calibration: Calibration,
        listener: RunListener,
        *,
        valid: MetricBank | None = None,
        at: int,
    ) -> Measured:
        """Measure the test split, calibrated."""
        test, record = self._examine(step, "test", self.run.health.last_gradient_rows, calibration)
        health = None if record is None else measure(record, positive_rates(test.compute()))
        if health is not None:
            listener.on_health("test", at, health)
        return Measured(fitted, test if valid is None else valid, test, record, health)

    def first_step(self, *, go_on: bool = False) -> TrainStep:
        """Make the step that training begins with; one that is to ``go_on`` is filled from a checkpoint. A collective.

        Raises:
            ConfigError: the model to begin with is not there any more.
        """
        step = self._build_step()
        if self.run.init_from is not None and not go_on:
            with opened(self.run.init_from, self.run.tracking.uri) as start:
                start.fill(step, self.encoder)
        return step

    def _build_step(self) -> TrainStep:
        torch.manual_seed(self.run.seed)
        model = self.run.model.build(self.spec, self.tasks, table_device=torch.device("meta"))
        model.ranker.to(self.device)
        model.ranker.learns_in_bfloat16 = self.run.trainer.precision == "bfloat16"
        cluster = self.run.cluster
        sharded = shard(
            model, self.run.optim.sparse, self.device, sharding=cluster.sharding, memory_gib=cluster.memory_gib
        )
        initialise_tables(sharded, self.run.seed, deviation=self.run.optim.sparse.init_deviation)
        return TrainStep(
            sharded,
            self.objective(),
            self.run.optim.dense,
            self.run.trainer.total_steps(self.reader.steps),
            seed=self.run.seed,
        )

    def _checkpoints(self) -> Checkpoints | None:
        """Where this run is saved: in a folder of its own, and nowhere if it was not told where."""
        config = self.run.trainer.checkpoint
        if self.checkpoint_dir is None or config.every_steps is None:
            return None
        return Checkpoints(
            self.checkpoint_dir,
            config,
            settings=lasting_settings(self.run, self.spec),
            select=self.run.trainer.select,
            timeout_s=self.run.cluster.collective_timeout_s,
        )

    def objective(self) -> Objective:
        """Make the run's objective."""
        calibrator = self.run.model.heads.calibrator
        return self.run.objective.build(self.tasks, calibrator=calibrator).to(self.device)

    def _calibrate(self, step: TrainStep, split: str) -> Fitted:
        """Fit calibrators to a split. A collective."""
        bank = evaluate(step.model, self._eval_reader(split), self.tasks, self.device, halves=True)
        return calibrate(bank, self.run.calibration)

    def _evaluate(self, step: TrainStep, split: str, calibration: Calibration | None = None) -> MetricBank:
        return evaluate(step.model, self._eval_reader(split), self.tasks, self.device, calibration)

    def _examine(
        self, step: TrainStep, split: str, gradient_rows: int, calibration: Calibration | None = None
    ) -> tuple[MetricBank, HealthRecord | None]:
        """Evaluate, and record health if the run asks for it."""
        if not self.run.health.enabled:
            return self._evaluate(step, split, calibration), None
        everyones = [sum(g.rows for g in mine) for mine in shares(self._groups(split), self.worker.world)]
        first = sum(everyones[: self.worker.rank])
        sample = RowSample(gradient_rows, sum(everyones), first)
        return examine(step.model, self._eval_reader(split), self.tasks, self.device, calibration, sample=sample)

    def _groups(self, split: str) -> list[RowGroup]:
        """List a held-out split's row groups; their files' footers are read once for all evaluations."""
        if split not in self._held_out:
            self._held_out[split] = row_groups(self.data, split)
        return self._held_out[split]

    def _eval_reader(self, split: str) -> EvalReader:
        batch_size = self.run.trainer.eval_batch_size
        return EvalReader(self._groups(split), self.layout, batch_size=batch_size, worker=self.worker)


def lasting_settings(run: TrainRun, spec: Spec) -> dict[str, Any]:
    """Return the settings that decide about a run's outcome, which it must keep when it is resumed."""
    begun = {"init_from"} if run.init_from is not None else set()  # a run from before there was any goes on, too
    tree = run.model_dump(mode="json", include={"tasks", "model", "objective", "optim", "trainer", "seed"} | begun)
    del tree["trainer"]["checkpoint"], tree["trainer"]["skip_not_finite"]
    return tree | {"data": {"fingerprint": spec.fingerprint, "lanes": run.data.reader.lanes}}
