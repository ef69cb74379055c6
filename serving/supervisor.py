"""The supervisor: holds the address, keeps the worker processes alive, and ends with all of them."""

import json
import logging
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from serving.settings import DRAIN_SECONDS, Settings

log = logging.getLogger("serving")

TICK_SECONDS = 0.1
PATIENCE_SECONDS = DRAIN_SECONDS + 5
"""How long a stop waits for the workers, once they have drained, before it kills them."""
SETTLED_SECONDS = 60.0
"""A worker that has lived so long is taken for sound: when it dies, the next one starts at once."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


@dataclass
class Worker:
    """A place for a worker process."""

    number: int
    process: subprocess.Popen[bytes]
    born: float
    deaths: int = 0
    """In a row, each soon after its birth."""
    due: float | None = None
    """When the next process starts; None while there is one."""

    def pause(self) -> float:
        """Return how long to wait before the next start; longer after every early death."""
        return 0.0 if self.deaths == 0 else float(min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** (self.deaths - 1)))


class Supervisor:
    """Imports neither torch nor the web framework: it is small, and there is little in it that could fail.

    A worker holds the reading end of a pipe, its standard input, and ends when that is closed: however the supervisor
    dies, no process is left behind.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self.settings, self.listener = settings, listener
        self.directory = Path(tempfile.mkdtemp(prefix="recsys-mtl-serve-"))
        self.counts = Counts(self.directory)
        self.is_stopping = False

    def run(self) -> None:
        """Keep the workers alive until a signal ends it."""
        handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        workers = [Worker(number, self._spawn(number), time.monotonic()) for number in range(self.settings.workers)]
        try:
            while not self.is_stopping:
                for worker in workers:
                    self._look_after(worker)
                self.counts.alive(sum(worker.due is None for worker in workers))
                time.sleep(TICK_SECONDS)
        finally:
            self._end(workers)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        self.is_stopping = True

    def _look_after(self, worker: Worker) -> None:
        now = time.monotonic()
        if worker.due is None and worker.process.poll() is not None:
            close(worker.process.stdin)
            self.counts.died(worker.number)
            worker.deaths = 0 if now - worker.born >= SETTLED_SECONDS else worker.deaths + 1
            worker.due = now + worker.pause()
            log.error("worker %d %s; another one follows", worker.number, ending(worker.process.returncode))
        if worker.due is not None and now >= worker.due:
            worker.process, worker.born, worker.due = self._spawn(worker.number), now, None

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        descriptor = self.listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.worker"], stdin=subprocess.PIPE, pass_fds=(descriptor,)
        )
        settings = self.settings.model_dump(mode="json")
        order = {"settings": settings, "listener": descriptor, "number": number, "directory": str(self.directory)}
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            log.debug("worker %d died before it was told what to do", number)
        return process

    def _end(self, workers: list[Worker]) -> None:
        self.listener.close()  # a client that the workers do not take any more is to notice at once
        processes = [worker.process for worker in workers]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self.settings.drain_s + PATIENCE_SECONDS
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("a worker that does not end is killed")
                process.kill()
                process.wait()
            close(process.stdin)
        shutil.rmtree(self.directory, ignore_errors=True)


class Counts:
    """What the supervisor adds to the metrics that its workers give."""

    def __init__(self, directory: Path) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        from serving.shared import SUPERVISOR, Shared

        registry = CollectorRegistry()
        self.shared = Shared(directory, SUPERVISOR).join()
        self.restarts = Counter(
            "recsys_worker_restarts", "Worker processes that died by themselves.", registry=registry
        )
        self.workers = Gauge(
            "recsys_workers", "Worker processes that live.", registry=registry, multiprocess_mode="livesum"
        )

    def alive(self, workers: int) -> None:
        """Note how many live."""
        self.workers.set(workers)

    def died(self, number: int) -> None:
        """Count a death, and leave out what the worker said of its present."""
        self.restarts.inc()
        self.shared.forget(number)


def ending(code: int) -> str:
    """Say how a process ended."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def close(pipe: IO[Any] | None) -> None:
    """Close the pipe to a process, which may have ended before it has read all of it."""
    try:
        if pipe is not None:
            pipe.close()
    except BrokenPipeError:
        log.debug("a worker has not read its orders")
