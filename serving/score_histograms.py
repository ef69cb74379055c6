"""Histograms that take a whole request's scores at once: a call for each score would cost more than the model."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.row_table import KEY, Rows, RowTable
from serving.shared import Shared

MOST_ROWS = 256
"""Objectives that one service may meet in all the models that it ever serves; counts of further ones are left out."""
BETWEEN = "\t"
"""Between the labels in a row's key."""


@dataclass(frozen=True)
class Family:
    """What a histogram is called, and where its buckets end."""

    name: str
    help: str
    labels: tuple[str, ...]
    bounds: Sequence[float]

    @property
    def row(self) -> np.dtype[Any]:
        """Counts of one key: one for each bucket, one for what lies above them all, and the sum of the values."""
        return np.dtype([KEY, ("counts", np.int64, (len(self.bounds) + 1,)), ("sum", np.float64)])


class ScoreHistograms(Collector):
    """A histogram for each objective. Worker processes count in files that all of them read."""

    def __init__(self, family: Family, shared: Shared | None) -> None:
        self.family = family
        self.lock = threading.Lock()
        self.table = RowTable(f"{family.name}.rows", family.row, MOST_ROWS, shared)

    def observe(self, labels: tuple[str, ...], scores: npt.NDArray[np.float64]) -> None:
        """Add scores of an objective."""
        bounds = self.family.bounds
        counts = np.bincount(np.searchsorted(bounds, scores), minlength=len(bounds) + 1)
        with self.lock:
            if (place := self.table.place(BETWEEN.join(labels).encode())) is not None:
                self.table.rows["counts"][place] += counts
                self.table.rows["sum"][place] += float(scores.sum())

    def collect(self) -> Iterable[Metric]:
        counts: dict[bytes, Rows] = {}
        sums: dict[bytes, float] = {}
        with self.lock:
            tables = list(self.table.used())
        for rows in tables:
            for row in rows:
                key = bytes(row["key"])
                counts[key] = counts.get(key, 0) + row["counts"]
                sums[key] = sums.get(key, 0.0) + float(row["sum"])
        family = HistogramMetricFamily(self.family.name, self.family.help, labels=self.family.labels)
        bounds = [*map(str, self.family.bounds), "+Inf"]
        for key, per_bucket in counts.items():
            cumulative = [float(count) for count in np.cumsum(per_bucket)]
            family.add_metric(key.decode().split(BETWEEN), list(zip(bounds, cumulative, strict=True)), sums[key])
        yield family
