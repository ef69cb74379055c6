"""A series of days on a real local Ray cluster, tracked in a real MLflow store."""

import io
import os
import signal
import subprocess
import sys
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from pipelines.daily import Daily, read_config, run
from pipelines.daily_config import Pipeline
from recsys_mtl.config import load
from recsys_mtl.registry import aliases, fetch
from recsys_mtl.tracking.client import connect
from recsys_mtl.tracking.series import PARENT
from recsys_mtl.training.shelf import MARK
from tests import builders, days

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ALL_AGAINST = {"promoted against", "not promoted against", "rejected against"}
FIRST, SECOND, THIRD = (date(2022, 4, day) for day in (22, 23, 24))


def settings(home: Path) -> list[str]:
    return [
        "cluster.workers=1", "trainer.batch_size=32", "health.enabled=false", "registry.name=days",
        f"tracking.uri=sqlite:///{home}/mlflow.db", f"trainer.checkpoint.path={home}/checkpoints",
    ]  # fmt: skip


def learn(home: Path, settings_file: Path) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=200)
    config = read_config([*settings(home), str(settings_file)], home / "days")
    steps = load(Pipeline, ["judge.policy.replicates=50"])
    return run(Daily(config, home / "days", pipeline=steps), console, publish=nothing), console.file.getvalue()  # type: ignore[attr-defined]


def nothing(data: str, to: str, *, as_of: datetime | None, update: bool) -> None:
    raise AssertionError((data, to, as_of, update))


def finished_of(home: Path) -> dict[str, Any]:
    """Return the finished runs by name, in the order in which they began."""
    client = connect(f"sqlite:///{home}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["start_time ASC"])
    assert {found.info.status for found in runs} == {"FINISHED"}
    assert len({found.info.run_name for found in runs}) == len(runs), "nothing was done twice"
    return {found.info.run_name: found for found in runs}


def states(facts: dict[str, Any]) -> list[str]:
    return [day["state"] for day in facts["days"]]


@pytest.mark.timeout(900)
def test_days_are_learnt_once_and_in_order(tmp_path: Path) -> None:
    home, uri = tmp_path, f"sqlite:///{tmp_path}/mlflow.db"
    days.write_days(home / "days", 2, rows=120, hold_out=0.3)
    builders.bundle(home / "bundle", home / "days" / "base")
    (home / "days" / str(SECOND)).rename(home / "later")
    begin = home / "run.yaml"
    init_from = {"model": f"{home}/bundle", "optimizer": "reset"}
    begin.write_text(yaml.safe_dump({"model": builders.MODEL, "init_from": init_from}))
    facts, text = learn(home, begin)
    assert states(facts) == ["learnt now"]
    assert "Progressive AUC (positives)" in text
    again, _ = learn(home, begin)
    assert again == facts | {"days": [facts["days"][0] | {"state": "learnt before"}]}

    days.add_day(home / "days", THIRD, home / "later", seed=90, rows=120, hold_out=0.3)
    onwards, text = learn(home, begin)
    assert states(onwards) == ["learnt before", "learnt now"]
    assert "2022-04-24: there are no data of 2022-04-23" in text
    (home / "later").rename(home / "days" / str(SECOND))
    late, text = learn(home, begin)
    assert states(late) == ["learnt before", "too late", "learnt before"]
    assert "2022-04-23: comes too late, 2022-04-24 is learnt already; it is left out" in text

    first, third = (finished_of(home)[f"daily-{day}"] for day in (FIRST, THIRD))
    assert first.data.params["init_from.model"] == f"{home}/bundle"
    assert third.data.params["init_from.model"] == f"runs:/{first.info.run_id}/bundle"
    assert third.data.params["init_from.optimizer"] == "keep"
    champion = 2 if late["days"][-1]["decision"] == "promote" else 1
    assert aliases(uri, "days") == {"challenger": 2, "champion": champion}
    assert first.data.tags["policy.verdict"] == "promoted: there is no champion yet"
    assert third.data.tags["policy.verdict"].split(" version 1 on ")[0] in ALL_AGAINST
    parent = finished_of(home)[f"daily-{THIRD}-pipeline"]
    assert third.data.tags[PARENT] == parent.info.run_id
    day = late["days"][-1]
    assert day["run_id"] == third.info.run_id
    metrics = third.data.metrics
    assert day["metrics"]["click"]["auc"] == metrics["progressive/click/auc"] == metrics["test/click/auc"]
    bundle = fetch(f"runs:/{third.info.run_id}/bundle", uri, into=home / "copies").path
    assert days.metrics_of(bundle)["progressive"]["click"]["rows"] == day["metrics"]["click"]["rows"] == 120


def first_checkpoint(home: Path, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not list(home.glob(f"checkpoints/*/step-*/{MARK}")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.02)


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_a_day_whose_driver_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    days.write_days(tmp_path / "days", 1, rows=12_000, hold_out=0.2)
    steps = {"judge": {"policy": {"constraints": []}}, "publish": {"to": f"parquet:{tmp_path}/features"}}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(steps))
    command = [sys.executable, "-m", "pipelines.cli", "daily", "--days", str(tmp_path / "days"), *settings(tmp_path)]
    command += ["trainer.checkpoint.every_steps=20", "--pipeline", str(tmp_path / "pipeline.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        first_checkpoint(tmp_path)
        os.kill(driver.pid, signal.SIGKILL)
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert "(daily-2022-04-22) goes on" in again.stdout
    runs = finished_of(tmp_path)
    assert runs["daily-2022-04-22"].data.metrics["progressive/click/rows"] == 12_000
    names = {f"daily-{day}{step}" for day in ("base", "2022-04-22") for step in ("", "-pipeline", "-judge", "-publish")}
    assert runs.keys() == names
    assert runs["daily-2022-04-22"].data.tags["recsys_mtl.resumes"] == "1"
    assert "champion" in aliases(f"sqlite:///{tmp_path}/mlflow.db", "days")
    last = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert last.stdout.count("learnt before") == 2
    assert finished_of(tmp_path).keys() == names
