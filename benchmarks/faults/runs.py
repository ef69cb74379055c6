"""Training runs as a user starts them, with or without a fault, and what MLflow knows of them afterwards."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from safetensors.torch import load_file

from benchmarks.faults.strikes import Fault
from recsys_mtl.config import ConfigError
from recsys_mtl.registry import fetch
from recsys_mtl.tracking.client import connect
from recsys_mtl.tracking.lookup import find_run
from recsys_mtl.training.loop import LOG_EVERY
from recsys_mtl.training.shelf import MARK

LOSS = "train/total/loss"
"""Reported every few steps: a step that is lost or taken twice shows."""
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Setting:
    """What all runs have in common."""

    home: Path
    sources: tuple[str, ...]
    """Their configuration."""
    seconds: float
    """After which a run counts as lost."""

    @property
    def uri(self) -> str:
        """Where they are recorded."""
        return f"sqlite:///{self.home.absolute()}/mlflow.db"

    def start(self, name: str, log: Path, extra: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Give the command."""
        checkpoints = self.home / "checkpoints" / name
        own = {"run_name": name, "tracking.uri": self.uri, "trainer.checkpoint.path": str(checkpoints), **extra}
        command = [sys.executable, "-m", "pipelines.cli", "train", *self.sources]
        command += [f"{path}={value}" for path, value in own.items()]
        with log.open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


@dataclass(frozen=True)
class Trial:
    """A run that was struck, or one that was not."""

    name: str
    struck: float
    """Seconds since 1970; 0 where nothing happened."""
    seconds: float
    """Of the whole."""


@dataclass(frozen=True)
class Found:
    """What MLflow has of a run that came to its end."""

    reports: tuple[tuple[int, float], ...]
    """Step and time, in seconds since 1970, of each report of the loss."""
    metrics: Mapping[str, float]
    """Of the test split."""
    run_id: str


def undisturbed(setting: Setting, name: str) -> Trial:
    """Train without a fault."""
    started = time.time()
    log = setting.home / f"{name}.log"
    if setting.start(name, log, {}).wait(setting.seconds) != 0:
        raise ConfigError([f"{log}: the run to compare with has failed"])
    return Trial(name, 0.0, time.time() - started)


def struck(setting: Setting, name: str, fault: Fault, chance: random.Random, whole_s: float) -> Trial:
    """Train, and let the fault happen at a random moment behind the first checkpoint, of a run of about ``whole_s``.

    A run that does not come to its end is ended after the setting's time.
    """
    log, started = setting.home / f"{name}.log", time.time()
    process = setting.start(name, log, {})
    try:
        _wait_for_checkpoint(setting.home / "checkpoints" / name, process)
        time.sleep(chance.uniform(0, whole_s / 4))
        at = time.time()
        fault.strike(psutil.Process(process.pid))
        if fault.ends:
            process.wait(setting.seconds)
            process = setting.start(name, log, fault.again)
        process.wait(setting.seconds)
    except (subprocess.TimeoutExpired, IndexError, psutil.NoSuchProcess):
        at = time.time()
    finally:
        _end(process)
    return Trial(name, at, time.time() - started)


def look(setting: Setting, trial: Trial) -> Found | None:
    """Read what a run left; None if it did not finish."""
    try:
        run_id = find_run(setting.uri, trial.name)
    except ConfigError:
        return None
    client = connect(setting.uri)
    history = sorted(client.get_metric_history(run_id, LOSS), key=lambda point: (point.step, point.timestamp))
    metrics = client.get_run(run_id).data.metrics
    test = {name: value for name, value in metrics.items() if name.startswith("test/")}
    return Found(tuple((point.step, point.timestamp / 1000) for point in history), test, run_id)


def missing_or_repeated(found: Found, steps: int) -> int:
    """Count the reports that are not there exactly once."""
    seen = [step for step, _ in found.reports]
    wanted = {*range(LOG_EVERY, steps + 1, LOG_EVERY), steps}
    return len(wanted.symmetric_difference(seen)) + len(seen) - len(set(seen))


def seconds_to_recover(found: Found, trial: Trial) -> float:
    """Return the time from a fault to the first report of a step that the run had not come to before."""
    return min((at for _, at in found.reports if at > trial.struck), default=trial.struck) - trial.struck


def weight_difference(setting: Setting, one: Found, other: Found) -> float:
    """Return the largest difference between weights of two runs' bundles."""
    places = (fetch(f"runs:/{run.run_id}/bundle", setting.uri, into=setting.home / "bundles") for run in (one, other))
    mine, theirs = (load_file(place.path / "model.safetensors") for place in places)
    return max(float((mine[name] - theirs[name]).abs().max()) for name in theirs)


def _wait_for_checkpoint(folder: Path, process: subprocess.Popen[bytes]) -> None:
    while not list(folder.glob(f"*/step-*/{MARK}")):
        if process.poll() is not None:
            raise ConfigError([f"{folder}: a run ended before its first checkpoint: it needs more steps"])
        time.sleep(POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a run, by the ids of its processes."""
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        os.kill(process.pid, 9)
        process.wait()
