"""The promotion policy: what a version must gain over the champion, and what it must not lose for it."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipelines.compare import Draws, Metric
from recsys_mtl.config import Config

DecidedBy = Literal["harm", "estimate", "safety"]
"""How a limit takes doubt: it is broken if the interval shows harm, being all outside; or already if the estimate is
outside; or unless the interval shows safety, being all inside."""


class Term(Config):
    """A part of what is maximised."""

    metric: Metric = "auc"
    """``rmse`` counts in the direction that is better: what falls is a gain."""
    task: Annotated[str, Field(min_length=1)] | None = None
    """The mean over all tasks that have the metric, and rows enough for an interval, where none is named."""
    weight: PositiveFloat = 1.0
    """Its part in the mean, relative to the other terms' weights."""


class Objective(Config):
    """What is maximised: the mean of the terms, by their weights."""

    maximise: Annotated[tuple[Term, ...], Field(min_length=1)] = (Term(),)
    margin: float = 0.0
    """A version is promoted if the interval of its gain over the champion lies above. Below 0, it need not be better,
    but surely no worse by more: for a model that is refreshed every day, whose freshness is worth something."""


class MetricLimit(Config):
    """A metric that must not fall behind the champion's."""

    kind: Literal["metric"] = "metric"
    metric: Metric = "auc"
    """``auc`` and ``gauc`` of events, ``rmse`` and ``xauc`` of amounts."""
    task: Annotated[str, Field(min_length=1)] | None = None
    """Every task that has the metric where none is named, each by itself."""
    not_below: float = 0.0
    """Least difference from the champion, in the direction that is better: -0.001 allows to lose so much."""
    decided_by: DecidedBy = "harm"
    """How doubt counts: ``harm`` breaks the limit if the whole interval is outside, ``estimate`` if the estimate is,
    ``safety`` unless the whole interval is inside."""


class CalibrationLimit(Config):
    """Predicted over observed positives of an event. The range reaches at least to the champion's own."""

    kind: Literal["calibration"] = "calibration"
    task: Annotated[str, Field(min_length=1)] | None = None
    """Every event where none is named, each by itself."""
    within: tuple[PositiveFloat, PositiveFloat] = (0.95, 1.05)
    """Least and largest ratio: 1 says that as many events happen as were predicted."""
    decided_by: DecidedBy = "harm"
    """As for a metric: ``harm``, ``estimate`` or ``safety``."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.within[0] >= self.within[1]:
            raise ValueError(f"within: {self.within[0]:g} is not below {self.within[1]:g}")
        return self


class HealthLimit(Config):
    """Alarms about the experts, by the thresholds of the version's own run."""

    kind: Literal["health"] = "health"
    at_most: NonNegativeInt = 0
    """Alarms that a version may have."""


class LatencyLimit(Config):
    """Time to score one request with the bundle's engine, on one thread, in turn with the champion."""

    kind: Literal["latency"] = "latency"
    candidates: PositiveInt = 100
    """Candidates of each request."""
    requests: Annotated[int, Field(ge=20)] = 200
    """Requests that are timed of each of the two."""
    p50_ms: PositiveFloat | None = None
    """Longest median, in milliseconds."""
    p99_ms: PositiveFloat | None = None
    """Longest 99th percentile, in milliseconds."""
    p50_times: PositiveFloat | None = None
    """Most times the champion's median."""
    p99_times: PositiveFloat | None = None
    """Most times the champion's 99th percentile."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.limits:
            raise ValueError("limits nothing: give p50_ms, p99_ms, p50_times or p99_times")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """Those that are given."""
        values = {name: getattr(self, name) for name in ("p50_ms", "p99_ms", "p50_times", "p99_times")}
        return {name: value for name, value in values.items() if value is not None}


Constraint = Annotated[
    MetricLimit | CalibrationLimit | HealthLimit | LatencyLimit,
    Field(discriminator="kind"),
]


class Policy(Draws):
    """When a version becomes champion."""

    objective: Objective = Objective()
    constraints: tuple[Constraint, ...] = (
        MetricLimit(not_below=-0.002),
        CalibrationLimit(within=(0.9, 1.1)),
    )
    """Limits, all of which have to hold."""
