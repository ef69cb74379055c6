"""Histograms that take a whole request's scores at once: a call for each score would cost more than the model."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from recsys_mtl.data.values import Floats, Ints
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
        self.bounds: Floats = np.array(family.bounds, np.float64)
        self.places: dict[tuple[tuple[str, ...], ...], Ints] = {}

    def observe(self, labels: tuple[str, ...], scores: Floats) -> None:
        """Add scores of an objective."""
        self.observe_columns((labels,), scores.reshape(-1, 1))

    def observe_columns(self, labels: tuple[tuple[str, ...], ...], scores_BT: Floats) -> None:
        """Add scores of T objectives, whose labels all differ."""
        T, N = len(labels), len(self.bounds) + 1
        bucket_BT = np.searchsorted(self.bounds, scores_BT) + N * np.arange(T)
        counts_TN = np.bincount(bucket_BT.ravel(), minlength=T * N).reshape(T, N)
        with self.lock:
            places_T = self._places(labels)
            found_T = places_T >= 0
            self.table.rows["counts"][places_T[found_T]] += counts_TN[found_T]
            self.table.rows["sum"][places_T[found_T]] += scores_BT.sum(0)[found_T]

    def _places(self, labels: tuple[tuple[str, ...], ...]) -> Ints:
        """Return the rows of the labels; -1 for those that no room is left for."""
        if (places_T := self.places.get(labels)) is None:
            found = [self.table.place(BETWEEN.join(of_one).encode()) for of_one in labels]
            places_T = self.places[labels] = np.array([-1 if place is None else place for place in found], np.int64)
        return places_T

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
