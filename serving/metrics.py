"""What the service counts, in Prometheus' format."""

import threading
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.loading import Served
from serving.scorer import Scorer, Scores

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CANDIDATES = (1, 10, 50, 100, 200, 500, 1000, 2000, 5000)
PROBABILITIES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SCORE_BOUNDS = (*PROBABILITIES, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Fine where probabilities are, coarse above 1, where only amounts are."""


class Metrics:
    """The metrics of one service, apart from those of any other in the same process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("recsys_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "recsys_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.candidates = Histogram(
            "recsys_request_candidates", "Candidates per request.", buckets=CANDIDATES, registry=self.registry
        )
        self.values = Counter(
            "recsys_feature_values",
            "Ids read: those of the user and the context once per request.",
            ("feature",),
            registry=self.registry,
        )
        self.unknown = Counter(
            "recsys_feature_unknown", "Ids among them that training did not know.", ("feature",), registry=self.registry
        )
        self.missing = Counter(
            "recsys_feature_missing",
            "Ids among them that stand for an empty cell.",
            ("feature",),
            registry=self.registry,
        )
        self.info = Gauge(
            "recsys_model_info", "1 for the model that answers.", ("name", "version", "fingerprint"),
            registry=self.registry,
        )  # fmt: skip
        self.scores = ScoreHistograms("recsys_objective_scores", "Predictions by objective.")
        self.registry.register(self.scores)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def serves(self, served: Served) -> None:
        """Name the model that answers from now on."""
        self.info.clear()
        self.info.labels(served.name.name, served.name.version, served.description.fingerprint).set(1)

    def scored(self, scores: Scores, scorer: Scorer) -> None:
        """Count a request's candidates, their scores and its inputs."""
        question, sides = scores.question, scorer.engine.inputs
        self.candidates.observe(len(question.item_ids))
        for task, score_B in zip(scorer.bundle.tasks, scores.scores_BT.unbind(1), strict=True):
            self.scores.observe(task, score_B.double().numpy())
        for side, encoded in ((sides.head, question.head), (sides.items, question.candidates)):
            for name, (values, unknown, missing) in zip(side.id_names, encoded.id_counts(), strict=True):
                self.values.labels(name).inc(values)
                self.unknown.labels(name).inc(unknown)
                self.missing.labels(name).inc(missing)

    def text(self) -> bytes:
        """Write all metrics."""
        return generate_latest(self.registry)


class ScoreHistograms(Collector):
    """A histogram per objective that takes a whole request's scores: a call for each would cost more than the model."""

    def __init__(self, name: str, help_text: str) -> None:
        self.name, self.help = name, help_text
        self.lock = threading.Lock()
        self.counts: dict[str, npt.NDArray[np.int64]] = {}
        self.sums: dict[str, float] = {}

    def observe(self, task: str, scores: npt.NDArray[np.float64]) -> None:
        """Add scores of an objective."""
        buckets = np.bincount(np.searchsorted(SCORE_BOUNDS, scores), minlength=len(SCORE_BOUNDS) + 1)
        with self.lock:
            self.counts[task] = self.counts.get(task, 0) + buckets
            self.sums[task] = self.sums.get(task, 0.0) + float(scores.sum())

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self.name, self.help, labels=("task",))
        bounds = [*map(str, SCORE_BOUNDS), "+Inf"]
        with self.lock:
            for task, counts in self.counts.items():
                cumulative = [float(count) for count in np.cumsum(counts)]
                family.add_metric((task,), list(zip(bounds, cumulative, strict=True)), self.sums[task])
        yield family
