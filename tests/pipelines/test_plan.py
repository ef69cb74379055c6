import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.plan import run
from pipelines.run import TrainRun
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.encode import Encoder
from tests import builders


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "data"
    builders.prepared(path)
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


def test_tables_that_do_not_fit_are_refused_with_what_would_help(data: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(data, cluster={"workers": 2, "memory_gib": 1e-6})
    (problem,) = caught.value.problems
    assert problem.startswith("cluster.workers: 2 workers with 1e-06 GiB (cluster.memory_gib) each cannot hold the")
    assert "the largest, item," in problem
