"""Servers of a bundle, each started on a free port of this machine and ended with all its processes."""

import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.bodies import Json, as_frame, as_ours, as_rows
from recsys_mtl.config import ConfigError

PATIENCE = 180
"""Seconds to be ready."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    body: Callable[[Json], bytes]
    """Writes a request the way the server reads it."""
    start_s: float
    """Seconds from its start until it was ready."""


@contextmanager
def ours(bundle: Path, workers: int, store: str | None = None, **more: object) -> Iterator[Server]:
    """Serve with `recsys-mtl serve`; ``more`` are settings by name."""
    port = free_port()
    settings = {"RECSYS_MTL_MODEL": str(bundle), "RECSYS_MTL_PORT": str(port), "RECSYS_MTL_WORKERS": str(workers)}
    settings |= {"RECSYS_MTL_LOG_REQUESTS": "0"} | ({} if store is None else {"RECSYS_MTL_STORE": store})
    settings |= {f"RECSYS_MTL_{name.upper()}": str(value) for name, value in more.items()}
    with running([sys.executable, "-m", "serving"], port, "/readyz", settings) as seconds:
        yield Server(f"http://127.0.0.1:{port}/v1/rank", as_ours, seconds)


@contextmanager
def mlflow_serve(bundle: Path, workers: int) -> Iterator[Server]:
    """Serve with `mlflow models serve`."""
    from benchmarks.serving.peers import save_pyfunc

    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        save_pyfunc(bundle, Path(directory) / "model")
        serve = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1"]
        command = [*serve, "--model-uri", f"{directory}/model", "--port", str(port), "--workers", str(workers)]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it looks for uvicorn there
        with running(command, port, "/ping", {"PATH": path}) as seconds:
            yield Server(f"http://127.0.0.1:{port}/invocations", as_frame, seconds)


@contextmanager
def ray_serve(bundle: Path, workers: int) -> Iterator[Server]:
    """Serve with Ray Serve."""
    if importlib.util.find_spec("grpc_reflection") is None:
        raise ConfigError(['Ray Serve is not installed: pip install "ray[serve]", or leave it out: --peers mlflow'])
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.peers", str(bundle), str(port), str(workers)]
    with running(command, port, "/-/routes", {}) as seconds:
        yield Server(f"http://127.0.0.1:{port}/", as_rows, seconds)


PEERS = {"mlflow": ("mlflow models serve", mlflow_serve), "ray": ("Ray Serve", ray_serve)}


@contextmanager
def running(command: list[str], port: int, path: str, variables: dict[str, str]) -> Iterator[float]:
    """Run a server in a process group of its own; yield the seconds until it answered ``path`` with 200.

    Raises:
        RuntimeError: it has ended, or is not ready in time; with what it wrote.
    """
    with tempfile.TemporaryFile() as log:
        start = time.monotonic()
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **variables}
        )
        try:
            while not answers(port, path):
                if process.poll() is not None or time.monotonic() - start > PATIENCE:
                    log.seek(0)
                    raise RuntimeError(f"{command[2]} is not ready: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.05)
            yield time.monotonic() - start
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and what it has started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def answers(port: int, path: str) -> bool:
    """Ask whether the server is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
