"""A Ray cluster with its job server, as `ray start --head` makes one: started for a test, and ended with it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from ray._private.authentication_test_utils import reset_auth_token_state

from tests.distributed.processes import free_port

START_S = 120


@contextmanager
def token() -> Iterator[None]:
    """Let this process and those that it starts know a token of their own, as users set one for their cluster."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
        reset_auth_token_state()
        yield
    reset_auth_token_state()


@contextmanager
def ray_head(*, cpus: int = 2) -> Iterator[str]:
    """Yield the address of the job server, which asks for a token that this process knows."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    programs = Path(sys.executable).parent
    home = tempfile.mkdtemp(prefix="ray-")  # short: its sockets have paths of limited length
    command = [
        str(programs / "ray"), "start", "--head", "--block", "--temp-dir", home, "--num-cpus", str(cpus),
        "--node-ip-address", "127.0.0.1", "--port", str(free_port()), "--dashboard-host", "127.0.0.1",
        "--dashboard-port", str(port), "--dashboard-agent-listen-port", str(free_port()),
        "--dashboard-agent-grpc-port", str(free_port()), "--ray-client-server-port", str(free_port()),
        "--disable-usage-stats",
    ]  # fmt: skip
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    with (
        token(),
        subprocess.Popen(
            command, env={**os.environ, **path}, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        ) as head,
    ):
        try:
            wait_for(f"{address}/api/version", head)
            yield address
        finally:
            end(head)
            shutil.rmtree(home, ignore_errors=True)


def wait_for(url: str, head: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert head.poll() is None, "the cluster did not start"
        assert time.monotonic() < deadline, "the job server did not start"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it asks for the token, which Ray's client knows
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)


def end(head: "subprocess.Popen[bytes]") -> None:
    """End the cluster and wait for all of its processes."""
    if head.poll() is not None:
        return
    family = psutil.Process(head.pid).children(recursive=True)
    head.terminate()
    _, alive = psutil.wait_procs(family, timeout=30)
    for process in alive:
        process.kill()
    head.wait(30)
