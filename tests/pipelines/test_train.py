"""A training run on a real local Ray cluster with two workers, tracked in a real MLflow store."""

import io
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from rich.console import Console

from pipelines.evaluate import run as evaluate
from pipelines.promote import run as promote
from pipelines.run import TrainRun
from pipelines.train import Finished, train
from recsys_mtl.bundle import Bundle
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.registry import aliases, fetch
from recsys_mtl.tracking.client import connect
from tests import builders

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass
class World:
    """A data set, a tracking store, and one finished run."""

    data: Path
    uri: str
    finished: Finished
    output: str


def make_run(data: Path, uri: str, **fields: Any) -> TrainRun:
    tree: dict[str, Any] = {
        "data": {"path": str(data)},
        "model": builders.MODEL,
        "trainer": {"batch_size": 64, "epochs": 2, "eval_every": 10},
        "tracking": {"uri": uri},
        "registry": {"name": "test-model"},
    }
    return validate(TrainRun, tree | fields)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("train")
    builders.prepared(directory / "data")
    uri = f"sqlite:///{directory}/mlflow.db"
    console = Console(file=io.StringIO(), width=200)
    before = set(psutil.Process().children(recursive=True))
    finished = train(make_run(directory / "data", uri, run_name="first"), console)
    assert not ray.is_initialized()
    left = [p.name() for p in set(psutil.Process().children(recursive=True)) - before if p.status() != "zombie"]
    assert left == [], "processes were left behind"
    return World(directory / "data", uri, finished, console.file.getvalue())  # type: ignore[attr-defined]


def test_the_run_is_finished_and_has_its_curves(world: World) -> None:
    client = connect(world.uri)
    run = client.get_run(world.finished.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.params["model.experts.kind"] == "ple"
    assert run.data.tags["data_fingerprint"] == Bundle.load(bundle_of(world)).manifest.fingerprint
    steps = [point.step for point in client.get_metric_history(world.finished.run_id, "valid/click/auc")]
    assert steps == [10, 14]
    assert run.data.metrics["test/click/auc"] == world.finished.metrics["click"]["auc"]
    assert run.data.metrics["test/click/rows"] == world.finished.metrics["click"]["rows"]
    assert "train/total/loss" in run.data.metrics
    assert not [
        name for name in run.data.metrics if name.startswith("valid/") and name.endswith(("/rows", "/positives"))
    ]


def test_the_run_names_its_data_set(world: World) -> None:
    run = connect(world.uri).get_run(world.finished.run_id)
    assert run.inputs is not None
    (found,) = run.inputs.dataset_inputs
    assert found.dataset.profile is not None
    assert found.dataset.schema is not None
    assert (found.dataset.name, found.dataset.digest) == ("data", run.data.tags["data_fingerprint"])
    assert json.loads(found.dataset.profile)["train_rows"] == 400
    types = {column["name"]: column["type"] for column in json.loads(found.dataset.schema)["mlflow_colspec"]}
    shown = [types[name] for name in ("user", "history_item", "tags", "quality", "watch")]
    assert shown == ["long", "array", "array", "double", "double"]


def test_a_table_has_every_metric_with_what_it_rests_on(world: World) -> None:
    client = connect(world.uri)
    file = client.download_artifacts(world.finished.run_id, "quality.json", str(world.data.parent))
    table = json.loads(Path(file).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    best, tasks = int(world.finished.outcome["best_step"]), ("click", "like", "watch")
    measured = [("valid", 10), ("valid", 14), ("test", best)]
    found = [(row["split"], row["step"], row["task"]) for row in rows]
    assert found == [(*at, task) for at in measured for task in tasks]
    tested = {row["task"]: row for row in rows if row["split"] == "test"}
    assert tested["click"]["positives"] == world.finished.metrics["click"]["positives"]
    assert tested["watch"]["auc"] is None


def test_pictures_and_bundle_are_among_the_run_s_files(world: World) -> None:
    client = connect(world.uri)
    files = {
        file.path
        for folder in ("plots", "plots/gates", "bundle")
        for file in client.list_artifacts(world.finished.run_id, folder)
    }
    wanted = {"plots/roc_test.png", "plots/calibration_test.png", "bundle/model.safetensors", "bundle/golden.jsonl"}
    assert wanted | {"bundle/MODEL_CARD.md", "bundle/fusion.yaml", "bundle/calibration.json"} <= files
    assert sum(path.startswith("plots/gates/") for path in files) == 3  # two levels, and the shared gate of the first
    assert not [path for path in files if path.endswith((".pkl", ".pt", ".pth"))]


def test_the_bundle_names_calibrators_and_what_they_do(world: World) -> None:
    bundle = bundle_of(world)
    report = json.loads((bundle / "metrics.json").read_text())["calibration"]
    kinds = {task: fitted.kind for task, fitted in Bundle.load(bundle).calibration.tasks.items()}
    assert {task: told["calibrator"] for task, told in report.items()} == kinds
    assert all(set(told) == {"calibrator", "ece_before", "ece_after"} for told in report.values())
    assert f"- `click`: {kinds['click']}" in (bundle / "MODEL_CARD.md").read_text()


def test_expert_health_is_among_charts_tables_and_tags(world: World) -> None:
    client = connect(world.uri)
    run = client.get_run(world.finished.run_id)
    steps = [
        p.step for p in client.get_metric_history(world.finished.run_id, "health/ranker.experts.levels.0/scale_ratio")
    ]
    assert steps == [10, 14]
    assert "health/gradient_cosine/min" in run.data.metrics
    assert "health/ranker.experts.levels.1/occupancy/shared 1" in run.data.metrics
    file = client.download_artifacts(run.info.run_id, "health/experts.json", str(world.data.parent))
    table = json.loads(Path(file).read_text())
    split, step = (table["columns"].index(name) for name in ("split", "step"))
    measured = Counter((row[split], row[step]) for row in table["data"])
    best = int(world.finished.outcome["best_step"])
    assert measured == {("valid", 10): 16, ("valid", 14): 16, ("test", best): 16}  # two levels of 3 · 2 + 2
    shown = {table["path"] for table in json.loads(run.data.tags["mlflow.loggedArtifacts"])}
    assert {"health/experts.json", "health/readers.json", "health/gradients.json"} <= shown
    kinds = {"ok", "collapse", "degradation", "underfitting"}
    assert set(run.data.tags["health"].split(", ")) <= kinds
    card = (bundle_of(world) / "MODEL_CARD.md").read_text()
    for alarm in run.data.tags["health.alarms"].splitlines():
        assert alarm == "none" or f"- {alarm}\n" in card
    assert "plots/gradient_cosines.png" in {file.path for file in client.list_artifacts(run.info.run_id, "plots")}


def test_it_is_registered_as_challenger(world: World) -> None:
    assert aliases(world.uri, "test-model") == {"challenger": world.finished.version}


def test_the_version_s_page_has_the_model_card(world: World) -> None:
    description = connect(world.uri).get_model_version("test-model", "1").description or ""
    assert description.startswith("test split: click AUC 0.")
    assert "\n## Quality\n" in description
    assert "\n## Limits\n" in description
    assert len(description) <= 4000


def test_what_it_prints(world: World) -> None:
    for task in ("click", "like"):
        found = re.search(rf"^final {task} auc=(\S+)", world.output, re.MULTILINE)
        assert found is not None
        assert float(found[1]) == pytest.approx(world.finished.metrics[task]["auc"], abs=1e-4)
    assert f"run_id={world.finished.run_id}" in world.output
    assert "registered test-model version 1 as challenger" in world.output
    assert "step 10: " in world.output


def test_evaluating_the_registered_model_gives_the_run_s_metrics(world: World) -> None:
    console = Console(file=io.StringIO())
    again = evaluate("models:/test-model@challenger", world.data, "test", console, tracking_uri=world.uri)
    for task, values in world.finished.metrics.items():
        for name, value in values.items():
            if name != "auc_error_bound":  # whether two rows share a cell of the grid may hang on the last bit
                assert again[task][name] == pytest.approx(value, rel=1e-4, nan_ok=True), (task, name)


def test_the_first_version_becomes_champion(world: World) -> None:
    console = Console(file=io.StringIO())
    assert promote("test-model", world.finished.version, console, tracking_uri=world.uri).promoted
    assert aliases(world.uri, "test-model")["champion"] == world.finished.version


def test_a_worker_that_fails_ends_the_run_as_failed(world: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    builders.prepared(data)
    shard = data / "train" / "part-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[200:1200] = bytes(1000)  # the footer stays whole, so that only reading the rows finds out
    shard.write_bytes(bytes(content))
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(ConfigError, match=r"part-00000\.parquet.*row group 0"):
        train(make_run(data, world.uri, run_name="broken"), console)
    client = connect(world.uri)
    (experiment,) = (e for e in client.search_experiments() if e.name == "recsys-mtl")
    (broken,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'broken'")
    assert broken.info.status == "FAILED"
    assert not ray.is_initialized()


def bundle_of(world: World) -> Path:
    return fetch("models:/test-model@challenger", world.uri, into=world.data.parent / "cache").path
