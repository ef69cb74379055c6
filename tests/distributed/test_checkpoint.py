"""Runs that are killed, and go on from their checkpoints: on as many workers, on more and on fewer."""

import json
import os
import random
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException

from pipelines.run import TrainRun
from pipelines.worker import RunListener, WorkerProgram
from recsys_mtl.config import validate
from recsys_mtl.data.reader import Worker
from recsys_mtl.storage import locate
from recsys_mtl.training.progress import Progress
from recsys_mtl.training.select import Metrics
from recsys_mtl.training.shelf import MARK
from tests import builders
from tests.distributed.processes import run_workers

EVERY, STEPS = 4, 26  # 13 steps an epoch
EVALUATIONS = [5, 10, 15, 20, 25, 26]
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
        self.steps: list[int] = []
        self.losses: dict[int, float] = {}
        self.evaluations: list[int] = []

    def on_step(self, progress: Progress) -> None:
        self.steps.append(progress.step)
        if progress.losses:
            self.losses[progress.step] = progress.losses["total"]
        if progress.step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:  # noqa: ARG002  a listener's signature
        self.evaluations.append(step)


def make_run(data: Path, model: dict[str, Any], *, asynchronous: bool = True, **trainer: Any) -> TrainRun:
    checkpoint = {"every_steps": EVERY, "keep": 2, "asynchronous": asynchronous}
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
    program = WorkerProgram(run, worker, torch.device("cpu"), checkpoint_dir=locate(folder))
    trained = program.train(diary)
    return {
        "steps": diary.steps,
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


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """What a run with so many workers comes to if nothing happens to it."""

    @cache
    def run(workers: int) -> dict[str, Any]:
        home = tmp_path_factory.mktemp("undisturbed")
        result: dict[str, Any] = run_workers(workers, home, work, make_run(data, RANDOM), home / "run", None)[0]
        assert result["losses"].keys() == {20, STEPS}
        return result

    return run


def killed_and_resumed(tmp_path: Path, run: TrainRun, first: int, then: int, *, at: int = KILLED_AT) -> dict[str, Any]:
    """Kill one of ``first`` workers in a step, and let ``then`` workers go on."""
    folder = tmp_path / "run"
    with pytest.raises(ProcessExitedException):
        run_workers(first, tmp_path, work, run, folder, at)
    complete = [int(mark.parent.name.removeprefix("step-")) for mark in folder.glob(f"*/{MARK}")]
    newest = (at - 1) // EVERY * EVERY
    assert max(complete, default=0) in {newest, newest - EVERY}, "what was being written then may be lost"
    resumed: dict[str, Any] = run_workers(then, tmp_path, work, run, folder, None)[0]
    assert resumed["steps"] == list(range(max(complete, default=0) + 1, STEPS + 1)), "it went on behind the newest"
    assert resumed["evaluations"] == [step for step in EVALUATIONS if step >= resumed["steps"][0]]
    left = {path.name: (path / MARK).exists() for path in folder.iterdir()}
    assert left == {"step-000000020": True, "step-000000024": True}, "nothing half is left"
    return resumed


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """To the last bit, but for sums over users whose order is not fixed.

    Losses of a report are over steps before and after a kill between two of them.
    """
    assert one["losses"] == {step: loss for step, loss in other["losses"].items() if step >= one["steps"][0]}
    assert one["outcome"] == other["outcome"]
    for task, metrics in other["test"].items():
        assert one["test"][task] == pytest.approx(metrics, rel=1e-12, nan_ok=True)
    for name, weight in other["weights"].items():
        assert torch.equal(one["weights"][name], weight), name


@pytest.mark.dist
@pytest.mark.parametrize(("workers", "asynchronous", "seed"), [(1, True, 7), (2, True, 5), (2, True, 6), (2, False, 8)])
def test_a_run_that_is_killed_in_any_step_ends_to_the_last_bit_as_if_it_had_not_been_killed(
    tmp_path: Path,
    data: Path,
    undisturbed: Callable[[int], dict[str, Any]],
    workers: int,
    asynchronous: bool,
    seed: int,
) -> None:
    at = random.Random(seed).randint(1, STEPS)
    print(f"killed in step {at}")  # noqa: T201  pytest shows it where the test fails
    resumed = killed_and_resumed(tmp_path, make_run(data, RANDOM, asynchronous=asynchronous), workers, workers, at=at)
    assert_same(resumed, undisturbed(workers))


@pytest.mark.dist
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_workers(tmp_path: Path, data: Path, first: int, then: int) -> None:
    run = make_run(data, PLAIN)
    undisturbed = run_workers(1, tmp_path, work, run, tmp_path / "other", None)[0]
    resumed = killed_and_resumed(tmp_path, run, first, then)
    assert resumed["losses"].keys() == {20, STEPS}
    assert resumed["losses"] == pytest.approx(undisturbed["losses"], rel=1e-5)
    assert resumed["outcome"] == pytest.approx(undisturbed["outcome"], rel=1e-4)
    for name, weight in undisturbed["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], weight, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.dist
def test_a_finished_run_keeps_its_best_and_only_evaluates_if_it_is_called_again(tmp_path: Path, data: Path) -> None:
    checkpoint = {"every_steps": 13, "keep": 1, "keep_best": 1}
    select = {"metric": "click/rows"}  # the same at each evaluation, so that the first is the best
    run, folder = make_run(data, PLAIN, epochs=1, checkpoint=checkpoint, select=select), tmp_path / "run"
    once = run_workers(1, tmp_path, work, run, folder, None)[0]
    records = [json.loads(mark.read_text()) for mark in sorted(folder.glob(f"*/{MARK}"))]
    assert [record["step"] for record in records] == [5, 13], "the best, which no step of the plan saved, and the last"
    assert once["outcome"]["best_step"] == 5
    assert records[0]["value"] == once["outcome"]["best_value"]
    again = run_workers(1, tmp_path, work, run, folder, None)[0]
    assert again["evaluations"] == []
    assert all(torch.equal(again["weights"][name], weight) for name, weight in once["weights"].items())
    assert again["outcome"] == once["outcome"]
