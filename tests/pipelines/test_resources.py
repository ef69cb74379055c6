"""Elastic and heterogeneous clusters, as far as they need no cluster: configuration and planning."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.plan import Links, plan
from pipelines.resources import fits, per_worker, scaling
from pipelines.run import ClusterConfig, TrainRun
from pipelines.train import preflight
from recsys_mtl.config import ConfigError, load, validate
from tests import builders


def cluster(**fields: Any) -> ClusterConfig:
    return validate(ClusterConfig, fields)


def refused(**fields: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(TrainRun, {"data": {"path": "x"}, **fields})
    return list(caught.value.problems)


def test_what_a_worker_takes() -> None:
    config = cluster(cpus_per_worker=3, memory_gib=2, resources={"highmem": 1, "accelerator_type:H100": 0.001})
    assert per_worker(config) == {"CPU": 3, "memory": 2 * 2**30, "highmem": 1, "accelerator_type:H100": 0.001}
    half = cluster(workers=1, gpus_per_worker=0.5, memory_gib=40)
    assert per_worker(half) == {"CPU": 1, "GPU": 0.5}  # a GPU's own memory


@pytest.mark.parametrize(
    ("node", "workers"),
    [({"CPU": 8, "highmem": 1}, 2), ({"CPU": 3, "highmem": 9}, 1), ({"CPU": 64}, 0), ({"CPU": 6, "highmem": 1.5}, 3)],
)
def test_workers_that_a_node_could_hold(node: dict[str, float], workers: int) -> None:
    assert fits(node, {"CPU": 2, "highmem": 0.5}) == workers


def test_amounts_that_are_no_binary_fractions_fit_as_often_as_they_should() -> None:
    assert fits({"share": 0.3}, {"share": 0.1}) == 3


def test_ray_is_told_everything() -> None:
    told = scaling(cluster(workers={"min": 1, "max": 4, "resize_every_s": 7}, placement="spread"))
    assert (told.num_workers, told.elastic_resize_monitor_interval_s) == ((1, 4), 7)
    assert (told.placement_strategy, told.use_gpu) == ("SPREAD", False)
    assert scaling(cluster(workers=3, gpus_per_worker=1)).num_workers == 3
    assert scaling(cluster(gpus_per_worker=1)).use_gpu


def test_a_number_and_a_range_of_workers_are_told_apart() -> None:
    assert (cluster(workers=3).min_workers, cluster(workers=3).max_workers) == (3, 3)
    assert (cluster(workers={"max": 3}).min_workers, cluster(workers={"max": 3}).max_workers) == (1, 3)
    saved = "trainer.checkpoint.every_steps=10"
    run = load(TrainRun, ["data.path=x", "cluster.workers.max=4", saved])
    assert validate(TrainRun, run.model_dump(mode="json")) == run


@pytest.mark.parametrize(
    ("workers", "problem"),
    [
        (0, "cluster.workers: input should be greater than 0 (got 0)"),
        (1.5, "cluster.workers: input should be a valid integer, got a number with a fractional part (got 1.5)"),
        ({"min": 0, "max": 2}, "cluster.workers.min: input should be greater than 0 (got 0)"),
        ({"min": 3}, "cluster.workers.max: field required"),
        ({"min": 3, "max": 2}, "cluster.workers.min: 3 is more than max, 2"),
        ({"most": 2, "max": 2}, "cluster.workers.most: unknown field"),
    ],
)
def test_numbers_of_workers_that_are_refused(workers: Any, problem: str) -> None:
    assert refused(cluster={"workers": workers}) == [problem]


def test_what_has_a_field_of_its_own_is_no_resource() -> None:
    problems = refused(cluster={"resources": {"GPU": 1, "CPU": 2, "highmem": 1}})
    assert problems == [
        "cluster.resources.CPU: use cluster.cpus_per_worker", "cluster.resources.GPU: use cluster.gpus_per_worker",
    ]  # fmt: skip


def test_several_workers_share_no_gpu() -> None:
    problems = refused(cluster={"workers": 2, "gpus_per_worker": 0.5})
    assert problems == ["cluster.gpus_per_worker: several workers need a GPU each, because NCCL does; set it to 1"]


def test_an_elastic_run_needs_checkpoints() -> None:
    (problem,) = refused(cluster={"workers": {"max": 2}})
    assert problem.startswith("cluster.workers: a number of workers that changes needs checkpoints")


def elastic(data: Path, *, fewest: int, most: int, lanes: int = 8, memory_gib: float | None = None) -> TrainRun:
    tree = {
        "data": {"path": str(data), "reader": {"lanes": lanes}},
        "model": builders.MODEL,
        "trainer": {"checkpoint": {"every_steps": 5}},
        "cluster": {"workers": {"min": fewest, "max": most}, "memory_gib": memory_gib},
    }
    return validate(TrainRun, tree)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elastic") / "data"
    builders.prepared(path)
    return path


def test_lanes_must_be_enough_for_the_most_workers(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.reader\.lanes: 3 lanes cannot be shared by 4 workers"):
        preflight(elastic(data, fewest=1, most=4, lanes=3))


def test_the_plan_is_that_of_the_fewest_workers_who_hold_the_most(data: Path) -> None:
    one, elastic_plan = (plan(elastic(data, fewest=1, most=n), Links()) for n in (1, 3))
    assert elastic_plan["workers"] == one["workers"]
    assert len(plan(elastic(data, fewest=2, most=3), Links())["workers"]) == 2


@pytest.mark.parametrize("fewest", [1, 3])
def test_tables_must_fit_on_the_fewest_workers(data: Path, fewest: int) -> None:
    with pytest.raises(ConfigError, match=rf"cluster\.workers: {fewest} workers with .* cannot hold the tables"):
        preflight(elastic(data, fewest=fewest, most=5, memory_gib=1e-6))
