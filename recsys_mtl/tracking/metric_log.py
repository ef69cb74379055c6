"""Metrics and tables of a run on their way from a worker to MLflow."""

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from recsys_mtl.tracking.client import RunHandle, connect
from recsys_mtl.tracking.errands import Errands
from recsys_mtl.tracking.outbox import Outbox, Point
from recsys_mtl.tracking.tables import Row, Table

logger = logging.getLogger(__name__)

TAG_LENGTH = 5000
"""Longest tag that every version of MLflow's databases keeps."""


class MetricLog(RunHandle):
    """Metrics of a run by global step, and tables, from the one worker that reports them.

    A step that a metric already has, from before a crash, is not logged again. Values are sent in the background;
    closing waits for them.
    """

    def __init__(self, uri: str, run_id: str, *, flush_seconds: float = 5.0) -> None:
        super().__init__(connect(uri), run_id)
        self.skipped: Counter[str] = Counter()
        """Values of each metric that were left out because a chart cannot show them: NaN and infinities."""
        self._old = set(self.client.get_run(run_id).data.metrics)
        self._seen: dict[str, set[int]] = {}
        self._outbox = Outbox(self._send, every_seconds=flush_seconds)
        self._tables: dict[str, Table] = {}
        self._errands = Errands()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log values at a global step, such as ``{"valid/is_click/auc": 0.71}``."""
        now = time.time_ns() // 1_000_000
        self.skipped.update(key for key, value in metrics.items() if not math.isfinite(value))
        self._outbox.put(
            [
                Point(key, float(value), now, step)
                for key, value in metrics.items()
                if math.isfinite(value) and self._is_new(key, step)
            ]
        )

    def log_rows(self, path: str, rows: Sequence[Row], *, key: tuple[str, ...]) -> None:
        """Add rows to a table, which the run's page shows; ``key`` names the columns that tell measurements apart.

        A measurement that the table has, from before a crash, is replaced.
        """
        if rows:
            table = self._tables.setdefault(path, Table(self, path, key))
            table.add(rows)
            self._errands.put(path, table.write)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags in the background; a text that is too long for MLflow is cut."""
        cut = {name: text if len(text) <= TAG_LENGTH else text[: TAG_LENGTH - 1] + "…" for name, text in tags.items()}
        self._errands.put(",".join(sorted(cut)), lambda: self.set_tags(cut))

    def unsent(self) -> dict[str, Any]:
        """Return what the server is not known to have, as plain values for `resend`."""
        waiting = {path: table for path, table in self._tables.items() if self._errands.is_waiting(path)}
        tables = {path: {"key": table.key, "rows": table.rows} for path, table in waiting.items()}
        return {"points": [list(point) for point in self._outbox.unsent()], "tables": tables}

    def resend(self, unsent: Mapping[str, Any]) -> None:
        """Log what was left unsent when the process before this one ended; what has arrived after all stays once."""
        points = (Point(*values) for values in unsent["points"])
        self._outbox.put([point for point in points if self._is_new(point.key, point.step)])
        for path, table in unsent["tables"].items():
            self.log_rows(path, table["rows"], key=tuple(table["key"]))

    def _is_new(self, key: str, step: int) -> bool:
        if key not in self._seen:
            history = self.client.get_metric_history(self.run_id, key) if key in self._old else ()
            self._seen[key] = {point.step for point in history}
        if step in self._seen[key]:
            return False
        self._seen[key].add(step)
        return True

    def _send(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        self.client.log_batch(self.run_id, metrics=[Metric(*point) for point in points])

    def close(self) -> None:
        """Wait until everything has arrived.

        Raises:
            MlflowException: the tracking server did not take it.
        """
        try:
            self._outbox.close()
        finally:
            self._errands.close()
        if self.skipped:
            lines = [f"{key}: {count}" for key, count in sorted(self.skipped.items())]
            self.set_tags({"metrics_not_finite": "\n".join(lines)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise
            logger.exception("run %s: its last metrics are lost", self.run_id)
