import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from pipelines.plan import run
from pipelines.run import TrainRun
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.encode import Encoder
from tests import builders

SPECS = Path(__file__).parents[2] / "pipelines" / "configs" / "specs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "data"
    builders.prepared(path)
    return path


@pytest.fixture(scope="module")
def large(data: Path) -> Path:
    """The specification alone, of tables ten thousand times as long: item has 37.8 MiB, and all together 101 MiB."""
    tree = Encoder.load(data).spec.model_dump(mode="json", exclude_none=True)
    tree["rows"] = {table: 10_000 * rows for table, rows in tree["rows"].items()}
    path = data.parent / "large.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def planned(data: Path, json_file: Path | None = None, **fields: Any) -> tuple[dict[str, Any], str]:
    tree = {"data": {"path": str(data)}, "model": builders.MODEL, "trainer": {"batch_size": 64, "epochs": 2}}
    console = Console(file=StringIO(), width=160)
    facts = run(validate(TrainRun, tree | fields), console, json_file=json_file)
    assert isinstance(console.file, StringIO)
    return facts, console.file.getvalue()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_table_is_on_one_worker_whole(data: Path, workers: int) -> None:
    facts, _ = planned(data, cluster={"workers": workers})
    spec = Encoder.load(data).spec
    assert {part["table"]: part["rows"] for part in facts["tables"]} == spec.rows
    assert len(facts["tables"]) == len(spec.rows)
    assert {part["worker"] for part in facts["tables"]} == set(range(workers))
    for part in facts["tables"]:
        assert part["weight_bytes"] == 4 * part["rows"] * part["dim"]
        assert part["moment_bytes"] == 4 * part["rows"]


def test_workers_add_up(data: Path) -> None:
    facts, text = planned(data, cluster={"workers": 2})
    for share in facts["workers"]:
        mine = [part for part in facts["tables"] if part["worker"] == share["worker"]]
        assert share["weights"] == sum(part["weight_bytes"] for part in mine)
        assert share["total"] == share["weights"] + share["moments"] + share["dense"]
    assert len({share["dense"] for share in facts["workers"]}) == 1
    assert "400 training rows, 14 steps of 64 rows, 32 of them for each worker" in text


@pytest.mark.parametrize(("kind", "numbers"), [("sgd", 0), ("adagrad", 16)])
def test_moments_are_the_optimisers(data: Path, kind: str, numbers: int) -> None:
    facts, _ = planned(data, optim={"sparse": {"kind": kind}})
    item = next(part for part in facts["tables"] if part["table"] == "item")
    assert item["moment_bytes"] == 4 * numbers * item["rows"]
    assert item["dim"] == 16


def test_the_file_has_everything(data: Path, tmp_path: Path) -> None:
    facts, _ = planned(data, tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text(encoding="utf-8")) == facts


def problem_of(data: Path, **fields: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        planned(data, **fields)
    (problem,) = caught.value.problems
    return problem


def test_tables_that_do_not_fit_are_refused_with_what_would_help(data: Path) -> None:
    problem = problem_of(data, cluster={"workers": 2, "memory_gib": 1e-6})
    assert problem.startswith("cluster.workers: 2 workers with 1e-06 GiB (cluster.memory_gib) each cannot hold the")
    assert "the largest, item," in problem
    assert "user stays on one worker" in problem
    assert "optim.sparse.kind=adagrad would let it be split (column_wise)" in problem


def test_what_would_help_does(large: Path) -> None:
    cluster = {"workers": 2, "memory_gib": 0.08}
    fields: dict[str, Any] = {"cluster": cluster, "optim": {"sparse": {"kind": "adagrad"}}}
    problem = problem_of(large, **fields)
    helps = re.findall(r"cluster\.(\w+)=([\d.e-]+) would do", problem)
    assert [name for name, _ in helps] == ["workers", "memory_gib"]
    for name, value in helps:
        planned(large, **fields | {"cluster": cluster | {name: float(value)}})


def test_auto_splits_what_does_not_fit(large: Path) -> None:
    cluster = {"workers": 3, "memory_gib": 0.036}
    facts, text = planned(large, cluster=cluster, optim={"sparse": {"kind": "sgd"}})
    ways = {table["table"]: (table["kind"], table["sharding"]) for table in facts["spread"]}
    assert ways["item"] == ("events", "row_wise")
    assert next(table for table in facts["spread"] if table["table"] == "item")["workers"] == [0, 1, 2]
    assert "0-2" in text
    assert all(share["weights"] <= 0.036 * 2**30 for share in facts["workers"])


def test_tables_are_spread_as_the_run_says(data: Path) -> None:
    sharding = {"tables": {"item": "row_wise", "user": "column_wise", "hour": "data_parallel"}}
    facts, _ = planned(data, cluster={"workers": 2, "sharding": sharding}, optim={"sparse": {"kind": "adagrad"}})
    found = {table["table"]: table for table in facts["spread"]}
    assert {name: found[name]["sharding"] for name in sharding["tables"]} == sharding["tables"]
    parts = [part for part in facts["tables"] if part["table"] == "user"]
    assert [(part["first_column"], part["dim"]) for part in sorted(parts, key=lambda p: p["first_column"])] == [
        (0, 8),
        (8, 8),
    ]
    assert found["user"]["dim"] == 16
    assert found["hour"]["weights"] == 2 * 4 * 16 * found["hour"]["rows"], "whole on both"


def test_bytes_of_a_step(data: Path) -> None:
    facts, text = planned(data, cluster={"workers": 2})
    city = next(table for table in facts["spread"] if table["table"] == "city")
    # 32 rows of the other worker: an id and a length each, a vector there and its gradient back
    assert city["bytes_per_step"] == 32 * (8 + 4 + 2 * 16 * 4)
    history = next(table for table in facts["spread"] if table["table"] == "item")
    assert 1 < history["ids_per_row"] < 1 + 5, "counted in the training split"
    sent = sum(share["ids"] + share["vectors"] + share["gradients"] for share in facts["workers"])
    assert sent == pytest.approx(sum(table["bytes_per_step"] for table in facts["spread"]))
    assert facts["milliseconds"] == {}, "no assumption about links of this machine"
    assert "milliseconds" not in text


def test_a_plan_of_a_terabyte_takes_no_memory_and_no_data() -> None:
    cluster = {"workers": 64, "gpus_per_worker": 1, "memory_gib": 80, "sharding": {"workers_per_node": 8}}
    facts, text = planned(SPECS / "terabyte.yaml", cluster=cluster, trainer={"batch_size": 65536})
    assert sum(table["weights"] for table in facts["spread"]) == pytest.approx(1e12, rel=0.02)
    assert max(share["total"] for share in facts["workers"]) < 0.9 * 80 * 2**30
    assert facts["spread"][0]["sharding"] == "table_row_wise"
    assert sum(facts["milliseconds"].values()) > 0
    assert "65,536 rows a step, 1,024 of them for each worker" in text
    problem = problem_of(SPECS / "terabyte.yaml", cluster=cluster | {"workers": 8})
    assert "cluster.workers=16 would do" in problem
