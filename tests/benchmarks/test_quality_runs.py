"""The command of a run: its output, its end, and what it has recorded."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.quality.plan import Data, Job, Plan, choose, job, variants
from benchmarks.quality.runs import RunFailedError, Runner, recorded, run_command, train_by_command
from benchmarks.results import slug
from recsys_mtl.config import validate
from recsys_mtl.tracking.client import connect

PLAN = validate(Plan, {"dense_parameters": 9, "tasks": ["click"], "models": {"A": {}}, "quick": []})


def runner(out: Path, data: Data) -> Runner:
    return Runner(out, data, 2, lambda _: None, train_by_command)


def one(data: Data, *extra: str) -> Job:
    (variant,) = variants(PLAN, choose(PLAN.models, ["A"], ""), data, PLAN.tasks)
    return job(variant, data, seed=0, rate=None, extra=("trainer.batch_size=10", *extra))


def test_output_of_a_command_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    code = "import sys; print('run_id=12'); print('noise', file=sys.stderr); sys.exit(3)"
    output = run_command([sys.executable, "-c", code], log)
    assert sorted(output.splitlines()) == ["noise", "run_id=12"]
    assert log.read_text() == output


def test_a_command_ends_with_the_benchmark(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"

    def stop_me() -> None:
        while not (log.exists() and log.read_text().endswith("\n")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_me).start()
    with pytest.raises(SystemExit):
        run_command([sys.executable, "-c", code], log)
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


@pytest.mark.slow
def test_a_refused_run_leaves_its_log_and_no_result(tmp_path: Path, data: Data) -> None:
    refused = one(data, "trainer.select.tasks=[nobody]")
    with pytest.raises(RunFailedError, match="logs"):
        train_by_command(runner(tmp_path, data), refused)
    assert "no task 'nobody'" in (tmp_path / "logs" / f"{slug(refused.name)}.log").read_text()
    assert runner(tmp_path, data).run(refused) is None
    assert not (tmp_path / "runs").exists()


def test_what_a_run_has_recorded(tmp_path: Path, data: Data) -> None:
    made, asked = runner(tmp_path, data), one(data)
    client = connect(made.tracking_uri, create=True)
    experiment = client.create_experiment("x", artifact_location=str(tmp_path / "artifacts"))
    run_id = client.create_run(experiment).info.run_id
    for step, rate, ratio in [(5, 1.0, 9.0), (10, 20.0, 1.5)]:
        client.log_metric(run_id, "train/rows_per_s", rate, step=step)
        client.log_metric(run_id, "health/bank/scale_ratio", ratio, step=step)
    client.set_tag(run_id, "health", "ok")
    client.log_text(
        run_id, '{"valid": {"click": {"auc": 0.7}}, "test": {"click": {"auc": NaN}}}', "bundle/metrics.json"
    )
    client.set_terminated(run_id)
    found = recorded(run_id, made, asked)
    assert found["judged"] == 0.7
    assert found["health"] == {"health/bank/scale_ratio": 1.5}
    assert found["state"] == "ok"
    assert found["rows_per_s"] == 20.0
    assert found["seconds"] == pytest.approx(100 / 20), "100 rows in 10 steps of an epoch of 10"
    saved = made.store.save(asked.name, asked.settings, found)
    assert saved["metrics"]["test"] == {"click": {"auc": None}}
