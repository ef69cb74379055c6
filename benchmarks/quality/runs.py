"""One training run through the command line, as a user would start it; its result as a file."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.flops import size_of
from benchmarks.quality.plan import Data, Job
from benchmarks.results import Result, Store, slug
from recsys_mtl.registry import fetch
from recsys_mtl.tracking.client import connect
from recsys_mtl.tracking.ownership import stop_signals_raise
from recsys_mtl.tracking.provenance import git_commit

SECONDS_TO_STOP = 60.0
"""What a run that is stopped gets to end its workers and its record."""
HEALTH = "health"
"""Metrics of the experts are called ``health/...``; a tag of this name sums them up."""


class RunFailedError(Exception):
    """A run that left no result; the message says where its output is."""


@dataclass(frozen=True)
class Runner:
    """Trains what has no result yet."""

    out: Path
    data: Data
    workers: int
    report: Callable[[str], None]
    train: Callable[["Runner", Job], Result]
    """`train_by_command`, but in tests."""

    @property
    def store(self) -> Store:
        """Where results are kept."""
        return Store(self.out / "runs")

    @property
    def tracking_uri(self) -> str:
        """Where the runs are recorded."""
        return f"sqlite:///{self.out.absolute()}/mlflow.db"

    def find(self, job: Job) -> Result | None:
        """Return the result of a run that has finished before."""
        return self.store.find(job.name, job.settings)

    def run(self, job: Job) -> Result | None:
        """Return a run's result, training it if need be; None if it fails, which ends no benchmark."""
        if (found := self.find(job)) is not None:
            self.report(f"{job.name}: done before")
            return found
        self.report(f"{job.name}: training")
        try:
            return self.store.save(job.name, job.settings, self.train(self, job))
        except RunFailedError as error:
            self.report(f"{job.name}: FAILED, {error}")
            return None


def train_by_command(runner: Runner, job: Job) -> Result:
    """Train with ``recsys-mtl train`` in a process of its own and gather what the run has left.

    Raises:
        RunFailedError: the command did not succeed.
    """
    log = runner.out / "logs" / f"{slug(job.name)}.log"
    command = [sys.executable, "-m", "pipelines.cli", "train", *job.sources]
    command += [f"cluster.workers={runner.workers}", f"run_name={job.name}", f"tracking.uri={runner.tracking_uri}"]
    command += ["tracking.experiment=quality", f"registry.name=quality-{slug(job.variant.name)}"]
    started = time.perf_counter()
    output = run_command(command, log)
    seconds = time.perf_counter() - started
    found = re.search(r"^run_id=(\w+)$", output, re.MULTILINE)
    if found is None:
        raise RunFailedError(f"see {log}")
    commit = git_commit(Path(__file__).parent)
    origin = {"run_id": found[1], "commit": commit, "workers": runner.workers, "command_s": seconds}
    return (
        describe(job) | origin | recorded(found[1], runner, job) | {"size": asdict(size_of(job.run, runner.data.spec))}
    )


def describe(job: Job) -> Result:
    """Say what was run."""
    return {
        "model": job.variant.model,
        "task": job.variant.task,
        "seed": job.seed,
        "rate": job.rate,
        "sources": list(job.sources),
        "settings": job.settings,
    }


def run_command(command: list[str], log: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its output; if this process is stopped, the command is stopped too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "COLUMNS": "160", **(variables or {})}
    with log.open("w", encoding="utf-8") as file, stop_signals_raise():
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            process.wait()
        except BaseException:
            stop(process)
            raise
    return log.read_text(encoding="utf-8")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a command that was started in a session of its own."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def recorded(run_id: str, runner: Runner, job: Job) -> dict[str, Any]:
    """Read what a run has recorded: metrics of both splits from its bundle, speed and expert health from MLflow."""
    with tempfile.TemporaryDirectory() as directory:
        bundle = fetch(f"runs:/{run_id}/bundle", runner.tracking_uri, into=Path(directory)).path
        metrics = json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))
    client = connect(runner.tracking_uri)
    record = client.get_run(run_id).data
    steps = max(point.step for point in client.get_metric_history(run_id, "train/rows_per_s"))
    return {
        "metrics": metrics,
        "judged": job.run.trainer.select.value(metrics["valid"]),
        **speed(record.metrics, steps, job, runner.data),
        "health": {name: value for name, value in record.metrics.items() if name.startswith(f"{HEALTH}/")},
        "state": record.tags.get(HEALTH),
    }


def speed(metrics: Mapping[str, float], steps: int, job: Job, data: Data) -> dict[str, float]:
    """Return rows per second of training, and seconds of training without start, evaluation and bundle."""
    rows_per_s = metrics["train/rows_per_s"]
    rows = int(data.stats["splits"]["train"]["rows"])
    steps_per_epoch = -(-rows // job.run.trainer.batch_size)
    return {"rows_per_s": rows_per_s, "seconds": steps / steps_per_epoch * rows / rows_per_s}
