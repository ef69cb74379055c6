"""Real faults of a real Ray run: a worker is killed, the driver is killed; the run ends where it would have without."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rich.console import Console

from pipelines.run import TrainRun
from pipelines.train import train
from pipelines.worker import WorkerProgram
from recsys_mtl.config import validate
from recsys_mtl.data.reader import Worker
from recsys_mtl.tracking.client import connect
from recsys_mtl.training.shelf import MARK
from tests import builders
from tests.distributed.processes import run_workers
from tests.distributed.test_checkpoint import Diary
from tests.pipelines.remains import nothing_left

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS = 400
SETTINGS = ["trainer.batch_size=32", f"trainer.steps={STEPS}", "trainer.epochs=99", "trainer.eval_every=100"]
SETTINGS += ["trainer.checkpoint.every_steps=20", "model.field_dropout={user: 0.2}", "model.experts.kind=home"]


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "data"
    builders.prepared(path)
    return path


def tree(data: Path, home: Path) -> dict[str, Any]:
    return {
        "data": {"path": str(data)},
        "model": {"field_dropout": {"user": 0.2}, "experts": {"kind": "home"}},
        "trainer": {
            "batch_size": 32, "steps": STEPS, "epochs": 99, "eval_every": 100,
            "checkpoint": {"every_steps": 20, "path": str(home / "checkpoints")},
        },
        "tracking": {"uri": f"sqlite:///{home}/mlflow.db"},
        "registry": {"name": "faults"},
        "run_name": "unlucky",
    }  # fmt: skip


def alone(worker: Worker, run: TrainRun) -> dict[str, Any]:
    """The same run under plain processes, to which nothing happens."""
    return WorkerProgram(run, worker, torch.device("cpu")).train(Diary(None)).test.compute()


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("undisturbed")
    found: dict[str, Any] = run_workers(2, home, alone, validate(TrainRun, tree(data, home)))[0]
    return found


def first_checkpoint(home: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not list(home.glob(f"checkpoints/*/step-*/{MARK}")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.02)


def training_processes() -> list[psutil.Process]:
    """Ray's workers that train, among this process's descendants."""

    def name(process: psutil.Process) -> str:
        try:
            return " ".join(process.cmdline())
        except psutil.Error:
            return ""

    return [child for child in psutil.Process().children(recursive=True) if "RayTrainWorker" in name(child)]


def assert_whole(home: Path, undisturbed: dict[str, Any]) -> None:
    """One finished run with every report once, and the metrics of a run without a fault."""
    client = connect(f"sqlite:///{home}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/total/loss")]
    assert steps == list(range(20, STEPS + 1, 20))
    assert [p.step for p in client.get_metric_history(run.info.run_id, "valid/click/auc")] == [100, 200, 300, STEPS]
    for task, metrics in undisturbed.items():
        for name, value in metrics.items():
            assert run.data.metrics.get(f"test/{task}/{name}", float("nan")) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGSTOP, id="hanging", marks=pytest.mark.faults),  # two minutes, most of them waiting
    ],
)
def test_a_run_survives_the_loss_of_a_worker(
    tmp_path: Path, data: Path, undisturbed: dict[str, Any], fault: signal.Signals
) -> None:
    victims: list[int] = []

    def strike() -> None:
        first_checkpoint(tmp_path)
        victim = training_processes()[0]
        victims.append(victim.pid)
        os.kill(victim.pid, fault)

    thread = threading.Thread(target=strike)
    thread.start()
    patience = {"cluster": {"collective_timeout_s": 20}}
    finished = train(validate(TrainRun, tree(data, tmp_path) | patience), Console(file=io.StringIO(), width=200))
    thread.join()
    assert victims
    assert not psutil.pid_exists(victims[0])
    assert finished.outcome["steps"] == STEPS
    assert_whole(tmp_path, undisturbed)


def test_the_same_command_goes_on_after_the_driver_was_killed(
    tmp_path: Path, data: Path, undisturbed: dict[str, Any]
) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "train", f"data.path={data}", *SETTINGS, "registry.name=faults"]
    command += [f"trainer.checkpoint.path={tmp_path}/checkpoints", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    command += ["run_name=unlucky"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        first_checkpoint(tmp_path)
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert "(unlucky) goes on, starting 2 Ray workers" in again.stdout
    assert_whole(tmp_path, undisturbed)
    _, alive = psutil.wait_procs(children, timeout=120)  # Ray's agents take a while
    assert alive == [], "Ray's processes end with their driver"
