import os
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from pipelines.jobs import exit_code
from pipelines.patience import patience, reason
from pipelines.run import ClusterConfig


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: [../gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 20000ms for recv operation",
        "torch.distributed.DistNetworkError: The client socket has timed out after 20000ms while trying to connect",
        "Watchdog caught collective operation timeout: WorkNCCL(OpType=ALLREDUCE, Timeout(ms)=20000) ran for 20001 ms",
        "ray.train...WorkerHealthCheckTimeoutError: A worker health check has been hanging for 20 seconds",
    ],
)
def test_who_waited_too_long_is_told_by_which_setting(text: str) -> None:
    said = reason(RuntimeError(f"Training failed:\n{text}\nlast line"), ClusterConfig(collective_timeout_s=20))
    assert said == "a worker did not answer for 20 s (cluster.collective_timeout_s): last line"


def test_other_failures_are_told_as_they_are() -> None:
    assert reason(RuntimeError("first\nKeyError: 'x'"), ClusterConfig()) == "KeyError: 'x'"


def test_rays_time_limits_follow_ours_but_not_against_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "7")
    before = dict(os.environ)
    with patience(ClusterConfig(collective_timeout_s=20, start_timeout_s=5)):
        limits = {name: value for name, value in os.environ.items() if name.startswith("RAY_TRAIN_")}
        assert limits["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] == "20"
        assert limits["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] == "5"
        assert limits["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] == "7"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),  # it never began
        (JobStatus.STOPPED, None, 143),
    ],
)
def test_exit_codes_of_jobs(status: JobStatus, code: int | None, expected: int) -> None:
    job: Any = SimpleNamespace(status=status, driver_exit_code=code)
    assert exit_code(job) == expected
