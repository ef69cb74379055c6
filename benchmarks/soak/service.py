"""The service that the soak is about: its processes, and what it says of itself."""

import http.client
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving.servers import answers, free_port
from benchmarks.soak.programs import Program
from benchmarks.soak.records import Killed, Sample
from benchmarks.soak.registry import ADDRESS

MIB = 2**20
SECONDS = 15.0
"""How long an answer is waited for."""


class Service:
    """`recsys-mtl serve` with several workers, as its users start it."""

    def __init__(self, folder: Path, workers: int, poll_seconds: float, registry: str, store: str | None) -> None:
        self.port, self.workers = free_port(), workers
        settings: dict[str, object] = {"model": ADDRESS, "tracking_uri": registry, "cache_dir": folder / "cache"}
        settings |= {"port": self.port, "workers": workers, "poll_seconds": poll_seconds, "supervise": "true"}
        settings |= {} if store is None else {"store": store}
        variables = {f"RECSYS_MTL_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "pipelines.cli", "serve"]
        self.program = Program("the service", command, folder / "service.log", self._is_ready, variables)

    def metrics(self, name: str, **labels: str) -> float:
        """Add up the samples of a metric that have these labels."""
        text = self._ask("GET", "/metrics").decode()
        lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for found, value in lines if all(one in found for one in wanted))

    def all_answer_with(self, version: str) -> bool:
        """Say whether all workers live and have loaded a version."""
        return self.metrics("recsys_model_info", version=version, role="champion") == self.workers

    def readiness(self) -> dict[str, Any]:
        """Return what one of the workers says of its model."""
        return json.loads(self._ask("GET", "/readyz"))  # type: ignore[no-any-return]

    def score(self, body: bytes) -> dict[str, Any]:
        """Score candidates."""
        return json.loads(self._ask("POST", "/v1/score", body))  # type: ignore[no-any-return]

    def kill_worker(self) -> Killed:
        """Kill one; what it is connected with is read while it stands still, so that nothing is missed."""
        victim = self.program.family()[1]
        victim.send_signal(signal.SIGSTOP)
        ports = frozenset(one.raddr.port for one in victim.net_connections("tcp") if one.raddr)
        at = time.monotonic()
        victim.kill()
        return Killed(at, ports, None)

    def sample(self) -> Sample:
        """Measure its processes, of which one may have ended just now."""
        pss = rss = files = threads = count = 0
        for process in self.program.family():
            try:
                info, descriptors = process.memory_full_info(), process.num_fds()
            except (psutil.NoSuchProcess, FileNotFoundError):
                continue
            pss, rss, files = pss + info.pss, rss + info.rss, files + descriptors
            threads, count = threads + process.num_threads(), count + 1
        return Sample(time.monotonic(), count, pss / MIB, rss / MIB, files, threads)

    def _is_ready(self) -> bool:
        return answers(self.port, "/readyz")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Ask on a connection of its own.

        Raises:
            OSError: there is no answer, or one that is not 200.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise OSError(f"{path}: {response.status} {content[:200]!r}")
            return content
        except http.client.HTTPException as error:
            raise OSError(f"{path}: {error!r}") from None
        finally:
            connection.close()
