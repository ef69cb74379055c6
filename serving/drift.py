"""Drift: are requests like the rows that the model was tested on?"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recsys_mtl.data.values import Ints

Expected = Mapping[str, Mapping[str, int]]
"""Values, and how many of them were unknown and missing, by feature, in the test split of the model's data set."""
WINDOW_S = 900.0
"""How far back requests are looked at."""
STEP_S = 30.0
"""Between two of the counts that are kept to look back to."""
FEWEST = 1000
"""Values of a feature that are needed to say anything."""
KINDS = ("unknown", "missing")


class Drift(Collector):
    """Compares shares of unknown and of missing values in the last quarter of an hour with those in the test split.

    It looks when it is asked, so what is kept is one count for every `STEP_S` of a window.
    """

    def __init__(
        self,
        totals: Callable[[], dict[str, Ints]],
        expected: Callable[[], Expected],
        most: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``totals`` counts since the start, ``expected`` is the model's; ``most`` is a share to differ by."""
        self.totals, self.expected, self.most, self.clock = totals, expected, most, clock
        self.seen: deque[tuple[float, dict[str, Ints]]] = deque([(clock(), {})])

    def describe(self) -> Iterable[Metric]:
        """Name nothing: there is nothing to look at when the collector is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        share = GaugeMetricFamily(
            "recsys_feature_drift",
            "Share of unknown or missing values in the last 15 minutes, above that in the model's test split.",
            labels=("feature", "kind"),
        )
        alarm = GaugeMetricFamily(
            "recsys_feature_drift_alarm", "1 if one of the two is too far from the test split's.", labels=("feature",)
        )
        for feature, differences in self.differences().items():
            for kind, difference in zip(KINDS, differences, strict=True):
                share.add_metric((feature, kind), difference)
            alarm.add_metric((feature,), float(max(map(abs, differences)) > self.most))
        yield from (share, alarm)

    def differences(self) -> dict[str, list[float]]:
        """Return for each feature how far its shares are above the expected ones."""
        recent, expected = self._recent(), self.expected()
        found = {}
        for feature in expected.keys() & recent.keys():
            (values, *counts), test = recent[feature].tolist(), expected[feature]
            if min(values, test["values"]) >= FEWEST:
                pairs = zip(counts, KINDS, strict=True)
                found[feature] = [count / values - test[kind] / test["values"] for count, kind in pairs]
        return dict(sorted(found.items()))

    def _recent(self) -> dict[str, Ints]:
        """Return what has been counted since the beginning of the window."""
        now, totals = self.clock(), self.totals()
        while len(self.seen) > 1 and self.seen[1][0] <= now - WINDOW_S:
            self.seen.popleft()
        before = self.seen[0][1]
        if now >= self.seen[-1][0] + STEP_S:
            self.seen.append((now, totals))
        none = np.zeros(1 + len(KINDS), np.int64)
        return {feature: counts - before.get(feature, none) for feature, counts in totals.items()}
