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

MOST_ROWS = 256
"""Objectives that one service may meet in all the models that it ever serves; counts of further ones are left out."""
LONGEST_KEY = 128
BETWEEN = "\t"
"""Between the labels in a row's key."""

Rows = npt.NDArray[Any]


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
        counts = ("counts", np.int64, (len(self.bounds) + 1,))
        return np.dtype([("key", f"S{LONGEST_KEY}"), counts, ("sum", np.float64)])


class ScoreHistograms(Collector):
    """A histogram for each objective. Worker processes count in files that all of them read."""

    def __init__(self, family: Family, shared: Shared | None) -> None:
        self.family, self.shared = family, shared
        self.lock = threading.Lock()
        self.rows = np.zeros(MOST_ROWS, family.row) if shared is None else self._mapped(shared.file(self._name))
        keys: list[bytes] = self.rows["key"].tolist()
        self.places = {key: place for place, key in enumerate(keys) if key}

    def observe(self, labels: tuple[str, ...], scores: npt.NDArray[np.float64]) -> None:
        """Add scores of an objective."""
        bounds = self.family.bounds
        counts = np.bincount(np.searchsorted(bounds, scores), minlength=len(bounds) + 1)
        with self.lock:
            if (place := self._place(BETWEEN.join(labels).encode())) is not None:
                self.rows["counts"][place] += counts
                self.rows["sum"][place] += float(scores.sum())

    def collect(self) -> Iterable[Metric]:
        counts: dict[bytes, Rows] = {}
        sums: dict[bytes, float] = {}
        for rows in self._tables():
            for row in rows[rows["key"] != b""]:
                key = bytes(row["key"])
                counts[key] = counts.get(key, 0) + row["counts"]
                sums[key] = sums.get(key, 0.0) + float(row["sum"])
        family = HistogramMetricFamily(self.family.name, self.family.help, labels=self.family.labels)
        bounds = [*map(str, self.family.bounds), "+Inf"]
        for key, per_bucket in counts.items():
            cumulative = [float(count) for count in np.cumsum(per_bucket)]
            family.add_metric(key.decode().split(BETWEEN), list(zip(bounds, cumulative, strict=True)), sums[key])
        yield family

    @property
    def _name(self) -> str:
        return f"{self.family.name}.rows"

    def _place(self, key: bytes) -> int | None:
        place = self.places.get(key)
        if place is None and len(self.places) < MOST_ROWS and len(key) <= LONGEST_KEY:
            place = self.places[key] = len(self.places)
            self.rows["key"][place] = key
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
            file.truncate(MOST_ROWS * self.family.row.itemsize)
        return np.memmap(path, self.family.row, "r+")
