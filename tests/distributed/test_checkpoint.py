"""Runs that are killed, and go on from their checkpoints: on as many workers, on more and on fewer."""

import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException

from pipelines.run import TrainRun
from pipelines.worker import RunListener, WorkerProgram
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.reader import Worker
from recsys_mtl.training.checkpoint import MARK, Checkpoints
from recsys_mtl.training.loop import Progress
from recsys_mtl.training.select import Metrics
from tests import builders
from tests.distributed.processes import run_workers

EVERY, STEPS = 4, 26  # 13 steps an epoch
KILLED_AT = 18
"""Behind a checkpoint, an evaluation and the end of an epoch."""
PLAIN: dict[str, Any] = builders.MODEL
RANDOM: dict[str, Any] = {
    "field_dropout": {"user": 0.3},
    "bottom": {"kind": "shared", "hidden": [16], "dropout": 0.2},
    "experts": {"kind": "home", "hidden": [8]},
}
"""Dropout, which differs from step to step, and running statistics."""


class Diary(RunListener):
    """A listener that writes down losses by step, and kills its own process at one step."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.losses: dict[int, float] = {}
        self.evaluations: list[int] = []

    def on_step(self, progress: Progress) -> None:
        if progress.losses:
            self.losses[progress.step] = progress.losses["total"]
        if progress.step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:  # noqa: ARG002  a listener's signature
        self.evaluations.append(step)


def make_run(data: Path, model: dict[str, Any], **trainer: Any) -> TrainRun:
    checkpoint = {"every_steps": EVERY, "keep": 2}
    tree = {
        "data": {"path": str(data)},
        "model": model,
        "trainer": {"batch_size": 64, "epochs": 2, "eval_every": 5, "checkpoint": checkpoint, **trainer},
        "optim": {"dense": {"lr": 0.01, "warmup_steps": 3}},
        "health": {"enabled": False},
    }
    return validate(TrainRun, tree)


def work(worker: Worker, run: TrainRun, folder: Path, kill_at: int | None) -> dict[str, Any]:
    diary = Diary(kill_at if worker.rank == worker.world - 1 else None)
    program = WorkerProgram(run, worker, torch.device("cpu"), checkpoint_dir=folder)
    trained = program.train(diary)
    return {
        "losses": diary.losses,
        "evaluations": diary.evaluations,
        "weights": dict(trained.weights),
        "outcome": {name: getattr(trained.outcome, name) for name in ("steps", "best_step", "best_value")},
        "test": trained.test.compute(),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "data"
    builders.prepared(path, rows=800)
    return path


def killed_and_resumed(tmp_path: Path, run: TrainRun, first: int, then: int) -> dict[str, Any]:
    folder = tmp_path / "run"
    with pytest.raises(ProcessExitedException):
        run_workers(first, tmp_path, work, run, folder, KILLED_AT)
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000012", "step-000000016"]
    resumed: dict[str, Any] = run_workers(then, tmp_path, work, run, folder, None)[0]
    assert resumed["evaluations"] == [20, 25, 26], "it went on behind step 16"
    return resumed


@pytest.mark.dist
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_ends_to_the_last_bit_as_if_it_had_not_been_killed(
    tmp_path: Path, data: Path, workers: int
) -> None:
    run = make_run(data, RANDOM)
    undisturbed = run_workers(workers, tmp_path, work, run, tmp_path / "other", None)[0]
    resumed = killed_and_resumed(tmp_path, run, workers, workers)
    assert undisturbed["losses"].keys() == {20, STEPS}
    assert resumed["losses"] == undisturbed["losses"], "those of step 20 are over steps before and after the kill"
    assert resumed["outcome"] == undisturbed["outcome"]
    for task, metrics in undisturbed["test"].items():
        assert resumed["test"][task] == pytest.approx(metrics, rel=1e-12, nan_ok=True)
    for name, weight in undisturbed["weights"].items():
        assert torch.equal(resumed["weights"][name], weight), name


@pytest.mark.dist
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_workers(tmp_path: Path, data: Path, first: int, then: int) -> None:
    run = make_run(data, PLAIN)
    undisturbed = run_workers(1, tmp_path, work, run, tmp_path / "other", None)[0]
    resumed = killed_and_resumed(tmp_path, run, first, then)
    assert resumed["losses"] == pytest.approx(undisturbed["losses"], rel=1e-5)
    assert resumed["outcome"] == pytest.approx(undisturbed["outcome"], rel=1e-4)
    for name, weight in undisturbed["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], weight, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.dist
def test_a_finished_run_that_is_called_again_only_evaluates(tmp_path: Path, data: Path) -> None:
    run = make_run(data, PLAIN, epochs=1, checkpoint={"every_steps": 13})
    once = run_workers(1, tmp_path, work, run, tmp_path / "run", None)[0]
    again = run_workers(1, tmp_path, work, run, tmp_path / "run", None)[0]
    assert again["evaluations"] == []
    assert all(torch.equal(again["weights"][name], weight) for name, weight in once["weights"].items())
    assert again["outcome"] == once["outcome"]


def tensors(seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {"model": {"weight": torch.randn(3)}, "dense": {"step": torch.tensor(float(seed))}}


def test_tensors_and_progress_come_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run", keep=2, settings={"seed": 1})
    assert checkpoints.latest() is None
    assert checkpoints.save(7, tensors(7), {"note": [1.5, None]})
    saved = checkpoints.latest()
    assert saved is not None
    assert (saved.step, saved.progress) == (7, {"note": [1.5, None]})
    found = tensors()
    checkpoints.load(saved, found)
    assert torch.equal(found["model"]["weight"], tensors(7)["model"]["weight"])
    assert found["dense"]["step"] == 7


def test_the_newest_are_kept_and_what_is_not_complete_does_not_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2, settings={})
    for step in (5, 10, 100, 1000):
        checkpoints.save(step, tensors(step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000100", "step-000001000"]
    (tmp_path / "step-000001000" / MARK).unlink()  # as a run leaves it that is stopped while it writes
    saved = checkpoints.latest()
    assert saved is not None
    assert saved.step == 100
    assert checkpoints.save(1000, tensors(), {}), "over what was left there"


def test_a_run_with_other_settings_is_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path, keep=1, settings={"seed": 1, "optim": {"dense": {"lr": 0.1}}}).save(3, tensors(), {})
    other = Checkpoints(tmp_path, keep=1, settings={"seed": 1, "optim": {"dense": {"lr": 0.2}}})
    with pytest.raises(ConfigError) as caught:
        other.latest()
    assert caught.value.problems == ("optim.dense.lr: was 0.1 when the run began, is 0.2 now; use another run_name",)


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, settings={})
    checkpoints.save(3, tensors(), {})
    saved = checkpoints.latest()
    assert saved is not None
    with pytest.raises(ConfigError, match="step-000000003: "):
        checkpoints.load(saved, {"model": {"weight": torch.zeros(4)}})
    with pytest.raises(ConfigError, match="step-000000003: "):
        checkpoints.load(saved, {"model": {"another": torch.zeros(3)}})
    for file in saved.directory.glob("*.distcp"):
        file.write_bytes(b"")
    with pytest.raises(ConfigError, match="step-000000003: "):
        checkpoints.load(saved, tensors())


def test_training_goes_on_if_a_checkpoint_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(tmp_path / "run", keep=1, settings={})
    assert checkpoints.save(1, tensors(1), {})
    (tmp_path / "run" / "step-000000002").write_text("in the way", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert not checkpoints.save(2, tensors(2), {})
    assert "checkpoint of step 2 could not be written" in caplog.text
    saved = checkpoints.latest()
    assert saved is not None
    assert saved.step == 1, "the one before stays"
