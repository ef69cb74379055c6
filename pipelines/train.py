"""The training program: one run on a Ray cluster, tracked in MLflow, its bundle registered."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import torch
from rich.console import Console

from pipelines import described
from pipelines.deliver import complete, delivered, final_event, hand_over, left_over
from pipelines.display import final_lines, left_out_lines, metrics_table
from pipelines.launch import run_workers
from pipelines.monitor import Event
from pipelines.run import TrainRun
from pipelines.submission import submission_tags
from pipelines.warm import opened, require_day
from pipelines.worker import WorkerProgram
from recsys_mtl.config import ConfigError
from recsys_mtl.data.reader import Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.data.spec import Spec
from recsys_mtl.tracking import Run, find_unfinished, log_data
from recsys_mtl.training.planning import make_plan
from recsys_mtl.training.select import Metrics

PLAIN = {"shared", "direct"}
"""Bottom and experts that do not set a model apart."""


@dataclass(frozen=True)
class Finished:
    """What a finished run leaves."""

    run_id: str
    model: str
    version: int
    metrics: Metrics
    """Of the test split."""
    outcome: Mapping[str, Any]


def train(
    run: TrainRun,
    console: Console,
    *,
    verbose: bool = False,
    tags: Mapping[str, str] | None = None,
    watch: Callable[[Event], None] | None = None,
) -> Finished:
    """Do a run from start to registered model; ``tags`` are added to its own, ``watch`` hears of every event.

    Raises:
        ConfigError: something that the user can mend; nothing has been started.
    """
    begun = run.init_from and run.init_from.pinned(run.tracking.uri)
    run = run.model_copy(update={"run_name": run.run_name or default_name(run), "init_from": begun})
    if (finished := deliver_left_over(run, console)) is not None:
        return finished
    spec = preflight(run)
    fewest, most = run.cluster.min_workers, run.cluster.max_workers
    workers = str(most) if fewest == most else f"{fewest} to {most}"
    tags = {"data_fingerprint": spec.fingerprint, "model": model_kind(run), **submission_tags(), **(tags or {})}
    with started_or_resumed(run, tags) as (tracked, verb):
        console.print(f"run {tracked.run_id} ({run.run_name}) {verb}, starting {workers} Ray workers", highlight=False)
        log_data(tracked, described.data_set(run.data.path, spec))
        final = run_workers(run, tracked, console, verbose=verbose, watch=watch)
        line = described.headline(final.metrics, described.held_out(run))
        description = described.description(line, final.extra["card"])
        version = hand_over(run, tracked.run_id, final, description=description, tags=tags, console=console)
    report(console, final, tracked.run_id, run, version)
    return Finished(tracked.run_id, run.registry.name, version, final.metrics, final.extra)


def deliver_left_over(run: TrainRun, console: Console) -> Finished | None:
    """Deliver the run of this name, if it was trained to its end and only the server does not know yet."""
    ending = left_over(run)
    if ending is None:
        return None
    version = complete(ending, console, patience_s=run.tracking.patience_s)
    console.print(f"{delivered(ending, version)}; it was trained before", highlight=False, soft_wrap=True)
    if ending.result is None:
        return None
    final = final_event(ending.result)
    report(console, final, ending.run_id, run, version)
    return Finished(ending.run_id, run.registry.name, version, final.metrics, final.extra)


@contextmanager
def started_or_resumed(run: TrainRun, tags: Mapping[str, str]) -> Iterator[tuple[Run, Literal["begins", "goes on"]]]:
    """Open the unfinished run of this name, or else a new one, for as long as the context lasts."""
    name, tree = run.run_name or "", run.model_dump(mode="json")
    if (unfinished := find_unfinished(run.tracking, name)) is not None:
        with Run.resume(run.tracking, unfinished, params=tree) as tracked:
            if mine := submission_tags():
                tracked.set_tags(mine)
            yield tracked, "goes on"
    else:
        with Run.start(run.tracking, name, params=tree, tags=tags) as tracked:
            yield tracked, "begins"


def preflight(run: TrainRun) -> Spec:
    """Find what is wrong before anything is started; return the data set's specification.

    Raises:
        ConfigError: data, tasks or model do not fit together.
    """
    try:
        program = WorkerProgram(run, Worker(0, run.cluster.max_workers), torch.device("cpu"))
        model = run.model.build(program.spec, program.tasks, table_device=torch.device("meta"))
        device = torch.device("cuda" if run.cluster.gpus_per_worker else "cpu")
        cluster = run.cluster
        for workers in sorted({cluster.min_workers, cluster.max_workers}):
            make_plan(
                model, workers, device, run.optim.sparse, sharding=cluster.sharding, memory_gib=cluster.memory_gib
            )
        program.objective()
        run.trainer.select.check([task.name for task in program.tasks], "trainer.select")
        for split in ("valid", "test"):
            row_groups(program.data, split)  # a damaged file is to be found before the training, not after it
        if run.init_from is not None:
            with opened(run.init_from, run.tracking.uri) as start:
                start.refuse_mismatch(program.encoder, program.tasks, run.model, run.optim.sparse)
        if run.trainer.progressive:
            require_day(program.data)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    return program.spec


def report(console: Console, final: Event, run_id: str, run: TrainRun, version: int) -> None:
    """Print what a finished run has to show."""
    for table in metrics_table(final.metrics, described.held_out(run)):
        console.print(table)
    for line in final_lines(final.metrics):
        console.print(line, highlight=False)
    for line in left_out_lines(final.extra["left_out"]):
        console.print(line, highlight=False)
    for alarm in final.extra["alarms"]:
        console.print(f"expert health: {alarm}", highlight=False)
    if failed := final.extra["failed_saves"]:
        console.print(f"checkpoints that could not be written: {failed} (see the log for reasons)", highlight=False)
    if version:
        console.print(f"registered {run.registry.name} version {version} as {run.registry.alias}", highlight=False)
    console.print(f"compare runs: {run.tracking.ui}", highlight=False, soft_wrap=True)
    console.print(f"run_id={run_id}", highlight=False)


def default_name(run: TrainRun) -> str:
    """Name a run by its model and the time, short enough for MLflow's list of runs."""
    parts = [kind for kind in (run.model.bottom.kind, run.model.experts.kind) if kind not in PLAIN]
    return f"{'-'.join(parts) or 'shared-bottom'}-{datetime.now().astimezone():%y%m%d-%H%M%S}"


def model_kind(run: TrainRun) -> str:
    """Name the cell of the grid that a run trains."""
    return f"{run.model.bottom.kind}-{run.model.experts.kind}"
