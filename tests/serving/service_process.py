"""The service as processes, on a free port of the loopback interface."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

SECONDS = 180
"""Several processes that import torch on a busy machine take a while."""


@dataclass(frozen=True)
class Running:
    """A service that a test has started."""

    process: subprocess.Popen[bytes]
    log: Path
    address: str

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.address}{path}", timeout=SECONDS)

    def workers(self) -> list[psutil.Process]:
        try:
            return [child for child in psutil.Process(self.process.pid).children() if child.is_running()]
        except psutil.NoSuchProcess:
            return []

    def sample(self, name: str) -> float:
        """Read one sample of the metrics, 0 where it is not there yet."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0


def until(is_so: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@contextmanager
def service(log: Path, **settings: object) -> Iterator[Running]:
    """Start ``python -m serving``, wait until it listens, and end it whatever happens."""
    given = {f"RECSYS_MTL_{name.upper()}": str(value) for name, value in ({"port": 0} | settings).items()}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "serving"], env=os.environ | given, stdout=out, stderr=out)
    children: list[psutil.Process] = []
    try:
        until(lambda: process.poll() is not None or "listening on" in log.read_text(), log)
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", log.read_text())
        assert found, log.read_text()
        running = Running(process, log, found[1])
        yield running
        children = running.workers()
    finally:
        process.kill()
        process.wait(30)
        psutil.wait_procs(children, 30)
