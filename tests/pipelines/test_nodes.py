"""Nodes that come and go under a real run: two of them on this machine, one killed for real."""

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from rich.console import Console

from pipelines.resources import alive
from pipelines.run import TrainRun
from pipelines.train import train
from pipelines.worker import WorkerProgram
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.reader import Worker
from recsys_mtl.tracking.client import connect
from recsys_mtl.training.shelf import MARK
from tests import builders
from tests.distributed.processes import run_workers
from tests.distributed.test_checkpoint import Diary
from tests.pipelines.ray_head import token

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_S = 300


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nodes") / "data"
    builders.prepared(path)
    return path


@contextmanager
def one_node() -> Iterator[Cluster]:
    """A cluster of one node with room for one worker."""
    with token():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()  # type: ignore[no-untyped-call]


def lose(node: Any) -> None:
    """Kill a node's raylet and all that it started, at once, as when a machine loses its power."""
    (raylet,) = node.all_processes["raylet"]
    process = psutil.Process(raylet.process.pid)
    for victim in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            victim.kill()


def tree(data: Path, home: Path, steps: int, **cluster: Any) -> dict[str, Any]:
    every = max(20, steps // 20)
    return {
        "data": {"path": str(data)},
        "model": builders.MODEL,
        "trainer": {
            "batch_size": 32, "steps": steps, "epochs": 9999, "eval_every": steps // 4,
            "checkpoint": {"every_steps": every, "path": str(home / "checkpoints")},
        },
        # small steps: a model that learns 400 rows by heart blows the last bits of its sums up
        "optim": {"dense": {"lr": 1e-4}, "sparse": {"lr": 1e-3}},
        "health": {"enabled": False},
        "cluster": cluster,
        "tracking": {"uri": f"sqlite:///{home}/mlflow.db"},
        "registry": {"name": "nodes"},
        "run_name": "moving",
    }  # fmt: skip


def alone(worker: Worker, run: TrainRun) -> dict[str, Any]:
    """The same run under plain processes, to which nothing happens."""
    return WorkerProgram(run, worker, torch.device("cpu")).train(Diary(None)).test.compute()


def trained(run: dict[str, Any], meanwhile: Callable[[], None]) -> str:
    """Train while something happens; return what was printed. Ray starts nodes in the main thread only."""
    console = Console(file=io.StringIO(), width=200)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, validate(TrainRun, run), console)
        try:
            meanwhile()
        finally:
            training.result()
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def checkpoints(home: Path) -> int:
    return max((int(mark.parent.name[-9:]) for mark in home.glob(f"checkpoints/*/step-*/{MARK}")), default=0)


def history(home: Path, name: str) -> list[tuple[int, float]]:
    client = connect(f"sqlite:///{home}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def assert_whole(home: Path, data: Path, steps: int, *, workers: int, rel: float = 1e-5) -> None:
    """Every report once, and the metrics of a run whose nodes stayed."""
    assert [step for step, _ in history(home, "train/total/loss")] == list(range(20, steps + 1, 20))
    still, *_ = run_workers(workers, home, alone, validate(TrainRun, tree(data, home, steps)))
    for task, metrics in still.items():
        bounds = {"auc": metrics.get("auc_error_bound", 0), "logloss": 0, "rmse": 0, "rows": 0}
        for name in bounds.keys() & metrics.keys():
            ((_, found),) = history(home, f"test/{task}/{name}")
            assert found == pytest.approx(metrics[name], rel=rel, abs=rel + bounds[name]), (task, name)


@pytest.mark.faults
def test_an_elastic_run_goes_on_with_the_nodes_that_are_left(tmp_path: Path, data: Path) -> None:
    steps = 400
    with one_node() as cluster:
        node = cluster.add_node(num_cpus=1)
        run = tree(data, tmp_path, steps, workers={"min": 1, "max": 2}, address=cluster.address)

        def meanwhile() -> None:
            until(lambda: checkpoints(tmp_path))
            lose(node)

        output = trained(run, meanwhile)
    counts = [int(count) for _, count in history(tmp_path, "train/workers")]
    assert (counts[0], counts[-1]) == (2, 1)
    assert counts == sorted(counts, reverse=True)
    assert "starting 1 to 2 Ray workers" in output
    assert_whole(tmp_path, data, steps, workers=2)


@pytest.mark.faults
def test_an_elastic_run_grows_with_the_cluster(tmp_path: Path, data: Path) -> None:
    steps = 6000  # Ray looks at the nodes every 20 seconds
    with one_node() as cluster:
        workers = {"min": 1, "max": 2, "resize_every_s": 3}
        run = tree(data, tmp_path, steps, workers=workers, address=cluster.address)

        def meanwhile() -> None:
            until(lambda: checkpoints(tmp_path))
            cluster.add_node(num_cpus=1)

        output = trained(run, meanwhile)
    counts = [int(count) for _, count in history(tmp_path, "train/workers")]
    assert (counts[0], counts[-1]) == (1, 2)
    assert counts == sorted(counts)
    assert "training on 2 of 2 workers" in output
    assert_whole(tmp_path, data, steps, workers=1, rel=1e-4)  # of so many steps, all but the first on two workers


@pytest.mark.faults
def test_a_run_of_fixed_size_waits_for_a_node_in_place_of_a_lost_one(tmp_path: Path, data: Path) -> None:
    steps = 400
    with one_node() as cluster:
        node = cluster.add_node(num_cpus=1)
        run = tree(data, tmp_path, steps, workers=2, address=cluster.address, placement="spread")

        def meanwhile() -> None:
            until(lambda: checkpoints(tmp_path))
            lose(node)
            until(lambda: len(alive()) == 1)
            cluster.add_node(num_cpus=1)

        trained(run, meanwhile)
    assert {count for _, count in history(tmp_path, "train/workers")} == {2}
    assert_whole(tmp_path, data, steps, workers=2)


def test_a_run_without_room_says_so_at_once_and_gives_up(tmp_path: Path, data: Path) -> None:
    with one_node() as cluster:
        run = tree(data, tmp_path, 40, workers=3, address=cluster.address, start_timeout_s=5, resources={"highmem": 2})
        console = Console(file=io.StringIO(), width=400)
        with pytest.raises(ConfigError) as caught:
            train(validate(TrainRun, run), console)
    (problem,) = caught.value.problems
    asked = "cluster.workers: no room for 3 with 1 CPU, 2 highmem each. The cluster has in all 1 CPU "
    assert problem.startswith(asked)
    assert "0 highmem (0 highmem free) on 1 node, idle enough for 0." in problem
    assert problem.endswith("Waited 5 s for it (cluster.start_timeout_s)")
    first = console.file.getvalue()  # type: ignore[attr-defined]
    assert asked in first
    assert "Waiting up to 5 s for it (cluster.start_timeout_s)" in first


def test_a_cluster_of_one_s_own_gets_no_more_nodes_and_is_refused(tmp_path: Path, data: Path) -> None:
    run = tree(data, tmp_path, 40, workers=1, start_timeout_s=600, resources={"highmem": 2})
    with token(), pytest.raises(ConfigError, match="no room for 1 with 1 CPU, 2 highmem each"):
        train(validate(TrainRun, run), Console(file=io.StringIO()))
