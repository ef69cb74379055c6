"""Jobs of a Ray cluster: finding, following and stopping them over the cluster's job server."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from pipelines.submission import attempt_of
from recsys_mtl.config import ConfigError

RUN_NAME = "run_name"
"""Entry of a job's metadata."""
CONNECT_S = 10.0
POLL_S = 1.0
STOP_WAIT_S = 60
"""How long a job may take to end its run before it is killed; Ray gives 3 seconds by default."""
STOPPED_CODE = 143
"""What a shell makes of a process that was told to end."""


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, address: str) -> None:
        """``address`` is that of the job server, ``http://HOST:8265``.

        Raises:
            ConfigError: nobody answers there, or somebody else.
        """
        self.address = address
        require_answer(address)
        try:
            with environment_without("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # they would win over ``address``
                self.client = JobSubmissionClient(address)
        except AuthenticationError:
            token = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to those of the cluster"
            raise ConfigError([f"--address: {address} asks for a token: {token}"]) from None
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError([f"--address: no Ray job server at {address}: {first_line(error)}"]) from None

    def of_run(self, run_name: str) -> list[JobDetails]:
        """Return the jobs that were submitted for a run, the newest last."""
        found = [job for job in self.client.list_jobs() if (job.metadata or {}).get(RUN_NAME) == run_name]
        return sorted(found, key=lambda job: attempt_of(job.submission_id or ""))

    def find(self, name: str) -> JobDetails:
        """Return the newest job of the run of that name, or else the job of that submission id.

        Raises:
            ConfigError: there is none.
        """
        named = self.of_run(name) or [job for job in self.client.list_jobs() if job.submission_id == name]
        if not named:
            raise ConfigError([f"{name}: the cluster at {self.address} has no job of this id or run name"])
        return named[-1]

    def ended(self, submission: str) -> JobDetails:
        """Wait for the job's end; return what it came to."""
        while not JobStatus(self.client.get_job_status(submission)).is_terminal():
            time.sleep(POLL_S)
        return self.client.get_job_info(submission)

    def follow(self, submission: str, write: Callable[[str], None]) -> JobDetails:
        """Pass on the job's log from its beginning to the job's end; return what it came to.

        Raises:
            ConfigError: the cluster is gone.
        """
        shown = 0

        async def tail() -> None:
            nonlocal shown
            place = 0  # the server begins with the first line again after a connection was lost
            async for text in self.client.tail_job_logs(submission):
                new = text[max(0, shown - place) :]
                place += len(text)
                shown = max(shown, place)
                write(new)

        while True:
            try:
                asyncio.run(tail())
                return self.ended(submission)
            except (RuntimeError, OSError, ClientError):
                require_answer(self.address)
                time.sleep(POLL_S)

    def stop(self, submission: str) -> JobDetails:
        """Tell the job to end, and wait until it has."""
        self.client.stop_job(submission)
        return self.ended(submission)


def exit_code(job: JobDetails) -> int:
    """Return the exit code of a job that has ended."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.status == JobStatus.STOPPED:
        return STOPPED_CODE
    code = job.driver_exit_code
    return 1 if not code else code if code > 0 else 128 - code


def require_answer(address: str) -> None:
    """Look whether anybody answers at an address; Ray's client would try for minutes."""
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError([f"--address: {address!r} is no job server's: use http://HOST:8265, Ray's dashboard"])
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError([f"--address: nobody answers at {address}: {error}"]) from None


@contextmanager
def environment_without(*names: str) -> Iterator[None]:
    """Hide environment variables for a while."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def first_line(error: Exception) -> str:
    """Return the line of an error that says what it is."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
