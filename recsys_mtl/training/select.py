"""Selection: which weights of a run are the best."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from pydantic import NonNegativeInt

from recsys_mtl.config import Config, ConfigError

Metrics = Mapping[str, Mapping[str, float]]
"""Values by task and metric."""


class Criterion(Config):
    """A number of the validation split to judge by."""

    metric: str = "auc"
    """Metric of the validation split to judge by: ``METRIC`` for its mean over tasks, or ``TASK/METRIC``."""
    tasks: tuple[str, ...] | None = None
    """Tasks whose mean is taken; all that have the metric where it is not given."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less of it is better."""

    @property
    def name(self) -> str:
        """How tables and charts call it."""
        return self.metric if self.tasks is None else f"{self.metric} of {', '.join(self.tasks)}"

    def check(self, tasks: Collection[str], path: str) -> None:
        """Make sure that there is something to judge by; ``path`` leads to it in the user's configuration.

        Raises:
            ConfigError: a task that the run does not learn.
        """
        named = {"metric": [self.metric.rpartition("/")[0]] if "/" in self.metric else [], "tasks": self.tasks or ()}
        unknown = [(field, name) for field, names in named.items() for name in names if name not in tasks]
        if unknown:
            has = ", ".join(tasks)
            raise ConfigError(f"{path}.{field}: no task {name!r} in the run; it has {has}" for field, name in unknown)

    def value(self, metrics: Metrics) -> float:
        """Return the number to judge by; NaN if no task has it."""
        task, _, metric = self.metric.rpartition("/")
        names = (task,) if task else self.tasks if self.tasks is not None else tuple(metrics)
        values = [metrics[name][metric] for name in names if metric in metrics.get(name, {})]
        values = [value for value in values if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    def better(self, value: float, best: float) -> bool:
        """Tell whether ``value`` beats ``best``; anything beats NaN."""
        return not math.isnan(value) and (math.isnan(best) or (value > best if self.mode == "max" else value < best))

    def best(self, values: Sequence[tuple[int, float]], count: int) -> list[int]:
        """Return the steps of the best values, best first; of equal ones the earlier."""
        sign = -1 if self.mode == "max" else 1
        known = [(sign * value, step) for step, value in values if not math.isnan(value)]
        return [step for _, step in sorted(known)[:count]]


class SelectConfig(Criterion):
    """Which weights a run keeps, and when it stops early."""

    patience: NonNegativeInt | None = None
    """Evaluations without improvement after which the run stops; it goes on to the end where it is not given."""
