"""Comparing models with a baseline on the same rows: paired differences, with intervals over users."""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator
from rich.console import Console
from rich.progress import track

from pipelines.comparison import Comparison
from pipelines.contenders import Contender, Scored, data_of, load_all, readers_of, score
from pipelines.unseen import require_unseen
from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.shards import row_groups
from recsys_mtl.metrics.paired import Difference, Measured, UserBootstrap, difference, measure
from recsys_mtl.metrics.user_metrics import UserMetric
from recsys_mtl.storage import Place
from recsys_mtl.tracking import TrackingConfig, connect
from recsys_mtl.tracking.client import RunHandle
from recsys_mtl.tracking.tables import log_table

K = TypeVar("K", bound=Hashable)
Metric = Literal["auc", "gauc", "rmse", "xauc"]


class Draws(Config):
    """How sure a difference is to be."""

    replicates: int = 1000
    """Draws of users."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Of each interval by itself."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The same seed draws the same users, and gives the same intervals."""

    @model_validator(mode="after")
    def _reaches_the_tails(self) -> Self:
        fewest = math.ceil(round(2 / (1 - self.confidence), 6))
        if self.replicates < fewest:
            raise ValueError(
                f"{self.replicates} replicates do not reach the ends of an interval at {self.confidence:.6g}: "
                f"it takes {fewest} or more"
            )
        return self


class CompareConfig(Draws):
    """How models are compared."""

    split: Literal["train", "valid", "test"] = "test"
    metric: Annotated[tuple[Metric, ...], Field(min_length=1)] = ("auc", "gauc", "rmse", "xauc")
    """Those of them that a task has."""


def run(
    models: Sequence[str],
    console: Console,
    config: CompareConfig,
    *,
    data: Place | None = None,
    json_file: Path | None = None,
    tracking_uri: str | None = None,
    log: bool = True,
) -> list[Comparison]:
    """Compare every model with the first one; print, write and log what comes out.

    Raises:
        ConfigError: fewer than two models, one that does not exist, or data that is not theirs.
    """
    if len(models) < 2:
        raise ConfigError(["RUN: name two models or more, the first of which is the baseline"])
    uri = tracking_uri or TrackingConfig().uri
    contenders = load_all(models, uri)
    data = data_of(contenders[0], data)
    require_unseen(contenders, data, config.split)
    contenders = readers_of(contenders, data)
    _require_common_tasks(contenders)
    scored = score(contenders, row_groups(data, config.split), console)
    comparisons = compare(scored, config, console)
    for comparison in comparisons:
        comparison.show(console, config.split, config.confidence)
    if json_file is not None:
        json_file.write_text(json.dumps(_report(comparisons, scored, config, data), indent=2), encoding="utf-8")
    if log:
        for comparison in comparisons:
            keep(comparison, config, uri)
    return comparisons


def _require_common_tasks(contenders: Sequence[Contender]) -> None:
    baseline = contenders[0]
    if strangers := [other for other in contenders if not set(other.tasks) & set(baseline.tasks)]:
        raise ConfigError(
            f"{other.label}: has no task in common with {baseline.label}: "
            f"{', '.join(other.tasks)} against {', '.join(baseline.tasks)}"
            for other in strangers
        )


def compare(scored: Scored, config: CompareConfig, console: Console) -> list[Comparison]:
    """Measure every contender on the same draws of users, and set each against the first."""
    numbers = range(len(scored.contenders))
    metrics: dict[tuple[int, str, str], UserMetric] = {
        (number, task, name): metric
        for number in numbers
        for task in scored.common_tasks(number)
        for name, metric in scored.metrics(number, task, config.metric)
    }
    measured = draw(metrics, scored, config, console)
    found: list[dict[str, dict[str, Difference]]] = [{} for _ in numbers]
    for (number, task, name), other in measured.items():
        paired = difference(measured[0, task, name], other, config.confidence)
        found[number].setdefault(task, {})[name] = paired
    return [Comparison(scored.contenders[0], scored.contenders[number], found[number]) for number in numbers[1:]]


def draw(metrics: Mapping[K, UserMetric], scored: Scored, config: Draws, console: Console) -> dict[K, Measured]:
    """Measure everything on the same draws of users, with a progress bar on a terminal."""
    draws = UserBootstrap(scored.num_users, len(scored.users_B), config.replicates, config.seed)
    steps = track(draws, "drawing users", total=len(draws), console=console, disable=not console.is_terminal)
    return measure(metrics, steps, scored.num_users)


def keep(comparison: Comparison, config: CompareConfig, uri: str) -> None:
    """Log the table and its verdict to the compared model's run, where it has one that is not the baseline's."""
    run_id, place = comparison.other.place.run_id, comparison.baseline.place
    if run_id is None or run_id == place.run_id:
        return
    baseline = place.run_id or place.name
    rows = [{**row, "split": config.split, "confidence": config.confidence} for row in comparison.rows()]
    log_table(uri, run_id, rows, f"compare/vs_{baseline}.json")
    tags = {"compare.baseline": baseline, "compare.verdict": comparison.verdict}
    RunHandle(connect(uri), run_id).set_tags(tags)


def _report(comparisons: Sequence[Comparison], scored: Scored, config: CompareConfig, data: Place) -> dict[str, Any]:
    baseline = scored.contenders[0]
    return {
        "baseline": {"model": baseline.name, "run_id": baseline.place.run_id},
        "data": str(data),
        "rows": len(scored.users_B),
        "users": scored.num_users,
        **config.model_dump(mode="json"),
        "comparisons": [comparison.report() for comparison in comparisons],
    }
