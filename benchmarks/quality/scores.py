"""The numbers of the report: means over seeds, paired differences, gains over one model for each task."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.results import Result
from benchmarks.spread import BySeed, Spread, paired

SINGLE, SHARED = "SingleTask", "Shared-Bottom"
FEW_POSITIVES = 500
"""Events with fewer positives in the test split are in no average."""

Scores = dict[str, dict[int, dict[str, dict[str, Any]]]]
"""Test metrics by model, seed and task."""


def gather(results: Iterable[Result]) -> Scores:
    """Sort runs by model and seed; a model that is one for each task gets its tasks from several runs."""
    scores: Scores = {}
    for result in results:
        seeds = scores.setdefault(result["model"], {})
        seeds.setdefault(result["seed"], {}).update(result["metrics"]["test"])
    return scores


def values(scores: Scores, model: str, task: str, metric: str) -> BySeed:
    """Return a metric of a task by seed, where it is known."""
    found = {seed: tasks.get(task, {}).get(metric) for seed, tasks in scores.get(model, {}).items()}
    return {seed: value for seed, value in found.items() if value is not None}


def averages(scores: Scores, model: str, tasks: Sequence[str], metric: str = "auc") -> BySeed:
    """Return the mean of a metric over tasks by seed, of the seeds that have all of them."""
    columns = [values(scores, model, task, metric) for task in tasks]
    if not columns:
        return {}
    whole = set.intersection(*(set(column) for column in columns))
    return {seed: statistics.fmean(column[seed] for column in columns) for seed in sorted(whole)}


def gains(scores: Scores, model: str, metrics: Mapping[str, str], baseline: str = SINGLE) -> dict[str, Spread]:
    """Return by how much a model is ahead of another in each task; ``metrics`` names one for each, larger is better."""
    return {
        task: paired(values(scores, model, task, metric), values(scores, baseline, task, metric))
        for task, metric in metrics.items()
    }


def seesaw(found: Mapping[str, Spread]) -> float:
    """Return the share of tasks that lose, of those whose gain is known."""
    known = [gain.mean for gain in found.values() if gain.count]
    return sum(mean < 0 for mean in known) / len(known) if known else math.nan


def reference(scores: Scores, tasks: Sequence[str]) -> str | None:
    """Return which of the models without any mixture is the better one: what the others have to beat."""
    means = {name: Spread.of(averages(scores, name, tasks).values()).mean for name in (SINGLE, SHARED)}
    known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    return max(known, key=known.__getitem__) if known else None


HEALTH_COLUMNS: dict[str, Callable[[list[float]], float]] = {
    "scale ratio": max,
    "dead experts": sum,
    "collapsed experts": sum,
    "zero ratio": max,
}
"""Columns of the report: the words that end the names of the metrics behind them, and how layers make one number."""


def health_of(results: Iterable[Result]) -> dict[str, float]:
    """Return the worst of each figure of expert health over a model's runs."""
    worst: dict[str, float] = {}
    for result in results:
        for column, together in HEALTH_COLUMNS.items():
            layers = [v for name, v in result.get("health", {}).items() if name.endswith(column.replace(" ", "_"))]
            if known := [value for value in layers if value is not None]:
                worst[column] = max(worst.get(column, -math.inf), together(known))
    return worst
