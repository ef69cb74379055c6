"""What the service counts, in Prometheus' format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.drift import Drift, Expected
from serving.feature_counts import FeatureCounts
from serving.loading import Served
from serving.score_histograms import Family, ScoreHistograms
from serving.scorer import Scorer, Scores
from serving.shared import Shared

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CANDIDATES = (1, 10, 50, 100, 200, 500, 1000, 2000, 5000)
TOGETHER = (1, 2, 4, 8, 16, 32, 64)
PROBABILITIES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SCORE_BOUNDS = (*PROBABILITIES, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Fine where probabilities are, coarse above 1, where only amounts are."""
DIFFERENCE_BOUNDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)

SCORES = Family("recsys_objective_scores", "Predictions by objective.", ("task",), SCORE_BOUNDS)
DIFFERENCES = Family(
    "recsys_shadow_score_difference", "How far the challenger's prediction is above the champion's, or below.",
    ("task", "challenger"), DIFFERENCE_BOUNDS,
)  # fmt: skip


class Metrics:
    """The metrics of one service, apart from those of any other in the same process.

    Those of worker processes are counted in files: every worker gives the sums over all.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("recsys_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "recsys_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.candidates = Histogram(
            "recsys_request_candidates", "Candidates per request.", buckets=CANDIDATES, registry=self.registry
        )
        self.together = Histogram(
            "recsys_requests_scored_together",
            "Requests per pass of the model.",
            buckets=TOGETHER,
            registry=self.registry,
        )
        self.info = Gauge(
            "recsys_model_info", "Processes in which this model answers; 0 after a swap.",
            ("role", "name", "version", "fingerprint"), registry=self.registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.stale = Gauge(
            "recsys_model_stale_seconds", "Time for which the registry could not be asked for a newer version.",
            ("role", "uri"), registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.swaps = Counter(
            "recsys_model_swaps", "Changes of a model while serving, by outcome.", ("role", "result"),
            registry=self.registry,
        )  # fmt: skip
        self.answers = Counter(
            "recsys_model_requests", "Requests scored, by the model that answered.", ("role", "name", "version"),
            registry=self.registry,
        )  # fmt: skip
        self.shadow = Counter(
            "recsys_shadow_requests", "Requests for shadow scoring, by outcome.", ("result",), registry=self.registry
        )
        self.scores, self.differences = ScoreHistograms(SCORES, shared), ScoreHistograms(DIFFERENCES, shared)
        self.features = FeatureCounts(shared)
        self.collected = self.registry if shared is None else CollectorRegistry()
        if shared is not None:
            shared.collect_into(self.collected)
        for collector in (self.scores, self.differences, self.features):
            self.collected.register(collector)

    def watch_drift(self, expected: Callable[[], Expected], most: float) -> None:
        """Compare inputs with those that the answering model expects; an alarm beyond ``most``."""
        self.collected.register(Drift(self.features.totals, expected, most))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def serves(self, before: Served | None, served: Served) -> None:
        """Name the model that answers from now on."""
        for value, one in ((0, before), (1, served)):
            if one is not None:
                fingerprint = one.description.fingerprint
                self.info.labels(one.role, one.name.name, one.name.version, fingerprint).set(value)

    def answered_by(self, served: Served) -> None:
        """Count a request for the model that answers it."""
        self.answers.labels(served.role, served.name.name, served.name.version).inc()

    def scored(self, scores: Scores, scorer: Scorer) -> None:
        """Count a request's candidates, their scores and its inputs."""
        question, reader = scores.question, scorer.reader
        self.candidates.observe(len(question.item_ids))
        tasks = tuple((task,) for task in scorer.bundle.tasks)
        self.scores.observe_columns(tasks, scores.scores_BT.double().numpy())
        for side, encoded in ((reader.head, question.head), (reader.candidates, question.candidates)):
            self.features.add(side.names, encoded.counts())

    def text(self) -> bytes:
        """Write all metrics."""
        return generate_latest(self.collected)
