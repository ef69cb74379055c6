"""The comparison program: a real store with bundles of untrained models, a real data set, a real table in MLflow."""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

from pipelines.cli import app
from pipelines.compare import CompareConfig, run
from pipelines.evaluate import run as evaluate
from recsys_mtl.bundle import Manifest, write_bundle
from recsys_mtl.calibration import Calibration
from recsys_mtl.config import validate
from recsys_mtl.data.encode import Encoder
from recsys_mtl.model import ModelConfig
from recsys_mtl.registry import RegistryConfig, register
from recsys_mtl.tracking import Run, TrackingConfig, connect
from tests import builders

SETTINGS = CompareConfig(replicates=100)


@dataclass
class World:
    """A data set; a store with three finished runs, two of one name, and one that failed."""

    root: Path
    uri: str
    runs: dict[str, str]

    @property
    def data(self) -> Path:
        return self.root / "data"


def bundle(folder: Path, data: Path, **options: Any) -> Path:
    """Write an untrained bundle that knows what data it was trained on."""
    builders.bundle(folder, data, **options)
    manifest = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest | {"run": {"data": {"path": str(data)}}}))
    return folder


def untrained(folder: Path, data: Path, *tasks: str) -> Path:
    """Write the bundle of a model that learnt these tasks, in this order."""
    spec = Encoder.load(data).spec
    chosen = tuple(own for name in tasks for own in spec.tasks if own.name == name)
    config = validate(ModelConfig, builders.MODEL)
    weights = config.build(spec, chosen).state_dict()
    manifest = Manifest(model=config, tasks=chosen, fingerprint=spec.fingerprint)
    write_bundle(folder, weights, manifest, data=data, calibration=Calibration(), metrics={}, card="")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("compare")
    builders.prepared(root / "data")
    tracking = TrackingConfig(uri=f"sqlite:///{root}/mlflow.db")
    runs = {}
    for seed, key in enumerate(("first", "second", "twin", "other twin")):
        with Run.start(tracking, "twin" if "twin" in key else key, params={}, tags={}) as tracked:
            tracked.log_artifacts(bundle(root / key, root / "data", seed=seed), "bundle")
        runs[key] = tracked.run_id
    register(tracking.uri, runs["second"], registry=RegistryConfig(name="ranker"), description="", tags={})
    with pytest.raises(ZeroDivisionError), Run.start(tracking, "failed", params={}, tags={}):
        raise ZeroDivisionError
    return World(root, tracking.uri, runs)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def refused(*arguments: str) -> str:
    """Compare what must be refused as the user's error; return what was said."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr


def quiet_console() -> Console:
    return Console(file=io.StringIO(), width=160)


def test_the_report_of_runs_by_name_id_and_version(world: World) -> None:
    target = world.root / "report.json"
    models = ["first", "models:/ranker@challenger", world.runs["twin"], str(world.root / "other twin")]
    result = invoke(
        *models, "--tracking-uri", world.uri, "--replicates", "100", "--seed", "7", "--json", str(target), "--no-log"
    )
    assert result.exit_code == 0, result.output
    report = json.loads(target.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert report["baseline"] == {"model": "first", "run_id": world.runs["first"]}
    assert (report["data"], report["split"], report["rows"], report["users"]) == (str(world.data), "test", 400, 40)
    assert (report["replicates"], report["confidence"], report["seed"]) == (100, 0.95, 7)
    assert [entry["model"] for entry in report["comparisons"]] == models[1:]
    assert [entry["run_id"] for entry in report["comparisons"]] == [world.runs["second"], world.runs["twin"], None]
    for entry in report["comparisons"]:
        metrics = {task: set(values) for task, values in entry["tasks"].items()}
        assert metrics == {"click": {"auc", "gauc"}, "like": {"auc", "gauc"}, "watch": {"rmse", "xauc"}}
        assert f"{entry['model']}" in result.output
    for name in ("difference", "95% interval", "verdict", "positives"):
        assert name in result.output
    assert len(re.findall(r"^better: .*; worse: ", result.output, re.MULTILINE)) == 3


def test_values_are_those_of_evaluate(world: World) -> None:
    (found,) = run(["first", "second"], quiet_console(), SETTINGS, tracking_uri=world.uri, log=False)
    expected = evaluate("models:/ranker/1", world.data, "test", quiet_console(), tracking_uri=world.uri)
    for task, values in found.tasks.items():
        for name, value in values.items():
            bound = expected[task].get("auc_error_bound", 0.0) if name == "auc" else 0.0
            assert value.other == pytest.approx(expected[task][name], rel=1e-6, abs=bound + 1e-9), (task, name)
            assert value.difference == value.other - value.baseline
        auc = values.get("auc", values.get("rmse"))
        assert auc is not None
        assert (auc.rows, auc.positives) == (expected[task]["rows"], expected[task].get("positives"))
    assert found.tasks["like"]["auc"].rows < found.tasks["click"]["auc"].rows  # its space is click


def test_a_model_against_itself_is_not_separable_and_logs_nothing(world: World) -> None:
    (found,) = run(["first", world.runs["first"]], quiet_console(), SETTINGS, tracking_uri=world.uri)
    values = [value for row in found.tasks.values() for value in row.values()]
    assert {value.verdict for value in values} == {"not separable"}
    assert {value.difference for value in values} == {0.0}
    assert found.verdict == "better: none; worse: none"
    assert not connect(world.uri).list_artifacts(world.runs["first"], "compare")


def test_the_table_and_the_verdict_are_with_the_compared_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run(["first", "second"], quiet_console(), SETTINGS, tracking_uri=world.uri)
    again = SETTINGS.model_copy(update={"seed": 1})  # a second comparison replaces the table of the first
    (found,) = run(["first", "second"], quiet_console(), again, tracking_uri=world.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.uri)  # load_table looks for runs there, whatever its client's store
    client = connect(world.uri)
    baseline, compared = world.runs["first"], world.runs["second"]
    table = client.load_table(client.get_run(compared).info.experiment_id, f"compare/vs_{baseline}.json", [compared])
    logged = table.astype(object).where(table.notna(), None).to_dict("records")
    added = {"split": "test", "confidence": 0.95}
    assert logged == [pytest.approx(row | added) for row in found.rows()]  # pandas drops a float's last digits
    tags = client.get_run(compared).data.tags
    assert tags["compare.baseline"] == baseline
    assert tags["compare.verdict"] == found.verdict
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": f"compare/vs_{baseline}.json", "type": "table"}]
    assert not client.list_artifacts(baseline, "compare")


def test_tasks_that_only_one_model_has_are_named(world: World, tmp_path: Path) -> None:
    builders.bundle(tmp_path / "all", world.data)
    untrained(tmp_path / "fewer", world.data, "watch", "click")
    for pair in (("all", "fewer"), ("fewer", "all")):
        models = [str(tmp_path / name) for name in pair]
        console = quiet_console()
        (found,) = run(models, console, SETTINGS, data=world.data)
        assert set(found.tasks) == {"click", "watch"}
        assert f"left out: like, which only {tmp_path / 'all'} has" in console.file.getvalue()  # type: ignore[attr-defined]
        assert found.report()["left_out"] == ["like"]


def test_models_without_a_common_task_are_refused(world: World, tmp_path: Path) -> None:
    models = [str(untrained(tmp_path / task, world.data, task)) for task in ("click", "watch")]
    problem = refused(*models, "--data", str(world.data))
    assert "has no task in common" in problem


def test_one_model_is_not_a_comparison(world: World) -> None:
    assert "two models" in refused("first", "--tracking-uri", world.uri)
    assert invoke().exit_code == 2


def test_every_unknown_run_is_named_with_what_a_run_is(world: World) -> None:
    lines = refused("nobody", "failed", "0" * 32, "first", "--tracking-uri", world.uri).splitlines()
    assert [line.partition(":")[0] for line in lines if "model is" not in line] == ["nobody", "failed", "0" * 32]
    assert sum("a model is a run's id or name" in line for line in lines) == 1


def test_an_ambiguous_name_lists_the_ids(world: World) -> None:
    problem = refused("first", "twin", "--tracking-uri", world.uri)
    assert problem.startswith("twin: 2 finished runs")
    assert world.runs["twin"] in problem
    assert world.runs["other twin"] in problem


def test_data_that_was_prepared_otherwise_is_refused(world: World, tmp_path: Path) -> None:
    builders.prepared(tmp_path / "other", rows=60, seed=5)
    bundle(tmp_path / "stranger", tmp_path / "other")
    lines = refused("first", str(tmp_path / "stranger"), "--tracking-uri", world.uri).splitlines()
    assert len(lines) == 1
    assert re.search(rf"^--data: {world.data} has fingerprint \w+, {tmp_path / 'stranger'} \w+, ", lines[0])
    lines = refused("first", "second", "--data", str(tmp_path / "other"), "--tracking-uri", world.uri).splitlines()
    assert len(lines) == 2


def test_data_that_is_gone_or_unknown_is_asked_for(world: World, tmp_path: Path) -> None:
    builders.bundle(tmp_path / "silent", world.data)
    assert "name a prepared data set" in refused(str(tmp_path / "silent"), str(tmp_path / "silent"))
    moved = tmp_path / "moved"
    bundle(moved, world.data)
    manifest = yaml.safe_load((moved / "model.yaml").read_text())
    (moved / "model.yaml").write_text(yaml.safe_dump(manifest | {"run": {"data": {"path": str(tmp_path / "gone")}}}))
    assert f"--data: {tmp_path / 'gone'}, which {moved} was trained on, is not there" in refused(str(moved), str(moved))


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--split", "tomorrow", "--split: "),
        ("--metric", "auc,ndcg", "--metric"),
        ("--confidence", "1", "--confidence: "),
        ("--replicates", "30", "30 replicates do not reach the ends of an interval at 0.95: it takes 40 or more"),
        ("--seed", "-1", "--seed: "),
    ],
)
def test_settings_are_checked(world: World, option: str, value: str, problem: str) -> None:
    assert problem in refused("first", "second", "--tracking-uri", world.uri, option, value)
