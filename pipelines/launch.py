"""Workers of a run on Ray: started, watched to their end, and what is kept if that is a bad one."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from rich.console import Console

from pipelines.allocator import allocator
from pipelines.cluster import cluster
from pipelines.display import TrainingDisplay
from pipelines.monitor import Event, Monitor
from pipelines.patience import Patience, patience, reason
from pipelines.ray_worker import ray_worker
from pipelines.resources import require_room, scaling
from pipelines.run import TrainRun
from recsys_mtl.config import ConfigError
from recsys_mtl.storage import absolute
from recsys_mtl.tracking import MetricLog, Run, may_pass, patiently

ERROR_FILE = "error.txt"
"""Where a failed run keeps the traceback, among its files."""


class RunFailedError(Exception):
    """A run that did not get to its end, for a reason that is not the user's."""


def run_workers(
    run: TrainRun, tracked: Run, console: Console, *, verbose: bool, watch: Callable[[Event], None] | None = None
) -> Event:
    """Run the workers to their end, showing what they do; return their final report.

    Raises:
        ConfigError: a worker found something that the user can mend, such as a damaged file.
        RunFailedError: anything else; the run keeps the traceback.
    """
    with cluster(run.cluster, verbose=verbose), TrainingDisplay(console) as display:
        require_room(run.cluster, lambda text: display.show(Event("stage", text=text)))
        monitor = Monitor(display.show if watch is None else both(display.show, watch))
        try:
            with monitor:
                launch(run, tracked.run_id, monitor.box, verbose=verbose)
        except TrainingFailedError as error:
            keep_error(tracked, str(error))
            if monitor.problems:
                raise ConfigError(monitor.problems) from None
            if isinstance(cause := getattr(error, "controller_failure", None), ConfigError):
                raise cause from None
            why = reason(error, run.cluster)
            raise RunFailedError(f"run {tracked.run_id}: {why} (traceback: {ERROR_FILE} among its files)") from None
    if monitor.problems:
        raise ConfigError(monitor.problems)
    if monitor.final is None:
        raise RunFailedError(f"run {tracked.run_id}: the workers ended without a final report")
    return monitor.final


def both(first: Callable[[Event], None], second: Callable[[Event], None]) -> Callable[[Event], None]:
    """Tell two of an event."""

    def tell(event: Event) -> None:
        first(event)
        second(event)

    return tell


def keep_error(tracked: Run, text: str) -> None:
    """Put a traceback, and what workers had not sent, among the run's files; wait for the server, but once.

    A store that does not take them must not hide what ended the run.
    """
    log = MetricLog(tracked.config, tracked.run_id)
    log.keep_text(ERROR_FILE, text)
    try:
        patiently(log.deliver, seconds=tracked.patience_s, say=log.say)
    except Exception as error:
        log.say(f"{ERROR_FILE} could not be kept: {error}")
        if may_pass(error):
            tracked.patience_s = 0.0


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
        scaling_config=scaling(config),
        torch_config=TorchConfig(backend=config.backend, timeout_s=config.collective_timeout_s),
        run_config=RunConfig(  # type: ignore[call-arg]  # its types are those of Ray Train's first version
            name=run_id,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=failures),
            callbacks=[Patience(config)],  # type: ignore[list-item]  # Ray takes its internal ones, too
            worker_runtime_env={"env_vars": allocator()},
        ),
    )
    try:
        with patience(config):
            trainer.fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def for_workers(run: TrainRun) -> TrainRun:
    """Make paths absolute: workers have working directories of their own."""
    data = run.data.model_copy(update={"path": absolute(run.data.path)})
    checkpoint = run.trainer.checkpoint
    checkpoint = checkpoint.model_copy(update={"path": absolute(checkpoint.path)})
    trainer = run.trainer.model_copy(update={"checkpoint": checkpoint})
    return run.model_copy(update={"tracking": run.tracking.absolute, "data": data, "trainer": trainer})
