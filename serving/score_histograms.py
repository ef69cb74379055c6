"""Histograms that take a whole request's scores at once: a call for each score would cost more than the model."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.shared import Shared

MOST_TASKS = 256
"""Objectives that one service may meet in all the models that it ever serves; counts of further ones are left out."""
LONGEST_TASK = 128

Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Family:
    """What a histogram is called, and where its buckets end."""

    name: str
    help: str
    bounds: Sequence[float]

    @property
    def row(self) -> np.dtype[Any]:
        """A task's counts: one for each bucket, one for what lies above them all, and the sum of the values."""
        counts = ("counts", np.int64, (len(self.bounds) + 1,))
        return np.dtype([("task", f"S{LONGEST_TASK}"), counts, ("sum", np.float64)])


class ScoreHistograms(Collector):
    """A histogram for each objective. Worker processes count in files that all of them read."""

    def __init__(self, family: Family, shared: Shared | None) -> None:
        self.family, self.shared = family, shared
        self.lock = threading.Lock()
        self.rows = np.zeros(MOST_TASKS, family.row) if shared is None else self._mapped(shared.file(self._name))
        names: list[bytes] = self.rows["task"].tolist()
        self.places = {name.decode(): place for place, name in enumerate(names) if name}

    def observe(self, task: str, scores: npt.NDArray[np.float64]) -> None:
        """Add scores of an objective."""
        bounds = self.family.bounds
        counts = np.bincount(np.searchsorted(bounds, scores), minlength=len(bounds) + 1)
        with self.lock:
            if (place := self._place(task)) is not None:
                self.rows["counts"][place] += counts
                self.rows["sum"][place] += float(scores.sum())

    def collect(self) -> Iterable[Metric]:
        counts: dict[str, Rows] = {}
        sums: dict[str, float] = {}
        for rows in self._tables():
            for row in rows[rows["task"] != b""]:
                task = row["task"].decode()
                counts[task] = counts.get(task, 0) + row["counts"]
                sums[task] = sums.get(task, 0.0) + float(row["sum"])
        family = HistogramMetricFamily(self.family.name, self.family.help, labels=("task",))
        bounds = [*map(str, self.family.bounds), "+Inf"]
        for task, per_bucket in counts.items():
            cumulative = [float(count) for count in np.cumsum(per_bucket)]
            family.add_metric((task,), list(zip(bounds, cumulative, strict=True)), sums[task])
        yield family

    @property
    def _name(self) -> str:
        return f"{self.family.name}.rows"

    def _place(self, task: str) -> int | None:
        place = self.places.get(task)
        if place is None and len(self.places) < MOST_TASKS and len(task.encode()) <= LONGEST_TASK:
            place = self.places[task] = len(self.places)
            self.rows["task"][place] = task.encode()
        return place

    def _tables(self) -> Iterator[Rows]:
        if self.shared is None:
            with self.lock:
                yield self.rows.copy()
            return
        for path in self.shared.files(self._name):
            yield np.fromfile(path, self.family.row)

    def _mapped(self, path: Path) -> Rows:
        """Open the worker's file; one that takes the place of a dead worker goes on counting from there."""
        with path.open("ab") as file:
            file.truncate(MOST_TASKS * self.family.row.itemsize)
        return np.memmap(path, self.family.row, "r+")
