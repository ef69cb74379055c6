"""A real tracking server that goes away during a real run: every point arrives, once and in order."""

import io
import os
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.deliver import deliver
from pipelines.run import TrainRun
from pipelines.train import train
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.registry import aliases, fetch
from recsys_mtl.tracking import Ending, UndeliveredError, connect
from tests import builders
from tests.distributed.processes import free_port
from tests.mlflow_server import server
from tests.pipelines.remains import nothing_left
from tests.pipelines.test_faults import first_checkpoint, training_processes

pytestmark = [pytest.mark.ray, pytest.mark.faults]

STEPS = 1200
LOGGED = list(range(20, STEPS + 1, 20))


@dataclass
class Outage:
    """A server that can be stopped and started again at its address, with what it has stored."""

    folder: Path
    port: int = field(default_factory=free_port)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.stack.enter_context(server(self.folder, self.port))

    def stop(self) -> None:
        self.stack.close()


def make_run(data: Path, home: Path, uri: str, *, patience_s: float) -> TrainRun:
    tree: dict[str, Any] = {
        "data": {"path": str(data)},
        "model": builders.MODEL,
        "trainer": {
            "batch_size": 32, "steps": STEPS, "epochs": 99, "eval_every": 100,
            "checkpoint": {"every_steps": 20, "path": str(home / "checkpoints")},
        },
        "tracking": {"uri": uri, "buffer": str(home / "unsent"), "patience_s": patience_s},
        "registry": {"name": "away"},
        "run_name": "patient",
    }  # fmt: skip
    return validate(TrainRun, tree)


def points_on_disk(home: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in home.glob("unsent/*/points.jsonl"))


def assert_everything_arrived(uri: str, home: Path) -> None:
    client = connect(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    run_id = run.info.run_id
    assert run.info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(run_id, "train/total/loss")] == LOGGED
    assert [p.step for p in client.get_metric_history(run_id, "valid/click/auc")] == list(range(100, STEPS + 1, 100))
    assert "test/click/auc" in run.data.metrics
    assert "plots/roc_test.png" in {file.path for file in client.list_artifacts(run_id, "plots")}
    assert aliases(uri, "away") == {"challenger": 1}
    assert (fetch("models:/away@challenger", uri, into=home / "cache").path / "model.safetensors").exists()
    assert list((home / "unsent").iterdir()) == []


def test_a_run_outlives_an_outage_in_which_a_worker_is_killed(tmp_path: Path) -> None:
    builders.prepared(tmp_path / "data")
    outage = Outage(tmp_path / "server")
    done, output = threading.Event(), io.StringIO()

    def strike() -> None:
        first_checkpoint(tmp_path)
        outage.stop()
        while "metric values wait in" not in output.getvalue() and not done.wait(0.05):
            pass
        assert points_on_disk(tmp_path) > 0
        os.kill(training_processes()[0].pid, signal.SIGKILL)
        done.wait(20)
        outage.start()

    with nothing_left(), outage.stack:
        outage.start()
        thread = threading.Thread(target=strike)
        thread.start()
        try:
            train(make_run(tmp_path / "data", tmp_path, outage.uri, patience_s=300), Console(file=output, width=200))
        finally:
            done.set()
            thread.join()
        assert_everything_arrived(outage.uri, tmp_path)
    assert "metric values wait in" in output.getvalue()


def test_a_server_that_stays_away_gets_everything_later_with_one_command(tmp_path: Path) -> None:
    builders.prepared(tmp_path / "data")
    outage = Outage(tmp_path / "server")

    def strike() -> None:
        first_checkpoint(tmp_path)
        outage.stop()

    with nothing_left(), outage.stack:
        outage.start()
        thread = threading.Thread(target=strike)
        thread.start()
        run = make_run(tmp_path / "data", tmp_path, outage.uri, patience_s=3)
        with pytest.raises(UndeliveredError, match=r"everything waits in (\S+); .* recsys-mtl deliver \1"):
            train(run, Console(file=io.StringIO(), width=200))
        thread.join()
        (folder,) = (tmp_path / "unsent").iterdir()
        ending = Ending.load(folder)
        assert ending is not None
        assert ending.status == "FINISHED"
        with pytest.raises(ConfigError, match="the tracking server still does not answer"):
            deliver(folder, Console(file=io.StringIO()))
        outage.start()
        output = io.StringIO()
        deliver(folder, Console(file=output, width=200))
        assert output.getvalue() == f"run {ending.run_id} is delivered: FINISHED, version 1 of away\n"
        assert_everything_arrived(outage.uri, tmp_path)
        with pytest.raises(ConfigError, match="no run waits there"):
            deliver(folder, Console(file=io.StringIO()))
