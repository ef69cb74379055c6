"""What Ray calls in each training process: a worker program with its ears in MLflow and in the driver."""

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import ray
import ray.train.torch

from pipelines.bundling import make_bundle
from pipelines.described import headline, held_out
from pipelines.monitor import Event
from pipelines.pictures import figures
from pipelines.quiet import quiet
from pipelines.run import Elastic, TrainRun
from pipelines.threads import share_out
from pipelines.worker import PROGRESSIVE, RunListener, Trained, WorkerProgram
from recsys_mtl.bundle import CARD_FILE
from recsys_mtl.config import ConfigError
from recsys_mtl.data.reader import Worker
from recsys_mtl.health import Health, alarms
from recsys_mtl.health.report import charts, tables, tags
from recsys_mtl.storage import locate
from recsys_mtl.tracking import Machine, MetricLog, may_pass, patiently
from recsys_mtl.training.faults import record_file
from recsys_mtl.training.moments import MOMENTS_FOLDER, save_moments
from recsys_mtl.training.progress import Progress
from recsys_mtl.training.select import Metrics

SEND_EVERY_S = 0.5
"""Seconds between messages to the driver about progress."""
QUALITY = "quality.json"
"""Table among a run's files."""
GROUNDS = {"rows", "positives", "gauc_groups", "gauc_coverage", "xauc_rows", "auc_error_bound"}
"""What metrics rest on. On validation it is the same at every step, and charts of it would hide the others."""


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
    share_out(run.cluster.cpus_per_worker)
    folder = locate(run.trainer.checkpoint.path) / config["run_id"]
    program = WorkerProgram(run, worker, ray.train.torch.get_device(), checkpoint_dir=folder)
    first = worker.rank == 0
    box = config["box"]

    def say(text: str) -> None:
        box.put.remote(Event("stage", text=text))

    with MetricLog(run.tracking, config["run_id"], say=say) if first else nullcontext() as log:
        trained = program.train(Reporter(log, box, run, worker.world) if log else RunListener())
        if log:
            extra = leave(log, run, trained, config["run_id"])
            ray.get(box.put.remote(Event("final", metrics=trained.test.compute(), extra=extra)))


def leave(log: MetricLog, run: TrainRun, trained: Trained, run_id: str) -> dict[str, Any]:
    """Bring the bundle, pictures and last metrics to MLflow; return what else the driver is told."""
    with log.new_files() as folder:
        (folder / "bundle").mkdir()
        make_bundle(run, trained, folder / "bundle", run_id=run_id)
        card = (folder / "bundle" / CARD_FILE).read_text(encoding="utf-8")
        save_moments(trained.moments, folder / MOMENTS_FOLDER)
        for name, figure in figures(trained):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / name)
    seconds = {"train/seconds": trained.outcome.seconds}
    at, tested = trained.outcome.best_step, trained.test.compute()
    log.log(at, flat("test", tested) | seconds)
    log.log_rows(QUALITY, quality_rows("test", at, tested), key=("split", "step"))
    line = headline(tested, held_out(run))
    log.tag({"failed_saves": str(trained.outcome.failed_saves), "mlflow.note.content": line})
    found = [] if trained.health is None else alarms(trained.health, run.health)
    extra = {**vars(trained.outcome), "alarms": [alarm.text for alarm in found], "left_out": trained.outcome.left_out}
    extra |= {"valid": trained.valid.compute(), "card": card}
    return extra | {"undelivered": undelivered(log, run.tracking.patience_s)}


def undelivered(log: MetricLog, patience_s: float) -> str | None:
    """Deliver everything; say why that was not possible within so long, which only the driver makes an error."""
    try:
        patiently(log.deliver, seconds=patience_s, say=log.say)
    except Exception as error:
        if not may_pass(error):
            raise
        return str(error)
    return None


class Reporter(RunListener):
    """Listener of the first worker: metrics and health to MLflow, events to the driver."""

    def __init__(self, log: MetricLog, box: Any, run: TrainRun, workers: int) -> None:
        self.log, self.box, self.health, self.workers = log, box, run.health, workers
        self.sent = 0.0
        self.left_out: Mapping[str, int] = {}
        self.machine = Machine()
        if isinstance(run.cluster.workers, Elastic):
            self.box.put.remote(Event("stage", text=f"training on {workers} of {run.cluster.max_workers} workers"))

    def on_step(self, progress: Progress) -> None:
        """Report the losses, and tell the driver now and then."""
        if progress.losses:
            losses = {f"train/{task}/loss": loss for task, loss in progress.losses.items()}
            speed = {"train/rows_per_s": progress.rows_per_s, "train/waiting": progress.waited}
            self.log.log(progress.step, losses | speed | {"train/workers": self.workers} | self.machine.sample())
        if progress.left_out != self.left_out:
            self.left_out = progress.left_out
            self.log.log(progress.step, {f"train/left_out/{name}": n for name, n in progress.left_out.items()})
            self.log.tag({f"left_out.{name}": str(n) for name, n in progress.left_out.items()})
        now = time.monotonic()
        if progress.losses or now - self.sent > SEND_EVERY_S:
            self.sent = now
            self.box.put.remote(Event.progress(progress))

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:
        """Report the metrics."""
        self.log.log(step, curves("valid", metrics))
        self.log.log_rows(QUALITY, quality_rows("valid", step, metrics), key=("split", "step"))
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

    def on_not_finite(self, record: Mapping[str, Any]) -> None:
        """Keep where the batch's rows lie."""
        self.log.keep_text(record_file(record), json.dumps(record))
        self.box.put.remote(Event("stage", text=f"step {record['step']}: {record['problem']}"))

    def unsent(self) -> Any:
        """Return what MLflow does not have yet."""
        return self.log.unsent()

    def resend(self, unsent: Any) -> None:
        """Log it."""
        self.log.resend(unsent)


def flat(split: str, metrics: Metrics) -> dict[str, float]:
    """Name metrics as MLflow's charts show them: ``split/task/metric``."""
    return {f"{split}/{task}/{name}": value for task, values in metrics.items() for name, value in values.items()}


def curves(split: str, metrics: Metrics) -> dict[str, float]:
    """Name those metrics that are worth a curve."""
    return {name: value for name, value in flat(split, metrics).items() if name.rpartition("/")[2] not in GROUNDS}


def quality_rows(split: str, step: int, metrics: Metrics) -> list[dict[str, Any]]:
    """Return the rows of the table of all metrics, with what they rest on: one for each task."""
    return [{"split": split, "step": step, "task": task, **values} for task, values in metrics.items()]
