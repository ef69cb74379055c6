"""Runs that cannot save for a while: they go on and end as they would have; their last checkpoint stays usable."""

import resource
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from pipelines.run import TrainRun
from pipelines.worker import WorkerProgram
from recsys_mtl.data.reader import Worker
from recsys_mtl.storage import locate
from recsys_mtl.training.progress import Progress
from recsys_mtl.training.shelf import MARK
from tests import builders
from tests.distributed.processes import TIMEOUT, run_workers
from tests.distributed.test_checkpoint import PLAIN, STEPS, Diary, make_run
from tests.s3 import object_store

pytestmark = pytest.mark.dist

SMALL = 4096
"""Bytes that a file may have on the full disk; a worker's part of a checkpoint has more."""


class Cramped(Diary):
    """Finds the disk full from a step on."""

    def __init__(self, from_step: int) -> None:
        super().__init__(None)
        self.from_step = from_step

    def on_step(self, progress: Progress) -> None:
        super().on_step(progress)
        if progress.step == self.from_step:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, hard))


class Waiting(Diary):
    """Waits before a step until its store has failed."""

    def __init__(self, at_step: int, signals: Path) -> None:
        super().__init__(None)
        self.at_step, self.signals = at_step, signals

    def on_step(self, progress: Progress) -> None:
        super().on_step(progress)
        if progress.step == self.at_step:
            (self.signals / "reached").touch()
            wait_for(self.signals / "failed")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def work(worker: Worker, run: TrainRun, place: str, diary: Diary) -> dict[str, Any]:
    """Train, with a diary for the last worker, and return what can be compared."""
    mine = diary if worker.rank == worker.world - 1 else Diary(None)
    trained = WorkerProgram(run, worker, torch.device("cpu"), checkpoint_dir=locate(place)).train(mine)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    failed = trained.outcome.failed_saves
    return {"steps": mine.steps, "losses": mine.losses, "weights": dict(trained.weights), "failed": failed}


def assert_same_end(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["losses"][STEPS] == other["losses"][STEPS]
    assert all(torch.equal(one["weights"][name], weight) for name, weight in other["weights"].items())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "data"
    builders.prepared(path, rows=800)
    return path


@pytest.mark.slow
def test_a_full_disk_of_one_worker_costs_checkpoints_and_nothing_else(tmp_path: Path, data: Path) -> None:
    run, folder = make_run(data, PLAIN), tmp_path / "run"
    cramped, other = run_workers(2, tmp_path, work, run, str(folder), Cramped(from_step=6))
    assert cramped["steps"] == list(range(1, STEPS + 1))
    assert cramped["failed"] == other["failed"] == 5, "8, 12, 16, 20 and 24"
    assert [path.name for path in folder.iterdir()] == ["step-000000004"], "the one before, and nothing half"
    resumed = run_workers(2, tmp_path, work, run, str(folder), Diary(None))[0]
    assert resumed["steps"] == list(range(5, STEPS + 1))
    assert_same_end(resumed, cramped)


@pytest.mark.faults
def test_a_store_that_fails_during_a_run_costs_a_checkpoint_and_nothing_else(tmp_path: Path, data: Path) -> None:
    run = make_run(data, PLAIN, checkpoint={"every_steps": 10})
    with object_store() as store:
        place = f"{store.address}/run"

        def fail() -> None:
            wait_for(tmp_path / "reached")
            while f"run/step-000000010/{MARK}" not in store.names():
                time.sleep(0.02)
            store.busy_for(sys.maxsize)
            (tmp_path / "failed").touch()

        thread = Thread(target=fail)
        thread.start()
        failing, other = run_workers(2, tmp_path, work, run, place, Waiting(15, tmp_path))
        thread.join()
        assert failing["failed"] == other["failed"] == 1, "that of step 20"
        store.busy_for(0)
        resumed = run_workers(2, tmp_path, work, run, place, Diary(None))[0]
    assert resumed["steps"] == list(range(11, STEPS + 1))
    assert_same_end(resumed, failing)
