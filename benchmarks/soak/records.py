"""What a soak leaves behind: a line for every request, the phases, and the samples of the service's processes."""

import json
from dataclasses import dataclass
from pathlib import Path

EVENT = "event"
"""Name of the request that reports one."""
WRONG = "wrong answer"


@dataclass(frozen=True)
class Record:
    """A request. Times are those of the monotonic clock, which all processes of a machine share."""

    due: float
    seconds: float
    """From when it was due until its answer was there, or until it failed."""
    ask: str
    port: int
    """The client's own, which names the connection; 0 if there was none."""
    version: str
    """Which answered."""
    failure: str
    """Empty if there was none."""

    @property
    def kind(self) -> str:
        """How it failed, without the details: ``refused``, ``reset``, ``timeout``, ``wrong answer`` or a status."""
        head = self.failure.partition(":")[0]
        return head if head in ("", "refused", "reset", "timeout", WRONG) else head.partition(" ")[0]


@dataclass(frozen=True)
class Phase:
    """A part of the soak."""

    name: str
    start: float
    end: float
    store_away: bool = False
    """Whether the feature store cannot be reached, so that events are refused, as they should be."""

    def has(self, moment: float) -> bool:
        """Say whether a moment is in it."""
        return self.start <= moment < self.end

    def meets(self, record: Record) -> bool:
        """Say whether a request was under way in it."""
        return record.due < self.end and record.due + record.seconds >= self.start


@dataclass(frozen=True)
class Swap:
    """A move of the alias."""

    version: str
    start: float
    seconds: float | None
    """Until all workers answered with the version; None if they did not in time."""


@dataclass(frozen=True)
class Killed:
    """A worker that was killed."""

    at: float
    ports: frozenset[int]
    """The client's ends of the connections that it had."""
    seconds: float | None
    """Until there were as many workers as before, all of them with a model."""

    def had(self, record: Record) -> bool:
        """Say whether a request was on one of the connections. Ports are used again, but not at once."""
        return record.port in self.ports and abs(record.due - self.at) < 30


@dataclass(frozen=True)
class Sample:
    """The service's processes at a moment, together."""

    at: float
    processes: int
    pss: float
    """MiB; a page that several processes share counts once, in parts."""
    rss: float
    """MiB; such a page counts in full for each."""
    files: int
    threads: int


def read_records(path: Path) -> list[Record]:
    """Read what the client wrote."""
    return [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
