"""What the worker processes of one service share: a directory, in which each has files under its own number."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SUPERVISOR = -1
"""The number of the supervisor; workers count from 0."""
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Variable by which prometheus_client finds out, when it is imported, that metrics live in files."""


@dataclass(frozen=True)
class Shared:
    """One process's part in it.

    Its number outlives the process: a worker that takes the place of a dead one opens the same files and counts on, so
    that sums never fall (which a monitor would take for a restart), and files do not pile up.
    """

    directory: Path
    number: int

    def join(self) -> "Shared":
        """Let the process's metrics live here; before the first of them is made."""
        os.environ[DIRECTORY] = str(self.directory)
        values.ValueClass = values.MultiProcessValue(lambda: self.number)
        return self

    def file(self, name: str) -> Path:
        """Name a file of this process."""
        return self.directory / f"{name}.{self.number}"

    def files(self, name: str) -> Iterator[Path]:
        """Yield the same file of every process."""
        return self.directory.glob(f"{name}.*")

    def collect_into(self, registry: CollectorRegistry) -> None:
        """Let a registry give the sums over all processes."""
        MultiProcessCollector(registry, path=str(self.directory))

    def forget(self, number: int) -> None:
        """Leave out what a dead process said of its present; what it had counted stays."""
        mark_process_dead(number, path=str(self.directory))
