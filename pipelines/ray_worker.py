"""What Ray calls in each training process: a worker program with its ears in MLflow and in the driver."""

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray
import ray.train.torch
import torch

from pipelines.monitor import Event
from pipelines.pictures import figures
from pipelines.quiet import quiet
from pipelines.run import TrainRun
from pipelines.worker import PROGRESSIVE, RunListener, WorkerProgram, make_bundle
from recsys_mtl.config import ConfigError
from recsys_mtl.data.reader import Worker
from recsys_mtl.health import Health, HealthConfig, alarms
from recsys_mtl.health.report import charts, tables, tags
from recsys_mtl.tracking import MetricLog
from recsys_mtl.training.loop import Progress
from recsys_mtl.training.moments import MOMENTS_FOLDER, save_moments
from recsys_mtl.training.select import Metrics

SEND_EVERY_S = 0.5
"""Seconds between messages to the driver about progress."""


def ray_worker(config: dict[str, Any]) -> None:
    """Be one worker of a run: what Ray calls in each process."""
    quiet(config["verbose"])
    if ray.get(config["box"].is_hopeless.remote()):
        return  # Ray starts workers again whatever ended the others
    try:
        _work(config)
    except ConfigError as error:
        for problem in error.problems:
            ray.get(config["box"].put.remote(Event("problem", text=problem)))
        raise


def _work(config: dict[str, Any]) -> None:
    run = TrainRun.model_validate(config["run"])
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size())
    torch.set_num_threads(run.cluster.cpus_per_worker)
    folder = Path(run.trainer.checkpoint.path) / config["run_id"]
    program = WorkerProgram(run, worker, ray.train.torch.get_device(), checkpoint_dir=folder)
    first = worker.rank == 0
    with MetricLog(run.tracking.absolute_uri, config["run_id"]) if first else nullcontext() as log:
        trained = program.train(Reporter(log, config["box"], run.health) if log else RunListener())
        if log:
            with tempfile.TemporaryDirectory() as directory:
                make_bundle(run, trained, Path(directory), run_id=config["run_id"])
                log.log_artifacts(Path(directory), "bundle")
            with tempfile.TemporaryDirectory() as directory:
                save_moments(trained.moments, Path(directory))
                log.log_artifacts(Path(directory), MOMENTS_FOLDER)
            test = trained.test.compute()
            log.log(trained.outcome.best_step, flat("test", test) | {"train/seconds": trained.outcome.seconds})
            for path, figure in figures(trained):
                log.log_figure(figure, path)
            found = [] if trained.health is None else alarms(trained.health, run.health)
            extra = {**vars(trained.outcome), "alarms": [alarm.text for alarm in found]}
            ray.get(config["box"].put.remote(Event("final", metrics=test, extra=extra)))


class Reporter(RunListener):
    """Listener of the first worker: metrics and health to MLflow, events to the driver."""

    def __init__(self, log: MetricLog, box: Any, health: HealthConfig) -> None:
        self.log, self.box, self.health = log, box, health
        self.sent = 0.0

    def on_step(self, progress: Progress) -> None:
        """Report the losses, and tell the driver now and then."""
        if progress.losses:
            values = {f"train/{task}/loss": loss for task, loss in progress.losses.items()}
            self.log.log(
                progress.step, values | {"train/rows_per_s": progress.rows_per_s, "train/waiting": progress.waited}
            )
        now = time.monotonic()
        if progress.losses or now - self.sent > SEND_EVERY_S:
            self.sent = now
            self.box.put.remote(Event.progress(progress))

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:
        """Report the metrics."""
        self.log.log(step, flat("valid", metrics))
        self.box.put.remote(Event("evaluation", step, metrics=metrics, best=best))

    def on_first_look(self, metrics: Metrics) -> None:
        """Report the metrics, and show them."""
        self.log.log(0, flat(PROGRESSIVE, metrics))
        self.box.put.remote(Event("evaluation", metrics=metrics))

    def on_health(self, split: str, step: int, health: Health) -> None:
        """Report charts of the validation split; of every split the tables, and tags that speak of the last one."""
        found = alarms(health, self.health)
        if split == "valid":
            self.log.log(step, charts(health, self.health))
        for path, rows in tables(health, found, split=split, step=step).items():
            self.log.log_rows(path, rows, key=("split", "step"))
        self.log.tag(tags(health, found))

    def unsent(self) -> Any:
        """Return what MLflow does not have yet."""
        return self.log.unsent()

    def resend(self, unsent: Any) -> None:
        """Log it."""
        self.log.resend(unsent)


def flat(split: str, metrics: Metrics) -> dict[str, float]:
    """Name metrics as MLflow's charts show them: ``split/task/metric``."""
    return {f"{split}/{task}/{name}": value for task, values in metrics.items() for name, value in values.items()}
