"""A Job that is a RayJob: made once, waited for, and ended alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines import kubernetes
from pipelines.kuberay import app, named, run
from pipelines.kubernetes import Api, RefusedError
from recsys_mtl.config import ConfigError
from tests.pipelines.kubernetes_api import Cluster, cluster

MANIFEST: dict[str, Any] = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {"labels": {"a": "b"}},
    "spec": {"entrypoint": "recsys-mtl daily"},
}
JOB = named(MANIFEST, "feed-daily-29700000", "1234")
NAME = "feed-daily-29700000-ray"

BEGINS = {"jobDeploymentStatus": "Initializing"}
RUNS = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
FAILED = {
    "jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": "exit code 1"
}  # fmt: skip


@pytest.fixture
def pod(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster(tmp_path, *request.param) as running:
        yield running


def api(running: Cluster, **patience: float) -> Api:
    return Api(running.address, running.credentials, pause_s=0.01, **patience)


def test_a_rayjob_belongs_to_its_job() -> None:
    assert JOB["metadata"] == {
        "labels": {"a": "b"},
        "name": NAME,
        "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": NAME[:-4], "uid": "1234", "blockOwnerDeletion": False}
        ],
    }
    assert JOB["spec"] == MANIFEST["spec"]
    assert "name" not in MANIFEST["metadata"]


def test_a_name_that_kuberay_would_not_take_is_refused() -> None:
    assert len(named(MANIFEST, "a" * 43, "1")["metadata"]["name"]) == 47
    with pytest.raises(ConfigError, match=r"--name: 'a{44}' has 44 characters, up to 43 are allowed"):
        named(MANIFEST, "a" * 44, "1")


@pytest.mark.parametrize("pod", [({}, BEGINS, RUNS, RUNS, DONE)], indirect=True)
def test_a_run_that_succeeds_ends_with_code_0(pod: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(api(pod), JOB, look_every_s=0.01) == 0
    assert pod.jobs == {NAME: JOB}
    assert capsys.readouterr().out.splitlines() == [
        f"rayjob {NAME} created", "waiting for KubeRay", "Initializing", "Running, RUNNING", "Complete, SUCCEEDED"
    ]  # fmt: skip


@pytest.mark.parametrize("pod", [(RUNS, {"jobDeploymentStatus": "Retrying"}, RUNS, FAILED)], indirect=True)
def test_a_run_that_fails_ends_with_code_1_and_its_reason(pod: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(api(pod), JOB, look_every_s=0.01) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "Failed, FAILED, AppFailed: exit code 1"


@pytest.mark.parametrize(
    "pod",
    [
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"},),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "name"},),
    ],
    ids=["stopped", "refused by KubeRay"],
    indirect=True,
)
def test_what_did_not_succeed_has_failed(pod: Cluster) -> None:
    assert run(api(pod), JOB, look_every_s=0.01) == 1


@pytest.mark.parametrize("pod", [(RUNS, DONE)], indirect=True)
def test_a_pod_in_the_place_of_a_lost_one_waits_for_the_same_run(
    pod: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.jobs[NAME] = JOB
    assert run(api(pod), JOB, look_every_s=0.01) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"rayjob {NAME} is there already"


@pytest.mark.parametrize("pod", [(RUNS, None)], indirect=True)
def test_a_run_that_is_deleted_is_no_success(pod: Cluster) -> None:
    with pytest.raises(ConfigError, match=f"^rayjob {NAME}: rayjobs '{NAME}' not found"):
        run(api(pod), JOB, look_every_s=0.01)


@pytest.mark.parametrize("pod", [(DONE,)], indirect=True)
def test_an_api_that_is_away_for_a_while_is_asked_again(pod: Cluster) -> None:
    pod.faults = [503, 500, 429]
    assert run(api(pod), JOB, look_every_s=0.01) == 0


@pytest.mark.parametrize("pod", [(DONE,)], indirect=True)
def test_an_api_that_stays_away_is_given_up(pod: Cluster, tmp_path: Path) -> None:
    pod.faults = [503] * 100
    with pytest.raises(RefusedError, match="not now"):
        api(pod, patience_s=0.0).read("ray.io/v1", "rayjobs", NAME)
    with pytest.raises(RefusedError, match="the API does not answer"):
        Api("https://127.0.0.1:1", tmp_path, pause_s=0.01, patience_s=0.02).read("ray.io/v1", "rayjobs", NAME)


@pytest.mark.parametrize("pod", [(RUNS, RUNS, DONE)], indirect=True)
def test_a_token_is_read_anew(pod: Cluster) -> None:
    client = api(pod)
    assert client.create("ray.io/v1", "rayjobs", JOB)
    (pod.credentials / "token").write_text("second")
    assert client.read("ray.io/v1", "rayjobs", NAME)["status"] == RUNS


@pytest.mark.parametrize("pod", [(DONE,)], indirect=True)
def test_a_server_that_the_cluster_does_not_vouch_for_is_told_nothing(pod: Cluster, tmp_path: Path) -> None:
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    with cluster(strangers, DONE), pytest.raises(RefusedError, match="CERTIFICATE_VERIFY_FAILED"):
        Api(pod.address, strangers, pause_s=0.01, patience_s=0.0).read("ray.io/v1", "rayjobs", NAME)


@pytest.mark.parametrize("pod", [(FAILED,)], indirect=True)
def test_the_program_ends_as_its_run_did(pod: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = pod.address.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(kubernetes, "CREDENTIALS", pod.credentials)
    file = tmp_path / "rayjob.yaml"
    file.write_text(yaml.safe_dump(MANIFEST))
    result = CliRunner().invoke(app, [str(file), "--name", "feed-daily-now", "--owner", "7"])
    assert result.exit_code == 1, result.output
    assert list(pod.jobs) == ["feed-daily-now-ray"]


def test_outside_of_a_cluster_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    file = tmp_path / "rayjob.yaml"
    file.write_text(yaml.safe_dump(MANIFEST))
    result = CliRunner().invoke(app, [str(file), "--name", "x", "--owner", "7"])
    assert result.exit_code == 2
    assert result.stderr.startswith("no Kubernetes API: this is no pod")
