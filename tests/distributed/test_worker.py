"""A run's worker program under plain processes: no Ray, the same numbers for any number of workers."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from pipelines.bundling import make_bundle
from pipelines.run import TrainRun
from pipelines.worker import RunListener, Trained, WorkerProgram
from recsys_mtl.bundle import Bundle
from recsys_mtl.config import validate
from recsys_mtl.data.reader import Worker
from recsys_mtl.health import Health
from recsys_mtl.health.report import expert_rows, reader_rows
from recsys_mtl.training import loop, sharding
from recsys_mtl.training.progress import Progress
from recsys_mtl.training.select import Metrics
from serving.golden import verify
from serving.scorer import Scorer
from tests import builders
from tests.distributed.processes import run_workers

pytestmark = pytest.mark.dist


class Notes(RunListener):
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.steps: list[int] = []
        self.best: list[bool] = []
        self.health: dict[tuple[str, int], Health] = {}

    def on_step(self, progress: Progress) -> None:
        self.steps.append(progress.step)
        self.losses += [progress.losses["total"]] if progress.losses else []

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:
        assert set(metrics) == set(builders.TASKS)
        assert step == self.steps[-1]
        self.best.append(best)

    def on_health(self, split: str, step: int, health: Health) -> None:
        self.health[split, step] = health


def make_run(data: Path, *, optim: dict[str, Any] | None = None, **trainer: Any) -> TrainRun:
    tree = {
        "data": {"path": str(data)},
        "model": builders.MODEL,
        "trainer": {"batch_size": 64, "eval_batch_size": 50, "epochs": 3, **trainer},
        "optim": optim or {"dense": {"lr": 0.01, "warmup_steps": 3}},
        "run_name": "test",
    }
    return validate(TrainRun, tree)


def work(worker: Worker, run: TrainRun, directory: Path) -> dict[str, Any]:
    notes = Notes()
    trained = WorkerProgram(run, worker, torch.device("cpu")).train(notes)
    if worker.rank == 0:
        make_bundle(run, trained, directory / "bundle", run_id="none")
    return {"notes": notes, **shown(trained)}


def shown(trained: Trained) -> dict[str, Any]:
    outcome = trained.outcome
    return {
        "test": trained.test.compute(),
        "weights": dict(trained.weights),
        "best_step": outcome.best_step,
        "steps": outcome.steps,
        "stopped_early": outcome.stopped_early,
    }


def do(tmp_path: Path, world: int, name: str, **trainer: Any) -> dict[str, Any]:
    data = tmp_path / "data"
    if not data.exists():
        builders.prepared(data, rows=800)
    directory = tmp_path / name
    directory.mkdir()
    first, *others = run_workers(world, directory, work, make_run(data, **trainer), directory)
    for other in others:
        assert same(first["test"], other["test"])
        assert str(first["notes"].health) == str(other["notes"].health)  # as text, NaN is NaN
    return first  # type: ignore[no-any-return]


def same(one: Metrics, other: Metrics, rel: float = 1e-9, *, least: float = 1e-12) -> bool:
    approximately = {task: pytest.approx(values, rel=rel, abs=least, nan_ok=True) for task, values in one.items()}
    return all(other[task] == values for task, values in approximately.items())


def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    one, two = do(tmp_path, 1, "one"), do(tmp_path, 2, "two")
    assert one["notes"].losses == pytest.approx(two["notes"].losses, rel=1e-4)
    # The bound of an AUC's error counts pairs of scores in one bin: one pair more or less is no rounding of its own.
    assert same(one["test"], two["test"], rel=2e-3, least=1e-4)
    assert one["steps"] == two["steps"] == 39
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-2, atol=1e-4, msg=name)
    assert_same_health(one["notes"].health, two["notes"].health)


def assert_same_health(one: dict[tuple[str, int], Health], two: dict[tuple[str, int], Health]) -> None:
    assert [split for split, _ in one] == ["valid"] * 3 + ["test"]
    assert one.keys() == two.keys()
    for key, health in one.items():
        assert [layer.name for layer in health.layers] == ["ranker.experts.levels.0", "ranker.experts.levels.1"]
        rows_of_800 = {"valid": 200, "test": 800}  # every fourth row, and all
        assert health.gradients.rows == two[key].gradients.rows == rows_of_800[key[0]]
        for rows in (expert_rows, reader_rows):
            for mine, theirs in zip(rows(health), rows(two[key]), strict=True):
                assert mine.keys() == theirs.keys()
                for name, value in mine.items():
                    if isinstance(value, float):
                        assert theirs[name] == pytest.approx(value, rel=2e-2, abs=2e-3, nan_ok=True), name
                    elif name != "heaviest_reader":  # a hair may decide who that is
                        assert theirs[name] == value
        for pair, cosine in health.gradients.pairs.items():
            assert two[key].gradients.pairs[pair] == pytest.approx(cosine, abs=2e-2)


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    first, again = do(tmp_path, 2, "first", epochs=1), do(tmp_path, 2, "again", epochs=1)
    assert first["notes"].losses == again["notes"].losses
    assert first["weights"].keys() == again["weights"].keys()
    assert all(torch.equal(first["weights"][name], again["weights"][name]) for name in first["weights"])


def test_a_run_in_bfloat16_learns_almost_the_same_and_is_served_in_float32(tmp_path: Path) -> None:
    exact, low = do(tmp_path, 2, "exact", epochs=1), do(tmp_path, 2, "low", epochs=1, precision="bfloat16")
    assert low["notes"].losses != exact["notes"].losses
    assert low["notes"].losses == pytest.approx(exact["notes"].losses, rel=0.02)
    assert {weight.dtype for weight in low["weights"].values()} == {
        weight.dtype for weight in exact["weights"].values()
    }
    assert verify(Scorer(Bundle.load(tmp_path / "low" / "bundle"))) > 0


def test_the_bundle_holds_the_best_weights_and_scores_as_evaluated(tmp_path: Path) -> None:
    result = do(tmp_path, 2, "run", eval_every=5, select={"metric": "logloss", "mode": "min", "tasks": ["click"]})
    bundle = Bundle.load(tmp_path / "run" / "bundle")
    weights = bundle.model.state_dict()
    assert all(torch.equal(weights[name], result["weights"][name]) for name in weights)
    assert sum(result["notes"].best) >= 2
    assert result["best_step"] == [s for s in range(1, 40) if s % 5 == 0 or s == 39][last_true(result["notes"].best)]
    assert verify(Scorer(bundle)) > 0


def count_copies(worker: Worker, runs: list[TrainRun]) -> list[int]:
    """How often each run copies its weights."""
    counts = []
    for run in runs:
        with mock.patch.object(loop, "snapshot", wraps=sharding.snapshot) as snapshot:
            WorkerProgram(run, worker, torch.device("cpu")).train(Notes())
        counts.append(snapshot.call_count)
    return counts


def test_weights_that_no_step_will_change_are_not_copied(tmp_path: Path) -> None:
    builders.prepared(tmp_path / "data", rows=200)
    first_is_best = {"metric": "click/rows"}  # which never changes
    runs = [make_run(tmp_path / "data", epochs=epochs, select=first_is_best) for epochs in (1, 3)]
    assert run_workers(1, tmp_path, count_copies, runs)[0] == [0, 1]


def test_a_run_stops_when_the_metric_no_longer_improves(tmp_path: Path) -> None:
    # the count of known rows never changes, so that every evaluation after the first fails to improve it
    result = do(tmp_path, 1, "run", epochs=50, eval_every=2, select={"metric": "click/rows", "patience": 2})
    assert result["stopped_early"]
    assert (result["steps"], result["best_step"]) == (8, 2)


def test_a_loss_that_is_no_number_ends_the_run_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(
        ProcessRaisedException, match=r"step \d+ \(batch \d+ of epoch 1\): the loss of .* is not a finite"
    ):
        do(tmp_path, 2, "run", optim={"dense": {"lr": 1e30, "clip_norm": None, "warmup_steps": 0}})


def last_true(flags: list[bool]) -> int:
    return max(i for i, flag in enumerate(flags) if flag)
