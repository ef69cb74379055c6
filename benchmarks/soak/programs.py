"""Servers that can be ended and started again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.serving.servers import PATIENCE

END_SECONDS = 60.0


@dataclass
class Program:
    """A program in a process group of its own, which writes to a file."""

    name: str
    command: list[str]
    log: Path
    is_ready: Callable[[], bool]
    variables: Mapping[str, str] = field(default_factory=dict)
    process: psutil.Popen | None = None

    def start(self) -> float:
        """Start it; return the seconds until it was ready.

        Raises:
            RuntimeError: it has ended, or is not ready in time; with what it wrote.
        """
        start = time.monotonic()
        with self.log.open("ab") as log:
            self.process = psutil.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **self.variables}
            )
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() - start > PATIENCE:
                raise RuntimeError(f"{self.name} is not ready: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        return time.monotonic() - start

    def family(self) -> list[psutil.Process]:
        """Return its processes, the first one first."""
        try:
            return [] if self.process is None else [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> list[psutil.Process]:
        """Tell it to end; return the processes that have not ended with it, which are killed."""
        if self.process is None:
            return []
        family = self.family()
        try:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(END_SECONDS)
        except (psutil.Error, subprocess.TimeoutExpired):
            pass
        _, left = psutil.wait_procs(family, timeout=1.0)
        for process in left:
            process.kill()
        self.process = None
        return list(left)
