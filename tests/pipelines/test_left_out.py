"""A real Ray run over data with a damaged row group and an infinite number."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.run import TrainRun
from pipelines.train import train
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.tracking.client import connect
from tests import builders
from tests.distributed.test_faults import DAMAGED, POISONED, poison
from tests.pipelines.remains import nothing_left
from tests.unit.data.test_damage import damage

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("recsys_mtl.data.shard_writer.ROW_GROUP_ROWS", 60)
    path = tmp_path / "data"
    builders.prepared(path, rows=800)
    poison(path / "train" / "part-00000.parquet", row=POISONED * 60 + 7)
    damage(path / "train" / "part-00000.parquet", DAMAGED)
    return path


def make_run(data: Path, home: Path, *, not_finite: int) -> TrainRun:
    tree: dict[str, Any] = {
        "data": {"path": str(data), "reader": {"skip_damaged": 1}},
        "model": builders.MODEL,
        "trainer": {
            "batch_size": 64, "skip_not_finite": not_finite,
            "checkpoint": {"every_steps": 1, "path": str(home / "checkpoints")},
        },
        "tracking": {"uri": f"sqlite:///{home}/mlflow.db"},
        "registry": {"name": "left-out"},
        "run_name": "unlucky",
    }  # fmt: skip
    return validate(TrainRun, tree)


def test_a_run_ends_at_a_batch_and_goes_on_without_it(tmp_path: Path, data: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200)
    with (
        nothing_left(),
        pytest.raises(ConfigError, match="is not a finite number, and nothing was learnt from it") as end,
    ):
        train(make_run(data, tmp_path, not_finite=0), console)
    (file,) = re.findall(r"not_finite/step-\d{6}\.json", str(end.value))
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    record = json.loads(Path(client.download_artifacts(run.info.run_id, file, str(tmp_path))).read_text())
    assert [p for p in record["places"] if p["row_group"] == POISONED and 7 in p["rows"]]
    with nothing_left():
        finished = train(make_run(data, tmp_path, not_finite=1), console)
    assert finished.run_id == run.info.run_id
    left_out = {"not_finite_batches": 1, "damaged_row_groups": 1, "damaged_rows": 60}
    assert finished.outcome["left_out"] == left_out
    assert "left out " + " ".join(f"{name}={count}" for name, count in left_out.items()) in output.getvalue()
    run = client.get_run(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert {name: run.data.tags[f"left_out.{name}"] for name in left_out} == {n: str(c) for n, c in left_out.items()}
    assert {name: run.data.metrics[f"train/left_out/{name}"] for name in left_out} == left_out
