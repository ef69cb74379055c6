"""The training program: one run on a Ray cluster, tracked in MLflow, its bundle registered."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from rich.console import Console

from pipelines.cluster import cluster
from pipelines.display import TrainingDisplay, final_lines, metrics_table
from pipelines.monitor import Event, Monitor
from pipelines.ray_worker import ray_worker
from pipelines.run import TrainRun
from pipelines.warm import opened, require_day
from pipelines.worker import WorkerProgram
from recsys_mtl.config import ConfigError
from recsys_mtl.data.reader import Worker
from recsys_mtl.registry import register
from recsys_mtl.tracking import Run, find_unfinished
from recsys_mtl.training.select import Metrics
from recsys_mtl.training.sharding import make_plan

ERROR_FILE = "error.txt"
"""Where a failed run keeps the traceback, among its files."""


@dataclass(frozen=True)
class Finished:
    """What a finished run leaves."""

    run_id: str
    model: str
    version: int
    metrics: Metrics
    """Of the test split."""
    outcome: Mapping[str, Any]


def train(run: TrainRun, console: Console, *, verbose: bool = False, tags: Mapping[str, str] | None = None) -> Finished:
    """Do a run from start to registered model; ``tags`` are added to its own.

    Raises:
        ConfigError: something that the user can mend; nothing has been started.
    """
    begun = run.init_from and run.init_from.pinned(run.tracking.uri)
    run = run.model_copy(update={"run_name": run.run_name or default_name(run), "init_from": begun})
    spec = preflight(run)
    tags = {"data_fingerprint": spec, "model": model_kind(run), **(tags or {})}
    with started_or_resumed(run, tags) as (tracked, verb):
        console.print(
            f"run {tracked.run_id} ({run.run_name}) {verb}, starting {run.cluster.workers} Ray workers", highlight=False
        )
        final = run_workers(run, tracked, console, verbose=verbose)
        description = headline(final.metrics, held_out(run))
        version = register(run.tracking.uri, tracked.run_id, registry=run.registry, description=description, tags=tags)
    report(console, final, tracked.run_id, run, version)
    return Finished(tracked.run_id, run.registry.name, version, final.metrics, final.extra)


@contextmanager
def started_or_resumed(run: TrainRun, tags: Mapping[str, str]) -> Iterator[tuple[Run, Literal["begins", "goes on"]]]:
    """Open the unfinished run of this name, or else a new one, for as long as the context lasts."""
    name, tree = run.run_name or "", run.model_dump(mode="json")
    if (unfinished := find_unfinished(run.tracking, name)) is not None:
        with Run.resume(run.tracking, unfinished, params=tree) as tracked:
            yield tracked, "goes on"
    else:
        with Run.start(run.tracking, name, params=tree, tags=tags) as tracked:
            yield tracked, "begins"


def run_workers(run: TrainRun, tracked: Run, console: Console, *, verbose: bool) -> Event:
    """Run the workers to their end, showing what they do; return their final report.

    Raises:
        ConfigError: a worker found something that the user can mend, such as a damaged file.
        RunFailedError: anything else; the run keeps the traceback.
    """
    with cluster(run.cluster, verbose=verbose), TrainingDisplay(console) as display:
        monitor = Monitor(display.show)
        try:
            with monitor:
                launch(run, tracked.run_id, monitor.box, verbose=verbose)
        except TrainingFailedError as error:
            tracked.log_text(str(error), ERROR_FILE)
            if monitor.problems:
                raise ConfigError(monitor.problems) from None
            last = str(error).strip().splitlines()[-1]
            raise RunFailedError(f"run {tracked.run_id}: {last} (traceback: {ERROR_FILE} among its files)") from None
    if monitor.problems:
        raise ConfigError(monitor.problems)
    if monitor.final is None:
        raise RunFailedError(f"run {tracked.run_id}: the workers ended without a final report")
    return monitor.final


class RunFailedError(Exception):
    """A run that did not get to its end, for a reason that is not the user's."""


def preflight(run: TrainRun) -> str:
    """Find what is wrong before anything is started; return the data set's fingerprint.

    Raises:
        ConfigError: data, tasks or model do not fit together.
    """
    try:
        program = WorkerProgram(run, Worker(0, run.cluster.workers), torch.device("cpu"))
        model = run.model.build(program.spec, program.tasks, table_device=torch.device("meta"))
        device = torch.device("cuda" if run.cluster.gpus_per_worker else "cpu")
        make_plan(model, run.cluster.workers, device, memory_gib=run.cluster.memory_gib)
        program.objective()
        run.trainer.select.check([task.name for task in program.tasks])
        if run.init_from is not None:
            with opened(run.init_from, run.tracking.uri) as start:
                start.refuse_mismatch(program.encoder, program.tasks, run.model, run.optim.sparse)
        if run.trainer.progressive:
            require_day(program.data)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    return program.spec.fingerprint


def launch(run: TrainRun, run_id: str, box: Any, *, verbose: bool) -> None:
    """Run the workers to their end."""
    config = run.cluster
    failures = config.max_failures if run.trainer.checkpoint.every_steps is not None else 0
    storage = Path(tempfile.mkdtemp(prefix="recsys-mtl-ray-"))
    trainer = TorchTrainer(
        ray_worker,
        train_loop_config={
            "run": for_workers(run).model_dump(mode="json"),
            "run_id": run_id,
            "box": box,
            "verbose": verbose,
        },
        scaling_config=ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.gpus_per_worker > 0,
            resources_per_worker={"CPU": config.cpus_per_worker}
            | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {}),
        ),
        torch_config=TorchConfig(backend=config.backend, timeout_s=config.collective_timeout_s),
        run_config=RunConfig(
            name=run_id, storage_path=str(storage), failure_config=FailureConfig(max_failures=failures)
        ),
    )
    try:
        trainer.fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def for_workers(run: TrainRun) -> TrainRun:
    """Make paths absolute: workers have working directories of their own."""
    tracking = run.tracking.model_copy(update={"uri": run.tracking.absolute_uri})
    data = run.data.model_copy(update={"path": str(Path(run.data.path).absolute())})
    checkpoint = run.trainer.checkpoint
    checkpoint = checkpoint.model_copy(update={"path": str(Path(checkpoint.path).absolute())})
    trainer = run.trainer.model_copy(update={"checkpoint": checkpoint})
    return run.model_copy(update={"tracking": tracking, "data": data, "trainer": trainer})


def held_out(run: TrainRun) -> str:
    """Name the rows that a run's final metrics are of."""
    return "before learning these rows" if run.trainer.progressive else "test split"


def headline(metrics: Metrics, rows: str) -> str:
    """Say in one line how good a version is."""
    return f"{rows}: " + ", ".join(
        f"{task} AUC {values['auc']:.4f}" for task, values in metrics.items() if "auc" in values
    )


def report(console: Console, final: Event, run_id: str, run: TrainRun, version: int) -> None:
    """Print what a finished run has to show."""
    for table in metrics_table(final.metrics, held_out(run)):
        console.print(table)
    for line in final_lines(final.metrics):
        console.print(line, highlight=False)
    for alarm in final.extra["alarms"]:
        console.print(f"expert health: {alarm}", highlight=False)
    console.print(f"registered {run.registry.name} version {version} as {run.registry.alias}", highlight=False)
    console.print(f"compare runs: {run.tracking.ui}", highlight=False, soft_wrap=True)
    console.print(f"run_id={run_id}", highlight=False)


def default_name(run: TrainRun) -> str:
    """Name a run by its model and the time."""
    return f"{model_kind(run)}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def model_kind(run: TrainRun) -> str:
    """Name the cell of the grid that a run trains."""
    return f"{run.model.bottom.kind}-{run.model.experts.kind}"
