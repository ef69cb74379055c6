"""Metrics, tables and files of a run on their way from a worker to MLflow: on disk until it has them."""

import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recsys_mtl.tracking.client import RunHandle, connect
from recsys_mtl.tracking.errands import Errands
from recsys_mtl.tracking.outbox import Outbox, Point
from recsys_mtl.tracking.patience import may_pass
from recsys_mtl.tracking.shelf import Document, Shelf
from recsys_mtl.tracking.store import TrackingConfig
from recsys_mtl.tracking.tables import Row, Table

logger = logging.getLogger(__name__)

TAG_LENGTH = 5000
"""Longest tag that every version of MLflow's databases keeps."""
MOST_CARRIED = 100_000
"""Unsent points that a checkpoint takes along: more lie in the folder alone."""


class MetricLog(RunHandle):
    """Metrics of a run by global step, tables, texts and files, from the one worker that reports them.

    Everything is kept in a folder until the server has it, and sent in the background. A step that a metric already
    has, from before a crash, is not sent again. The server need not be there before the end, and not even then: what it
    has not taken stays in the folder for the next one that opens it.
    """

    def __init__(
        self,
        config: TrackingConfig,
        run_id: str,
        *,
        flush_seconds: float = 5.0,
        say: Callable[[str], None] = logger.warning,
    ) -> None:
        """``say`` hears when the server goes away and comes back."""
        super().__init__(connect(config.uri, may_be_away=True), run_id)
        self.folder, self.say = config.folder(run_id), say
        self.skipped: Counter[str] = Counter()
        """Values of each metric that were left out because a chart cannot show them: NaN and infinities."""
        self._is_open, self._is_delivered = True, False
        self._old: set[str] | None = None
        self._seen: dict[str, set[int]] = {}
        self._tables: dict[str, Table] = {}
        self._errands = Errands()
        self._outbox = Outbox(self._send, self.folder, every_seconds=flush_seconds, say=say)
        self._shelf = Shelf(self.folder / "shelf")
        for document in list(self._shelf.documents.values()):
            self._post(document)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log values at a global step, such as ``{"valid/is_click/auc": 0.71}``."""
        now = time.time_ns() // 1_000_000
        finite = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
        self.skipped.update(metrics.keys() - finite.keys())
        self._outbox.put([Point(key, value, now, step) for key, value in finite.items()])

    def log_rows(self, path: str, rows: Sequence[Row], *, key: tuple[str, ...]) -> None:
        """Add rows to a table, which the run's page shows; ``key`` names the columns that tell measurements apart.

        A measurement that the table has, from before a crash, is replaced.
        """
        if rows:
            self._post({"kind": "table", "path": path, "key": list(key), "rows": list(rows)})

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags in the background; a text that is too long for MLflow is cut."""
        cut = {name: text if len(text) <= TAG_LENGTH else text[: TAG_LENGTH - 1] + "…" for name, text in tags.items()}
        self._post({"kind": "tags", "tags": cut})

    def keep_text(self, path: str, text: str) -> None:
        """Keep a text as ``path`` among the run's files, in the background."""
        self._post({"kind": "text", "path": path, "text": text})

    @contextmanager
    def new_files(self) -> Iterator[Path]:
        """Make files in a folder, which are among the run's files after the next delivery: all of them or none."""
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir()
        yield self._draft
        shutil.rmtree(self._files, ignore_errors=True)
        self._draft.rename(self._files)

    @property
    def _draft(self) -> Path:
        return self.folder / "draft"

    @property
    def _files(self) -> Path:
        return self.folder / "files"

    def unsent(self) -> dict[str, Any]:
        """Return what the server is not known to have, as plain values for `resend`."""
        points = [list(point) for point in self._outbox.unsent(MOST_CARRIED)]
        return {"points": points, "documents": list(self._shelf.documents.values())}

    def resend(self, unsent: Mapping[str, Any]) -> None:
        """Log what was left unsent when the process before this one ended; what has arrived after all stays once."""
        self._outbox.put([Point(*values) for values in unsent["points"]])
        for document in unsent["documents"]:
            self._post(document)

    def _post(self, document: Document) -> None:
        """Keep a document on disk, and bring it to the server soon."""
        if document["kind"] == "table":
            path = document["path"]
            table = self._tables.setdefault(path, Table(self, path, tuple(document["key"])))
            table.add(document["rows"])
            document = {**document, "rows": table.rows}
        name = document["path"] if document["kind"] != "tags" else ",".join(sorted(document["tags"]))
        self._shelf.put(name, document)
        self._errands.put(name, partial(self._bring, name, document))

    def _bring(self, name: str, document: Document) -> None:
        if document["kind"] == "table":
            self._tables[name].write()
        elif document["kind"] == "tags":
            self.set_tags(document["tags"])
        else:
            self.log_text(document["text"], document["path"])
        self._shelf.drop(name, document)

    def _send(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        first = {(point.key, point.step): point for point in reversed(points)}
        new = [point for (key, step), point in reversed(first.items()) if step not in self._steps(key)]
        if new:
            self.client.log_batch(self.run_id, metrics=[Metric(*point) for point in new])
        for point in new:
            self._seen[point.key].add(point.step)

    def _steps(self, key: str) -> set[int]:
        """Return the steps of a metric that the server has."""
        if self._old is None:
            self._old = set(self.client.get_run(self.run_id).data.metrics)
        if key not in self._seen:
            history = self.client.get_metric_history(self.run_id, key) if key in self._old else ()
            self._seen[key] = {point.step for point in history}
        return self._seen[key]

    def deliver(self) -> None:
        """Bring everything to the server, which is the last thing to do; it can be tried again, also elsewhere.

        Raises:
            Exception: the server is away, or refuses something; everything stays in the folder.
        """
        if self.skipped and self._is_open:
            lines = [f"{key}: {count}" for key, count in sorted(self.skipped.items())]
            self.tag({"metrics_not_finite": "\n".join(lines)})
        self._is_open = False
        try:
            self._outbox.close()
        finally:
            self._errands.close()
        if self._files.is_dir():
            self.log_artifacts(self._files)
            shutil.rmtree(self._files)
        for folder in (self._shelf.folder, self._draft):
            shutil.rmtree(folder, ignore_errors=True)
        self._outbox.remove()
        with suppress(OSError):  # how the run ended may be there, too
            self.folder.rmdir()
        self._is_delivered = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if not self._is_delivered:
                self.deliver()
        except Exception as problem:
            if error is None and not may_pass(problem):
                raise
            logger.warning("run %s: its last metrics wait in %s: %s", self.run_id, self.folder, problem)
