"""Whole runs of ``recsys-mtl train`` on Ray, as a user starts them."""

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.quality.runs import RunFailedError, run_command
from benchmarks.training.exchange import Job
from benchmarks.training.session import run_of
from recsys_mtl.tracking.client import connect

RATE = "train/rows_per_s"


def train(job: Job, out: Path, log: Path) -> dict[str, Any]:
    """Train with so many workers and threads; return the rate over the steps, and the time of all that is around them.

    Raises:
        RunFailedError: the command did not succeed.
    """
    with tempfile.TemporaryDirectory(dir=out) as directory:
        database, config = Path(directory) / "mlflow.db", Path(directory) / "run.yaml"
        shutil.copy(empty_store(out), database)
        config.write_text(yaml.safe_dump(run_of(job).model_dump(mode="json", exclude_none=True)), encoding="utf-8")
        command = [sys.executable, "-m", "pipelines.cli", "train", str(config), f"tracking.uri=sqlite:///{database}"]
        command += [f"cluster.workers={job['workers']}", f"cluster.cpus_per_worker={job['threads']}"]
        command += [f"trainer.steps={job['steps']}"] if "steps" in job else []
        begun, started = time.time(), time.perf_counter()
        output = run_command(command, log)
        seconds = time.perf_counter() - started
        if (found := re.search(r"^run_id=(\w+)$", output, re.MULTILINE)) is None:
            raise RunFailedError(f"see {log}")
        return recorded(found[1], f"sqlite:///{database}", begun) | {"command_s": seconds}


def empty_store(out: Path) -> Path:
    """Return an MLflow database without runs: making one takes seconds, once in the life of a project."""
    path = out / "empty.db"
    if not path.exists():
        connect(f"sqlite:///{path.absolute()}", create=True).search_experiments()
    return path


def recorded(run_id: str, uri: str, begun: float) -> dict[str, Any]:
    """Read rates and times of a run that started at ``begun``."""
    client = connect(uri)
    run, points = client.get_run(run_id), client.get_metric_history(run_id, RATE)
    points.sort(key=lambda point: point.step)
    first, last = points[0], points[-1]
    step_rows = int(run.data.params["trainer.batch_size"])
    trained_s = step_rows * last.step / last.value
    return {
        "rates": [rate_between([(point.step, point.value) for point in (first, last)], step_rows)],
        "waited": run.data.metrics["train/waiting"],
        "begins_s": run.info.start_time / 1e3 - begun,
        "first_batch_s": first.timestamp / 1e3 - begun - step_rows * first.step / first.value,
        "trained_s": trained_s,
    }


def rate_between(reports: list[tuple[int, float]], step_rows: int) -> dict[str, Any]:
    """Return the rate between two reports of step and rows per second since the start; of the last alone if it is one.

    The first steps, in which everything is slower, are left out that way, as they are for peers.
    """
    (first, rate), (last, last_rate) = reports
    rows, seconds = step_rows * last, step_rows * last / last_rate
    if first < last:
        rows, seconds = rows - step_rows * first, seconds - step_rows * first / rate
    return {"batch_size": step_rows, "steps": rows // step_rows, "seconds": seconds, "rows_per_s": rows / seconds}
