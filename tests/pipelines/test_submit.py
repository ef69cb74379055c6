"""Runs as jobs of a real Ray cluster with its job server."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._private.authentication_test_utils import reset_auth_token_state
from ray.job_submission import JobSubmissionClient
from typer.testing import CliRunner, Result

from pipelines.cli import app
from pipelines.submission import attempt_of, submission_id
from recsys_mtl.tracking.client import connect
from recsys_mtl.training.shelf import MARK
from tests import builders
from tests.distributed.processes import free_port
from tests.pipelines.ray_head import ray_head

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    with ray_head() as address:
        yield address


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("submit") / "data"
    builders.prepared(path)
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fields(data: Path, home: Path, name: str) -> list[str]:
    where = [f"data.path={data}", f"tracking.uri=sqlite:///{home}/mlflow.db", f"run_name={name}"]
    return [*where, "cluster.workers=1", "registry.name=jobs", "health.enabled=false", "trainer.batch_size=64"]


def runs(home: Path) -> list[Any]:
    client = connect(f"sqlite:///{home}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    return list(client.search_runs([experiment.experiment_id]))


def test_a_submitted_run_is_followed_to_its_end_and_not_trained_again(head: str, data: Path, tmp_path: Path) -> None:
    command = ["submit", *fields(data, tmp_path, "tuesday"), "--address", head, "--follow"]
    first = call(*command)
    assert first.exit_code == 0, first.output
    assert "submission_id=tuesday submitted" in first.output
    assert re.search(r"^final click auc=0\.\d+", first.output, re.MULTILINE), first.output
    (run,) = runs(tmp_path)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "tuesday")
    assert run.data.tags["submission_id"] == "tuesday"

    again = call(*command)
    assert again.exit_code == 0, again.output
    assert "submission_id=tuesday is already there (SUCCEEDED), nothing was submitted" in again.output
    assert f"run_id={run.info.run_id}" in again.output, "the log is shown again"
    assert len(runs(tmp_path)) == 1

    other = call(*command, "seed=7")
    assert other.exit_code == 2
    assert "run_name: job tuesday (SUCCEEDED) has this name and other settings; choose another" in other.output


@pytest.mark.faults
def test_a_job_that_fails_gives_its_exit_code_and_can_be_submitted_again(head: str, tmp_path: Path) -> None:
    command = ["submit", *fields(tmp_path / "nowhere", tmp_path, "lost"), "--address", head, "--follow"]
    first, second = call(*command), call(*command)
    assert (first.exit_code, second.exit_code) == (2, 2), first.output + second.output
    assert "submission_id=lost submitted" in first.output
    assert "nowhere" in first.output.split("Running entrypoint")[1]
    assert "submission_id=lost~2 submitted" in second.output
    status = call("job", "status", "lost", "--address", head)
    assert status.output.startswith("lost~2 FAILED\n")


@pytest.mark.faults
def test_a_run_that_is_stopped_ends_as_killed_and_goes_on_when_submitted_again(
    head: str, data: Path, tmp_path: Path
) -> None:
    long = ["trainer.steps=600", "trainer.epochs=999", "trainer.checkpoint.every_steps=20", "trainer.eval_every=300"]
    command = ["submit", *fields(data, tmp_path, "halted"), *long, f"trainer.checkpoint.path={tmp_path}/checkpoints"]
    command += ["--address", head]
    assert call(*command).exit_code == 0
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(f"checkpoints/*/step-*/{MARK}")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.1)
    while_it_trains = call(*command)
    assert "is already there (RUNNING), nothing was submitted" in while_it_trains.output
    stopped = call("job", "stop", "halted", "--address", head)
    assert stopped.output == "halted STOPPED\n"
    (run,) = runs(tmp_path)
    assert (run.info.status, run.data.tags["submission_id"]) == ("KILLED", "halted")
    assert call("job", "follow", "halted", "--address", head).exit_code == 143

    again = call(*command, "--follow")
    assert again.exit_code == 0, again.output
    assert "(halted) goes on, starting 1 Ray workers" in again.output
    (run,) = runs(tmp_path)
    assert (run.info.status, run.data.tags["submission_id"]) == ("FINISHED", "halted~2")
    assert [job.submission_id for job in JobSubmissionClient(head).list_jobs() if "halted" in (job.submission_id or "")]


def test_a_cluster_that_asks_for_a_token_says_so(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as nobody:
        nobody.setenv("RAY_AUTH_MODE", "disabled")
        reset_auth_token_state()
        result = call("job", "status", "x", "--address", head)
    reset_auth_token_state()
    assert result.exit_code == 2
    assert result.output.startswith(f"--address: {head} asks for a token: set RAY_AUTH_MODE=token")


def test_what_means_nothing_on_the_cluster_is_refused_at_once() -> None:
    relative = ["data.path=data/demo", "trainer.checkpoint.every_steps=5", "cluster.address=ray://there:10001"]
    result = call("submit", *relative, "--address", "http://127.0.0.1:1", "--env", "NO_SUCH_VARIABLE_*")
    assert result.exit_code == 2
    places = [line.partition(":")[0] for line in result.output.splitlines()]
    assert places == ["cluster.address", "data.path", "trainer.checkpoint.path", "tracking.uri", "--env"]


def test_an_address_where_nobody_answers_is_refused() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    for command in (["job", "status", "x"], ["job", "stop", "x"], ["job", "follow", "x"]):
        result = call(*command, "--address", address)
        assert (result.exit_code, result.output.startswith(f"--address: nobody answers at {address}")) == (2, True)
    assert call("job", "status", "x", "--address", "ray://somewhere:10001").exit_code == 2


@pytest.mark.parametrize("name", ["tuesday", "v1.2_big-run"])
def test_the_name_of_a_job_is_that_of_its_run(name: str) -> None:
    assert submission_id(name) == name
    assert attempt_of(name) == 1
    assert attempt_of(submission_id(name, 12)) == 12


@pytest.mark.parametrize("name", ["a b", "a/b", "a~2", "é", "x" * 300])
def test_names_that_need_another_spelling_stay_apart(name: str) -> None:
    spelled = submission_id(name)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,120}", spelled)
    assert spelled != submission_id(name + "!") != submission_id(name + "?")
    assert attempt_of(spelled) == 1
