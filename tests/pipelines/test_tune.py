"""A search on a real local Ray cluster, tracked in a real MLflow store."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from rich.console import Console

from pipelines.run import TrainRun
from pipelines.search_space import TuneConfig
from pipelines.tune import Tune
from pipelines.tune_report import report
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.registry import fetch
from recsys_mtl.tracking.client import connect
from tests import builders

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPACE = {"optim.dense.lr": {"log_uniform": [0.001, 0.05]}, "model.heads.hidden": {"choice": [[4], [8]]}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tune") / "data"
    builders.prepared(directory)
    return directory


def run_tree(data: Path, directory: Path) -> dict[str, Any]:
    return {
        "data": {"path": str(data)},
        "model": builders.MODEL,
        "trainer": {"batch_size": 64, "epochs": 2, "eval_every": 2, "checkpoint": {"path": str(directory / "saved")}},
        "tracking": {"uri": f"sqlite:///{directory}/mlflow.db"},
        "cluster": {"workers": 1},
    }


def children(directory: Path, parent: str) -> dict[str, Any]:
    """Runs of the trials, by trial."""
    client = connect(f"sqlite:///{directory}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{parent}'")
    return {run.data.tags["tune.trial"]: run for run in found}


def test_a_search_trains_trials_below_one_run_and_tells_which_is_best(data: Path, tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200)
    config = validate(TuneConfig, {"space": SPACE, "trials": 2, "asha": {"reduction": 2}, "seed": 1})
    search = Tune(validate(TrainRun, run_tree(data, tmp_path)), config, name="small")
    run_id, results = search.search(console)
    assert not ray.is_initialized()
    assert len(results) == 2
    assert {result.state for result in results} <= {"finished", "stopped early"}
    assert results[0].fields["model.heads.hidden"] == [8], "the run's own settings come first"
    client, runs = connect(search.run.tracking.uri), children(tmp_path, run_id)
    assert {result.name: result.state for result in results} == {
        name: run.data.tags["tune.state"] for name, run in runs.items()
    }
    assert all((run.info.status == "FINISHED") is (run.data.tags["tune.state"] == "finished") for run in runs.values())
    assert client.search_registered_models() == [], "trials do not become versions"
    report(console, ["a.yaml"], search.goals, results)
    best = max((r for r in results if r.state == "finished"), key=lambda result: result.values[0])
    assert f"recsys-mtl train a.yaml optim.dense.lr={best.fields['optim.dense.lr']}" in output.getvalue()
    parent = client.get_run(run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best/auc"] == pytest.approx(best.values[0])
    assert {file.path for file in client.list_artifacts(run_id, "tune")} == {"tune/search.png", "tune/trials.json"}
    found = fetch(f"runs:/{runs[best.name].info.run_id}/bundle", search.run.tracking.uri, into=tmp_path / "fetched")
    metrics = json.loads((found.path / "metrics.json").read_text())["valid"]
    known = [task["auc"] for task in metrics.values() if task.get("auc") is not None]
    assert best.values[0] == pytest.approx(math.fsum(known) / len(known), abs=1e-6)


def test_a_trial_that_is_stopped_early_gives_its_processors_back(data: Path, tmp_path: Path) -> None:
    tree = run_tree(data, tmp_path)
    tree["cluster"] |= {"cpus_per_worker": os.cpu_count(), "start_timeout_s": 60}  # room for one trial at a time
    space = {"optim.dense.lr": {"log_uniform": [1e-9, 1e-3]}}
    config = validate(TuneConfig, {"space": space, "trials": 4, "search": "random", "seed": 3})
    _, results = Tune(validate(TrainRun, tree), config, name="full").search(Console(file=io.StringIO()))
    states = [result.state for result in results]
    assert "stopped early" in states[:-1], "the next one had its processors"
    assert set(states) == {"finished", "stopped early"}


def test_what_cannot_be_searched_is_refused_at_once(data: Path, tmp_path: Path) -> None:
    tree = run_tree(data, tmp_path)
    config = validate(TuneConfig, {"space": {"model.depth": {"integer": [1, 2]}}})
    with pytest.raises(ConfigError, match=r"space\.model\.depth: 1: model\.depth"):
        Tune(validate(TrainRun, tree), config, name="none")
    with pytest.raises(ConfigError, match="run_name: would be ignored"):
        Tune(validate(TrainRun, tree | {"run_name": "mine"}), validate(TuneConfig, {"space": SPACE}), name="none")
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.faults
def test_a_search_that_was_stopped_goes_on(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run_tree(data, tmp_path)))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"space": SPACE, "trials": 4, "asha": None}))
    command = [sys.executable, "-m", "pipelines.cli", "tune", str(tmp_path / "run.yaml")]
    command += ["--space", str(tmp_path / "space.yaml"), "--name", "long", "--json", str(tmp_path / "trials.json")]
    with (tmp_path / "first.txt").open("w+") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        while ") finished" not in (tmp_path / "first.txt").read_text() and process.poll() is None:
            time.sleep(0.2)
        time.sleep(3)  # Ray Tune writes down what it knows every two seconds
        os.kill(process.pid, signal.SIGTERM)
        process.wait(120)
    assert ") finished" in (tmp_path / "first.txt").read_text()
    assert process.returncode != 0
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads((tmp_path / "trials.json").read_text())
    assert [trial["state"] for trial in trials["trials"]] == ["finished"] * 4
    assert len(children(tmp_path, trials["run_id"])) == 4, "no trial has two runs"
