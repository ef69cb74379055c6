"""A series of days on a real local Ray cluster, tracked in a real MLflow store."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.daily import Daily, read_config, run
from recsys_mtl.registry import aliases, fetch
from recsys_mtl.tracking.client import connect
from recsys_mtl.training.checkpoint import MARK
from tests import days

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FIRST, SECOND, THIRD = (date(2022, 4, day) for day in (22, 23, 24))


def settings(home: Path) -> list[str]:
    return [
        "cluster.workers=1", "trainer.batch_size=32", "health.enabled=false", "registry.name=days",
        f"tracking.uri=sqlite:///{home}/mlflow.db", f"trainer.checkpoint.path={home}/checkpoints",
    ]  # fmt: skip


def learn(home: Path, until: date) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=200)
    daily = Daily(read_config(settings(home), home / "days"), home / "days")
    return run(daily, console, until=until), console.file.getvalue()  # type: ignore[attr-defined]


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
def test_days_are_learnt_once_in_order_and_caught_up(tmp_path: Path) -> None:
    home = tmp_path
    days.write_days(home / "days", 2, rows=120)
    facts, text = learn(home, FIRST)
    assert states(facts) == ["learnt now"] * 2
    assert "Progressive AUC (positives)" in text
    again, _ = learn(home, FIRST)
    assert states(again) == ["learnt before"] * 2
    assert [day["run_id"] for day in again["days"]] == [day["run_id"] for day in facts["days"]]

    days.add_day(home / "days", THIRD, home / "days" / str(SECOND), seed=90, rows=120)
    caught_up, _ = learn(home, THIRD)
    assert states(caught_up) == ["learnt before", "learnt before", "learnt now", "learnt now"]
    found = finished_of(home)
    assert list(found) == ["daily-base", "daily-2022-04-22", "daily-2022-04-23", "daily-2022-04-24"]
    for before, after in zip(list(found)[:-1], list(found)[1:], strict=True):
        assert found[after].data.params["init_from.model"] == f"runs:/{found[before].info.run_id}/bundle"
    assert aliases(f"sqlite:///{home}/mlflow.db", "days") == {"challenger": 4}
    for day in caught_up["days"][1:]:
        run_id = day["run_id"]
        metrics = found[f"daily-{day['day']}"].data.metrics
        assert day["metrics"]["click"]["auc"] == metrics["progressive/click/auc"] == metrics["test/click/auc"]
        assert day["metrics"]["click"]["rows"] == 120
        bundle = fetch(f"runs:/{run_id}/bundle", f"sqlite:///{home}/mlflow.db", into=home / "copies").path
        assert json.loads((bundle / "metrics.json").read_text())["progressive"]["click"]["rows"] == 120


def first_checkpoint(home: Path, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not list(home.glob(f"checkpoints/*/step-*/{MARK}")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.02)


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_a_day_whose_driver_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    days.write_days(tmp_path / "days", 1, rows=12_000)
    command = [sys.executable, "-m", "pipelines.cli", "daily", "--days", str(tmp_path / "days"), *settings(tmp_path)]
    command += ["trainer.checkpoint.every_steps=20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        first_checkpoint(tmp_path)
        os.kill(driver.pid, signal.SIGKILL)
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert "(daily-2022-04-22) goes on" in again.stdout
    assert finished_of(tmp_path)["daily-2022-04-22"].data.metrics["progressive/click/rows"] == 12_000
