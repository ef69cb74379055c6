"""Points of a chart on their way to a server that may be slow or away: on disk until it has them."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

BATCH_POINTS = 1000
"""Most points that MLflow takes in one request, and that are in memory at once."""
POINTS, SENT = "points.jsonl", "points.sent"


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    timestamp: int
    """Milliseconds since 1970, of when it was measured: a point that is sent twice stays one point."""
    step: int


class Outbox:
    """Sends points in batches, in their order, from a thread of its own: training never waits for the server.

    Points lie in a file, one a line, from when they are put until they are sent; how far they are sent is beside it.
    What a process that died had not sent is sent by the next one that opens the same folder. A batch that could not be
    sent is sent again when more points are due. Only ``close`` waits, and only ``close`` raises.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Point]], None],
        folder: Path,
        *,
        every_seconds: float,
        say: Callable[[str], None] = logger.warning,
    ) -> None:
        """``send`` takes at most ``BATCH_POINTS`` points; ``say`` hears when the server goes away and comes back."""
        self._send, self._say, self._every_seconds = send, say, every_seconds
        self._file, self._mark = folder / POINTS, folder / SENT
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._lock = threading.Lock()
        self._sending: Future[None] | None = None
        self._is_away = False
        self._sent_at = time.monotonic()
        self._unwritten = b""
        """What the disk did not take."""
        self._sent, self._size, self._waiting = _recovered(self._file, self._mark)

    def put(self, points: Sequence[Point]) -> None:
        """Add points; start sending where there are enough or they have waited long."""
        self._write(points)
        full = self._waiting >= BATCH_POINTS and not self._is_away
        if full or time.monotonic() - self._sent_at >= self._every_seconds:
            self.flush()

    def flush(self) -> None:
        """Start sending what waits, unless that is under way."""
        if self._sending is None or self._sending.done():
            self._sent_at = time.monotonic()
            self._sending = self._thread.submit(self._run_quietly)

    def unsent(self, most: int) -> list[Point]:
        """Return the first ``most`` points that the server is not known to have taken."""
        with self._lock:
            return [point for point, _ in islice(self._read(), most)]

    def close(self) -> None:
        """Send everything that is left and wait for it; can be tried again.

        Raises:
            Exception: what ``send`` raised on the last try.
        """
        self._thread.shutdown()
        self._write(())
        self._run()

    def remove(self) -> None:
        """Remove the files, which are empty after `close`."""
        for file in (_draft(self._mark), self._mark, self._file):
            file.unlink(missing_ok=True)

    def _write(self, points: Sequence[Point]) -> None:
        """Put points on disk. Where that fails they stay in memory: a full disk does not end a training."""
        with self._lock:
            self._waiting += len(points)
            self._unwritten += b"".join(json.dumps(point).encode() + b"\n" for point in points)
            if not self._unwritten:
                return
            try:
                with self._file.open("r+b") as file:
                    file.seek(self._size)
                    file.write(self._unwritten)
                    file.truncate()  # behind it lies what an earlier write left that failed or was cut off
            except OSError as error:
                logger.warning("%d metric values are in memory alone: %s", self._unwritten.count(b"\n"), error)
            else:
                self._size += len(self._unwritten)
                self._unwritten = b""

    def _run_quietly(self) -> None:
        try:
            self._run()
        except Exception as error:
            if not self._is_away:
                problem = f"the tracking server did not take them: {error}"
                self._say(f"{self._waiting} metric values wait in {self._file.parent}: {problem}")
            self._is_away = True

    def _run(self) -> None:
        while True:
            with self._lock:
                batch = list(islice(self._read(), BATCH_POINTS))
            if not batch:
                return
            self._send([point for point, _ in batch])
            self._advance(batch[-1][1], len(batch))
            if self._is_away:
                self._say("the tracking server is back")
            self._is_away = False

    def _read(self) -> Iterator[tuple[Point, int]]:
        """Yield the points that wait, each with the place in the file behind it."""
        with self._file.open("rb") as file:
            place = file.seek(self._sent)
            while place < self._size:
                line = file.readline()
                place += len(line)
                yield Point(*json.loads(line)), place

    def _advance(self, place: int, count: int) -> None:
        """Note what the server has; a file that it has all of begins anew."""
        with self._lock:
            self._waiting -= count
            self._sent = 0 if place == self._size else place
            _replace(self._mark, str(self._sent))
            if self._sent == 0:
                self._file.write_bytes(b"")
                self._size = 0


def _recovered(file: Path, mark: Path) -> tuple[int, int, int]:
    """Return how far the file is sent, its length without a line that was cut off, and the points that wait."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    content = file.read_bytes()
    size = content.rfind(b"\n") + 1
    sent = min(int(mark.read_text(encoding="utf-8")), size) if mark.exists() else 0
    return sent, size, content.count(b"\n", sent)


def _replace(path: Path, text: str) -> None:
    _draft(path).write_text(text, encoding="utf-8")
    _draft(path).replace(path)


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.draft")
