"""Counters of the values that requests bring, for all features at once: a call for each feature would add up."""

import threading
from collections.abc import Iterable

import numpy as np
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from recsys_mtl.data.values import Ints
from serving.row_table import KEY, RowTable
from serving.shared import Shared

MOST_FEATURES = 4096
FAMILIES = {
    "recsys_feature_values": "Values read: those of the user and the context once per request.",
    "recsys_feature_unknown": "Ids among them that training did not know.",
    "recsys_feature_missing": "Values among them that stand for an empty cell.",
}
ROW = np.dtype([KEY, ("counts", np.int64, (len(FAMILIES),))])


class FeatureCounts(Collector):
    """Three counters for each feature."""

    def __init__(self, shared: Shared | None) -> None:
        self.lock = threading.Lock()
        self.table = RowTable("recsys_feature_counts.rows", ROW, MOST_FEATURES, shared)
        self.places: dict[tuple[str, ...], Ints] = {}

    def add(self, names: tuple[str, ...], counts_N3: Ints) -> None:
        """Add counts of values, of unknown and of missing ones for each of the names, all of which differ."""
        with self.lock:
            if (places := self.places.get(names)) is None:
                found = [self.table.place(name.encode()) for name in names]
                places = self.places[names] = np.array([-1 if place is None else place for place in found], np.int64)
            self.table.rows["counts"][places[places >= 0]] += counts_N3[places >= 0]

    def totals(self) -> dict[str, Ints]:
        """Return the three counts of every feature, of all processes."""
        with self.lock:
            tables = list(self.table.used())
        counts: dict[str, Ints] = {}
        for rows in tables:
            for row in rows:
                name = bytes(row["key"]).decode()
                counts[name] = counts.get(name, np.zeros(len(FAMILIES), np.int64)) + row["counts"]
        return counts

    def collect(self) -> Iterable[Metric]:
        counts = self.totals()
        for column, (name, text) in enumerate(FAMILIES.items()):
            family = CounterMetricFamily(name, text, labels=("feature",))
            for feature, of_feature in counts.items():
                family.add_metric((feature,), float(of_feature[column]))
            yield family
