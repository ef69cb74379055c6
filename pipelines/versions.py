"""The versions of a model side by side: aliases, verdicts, metrics by task, and the Pareto-optimal ones."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.daily_plan import task_metrics
from pipelines.display import number
from pipelines.notes import DECISION, LINE
from pipelines.pareto import pareto
from recsys_mtl.config import ConfigError
from recsys_mtl.metrics.paired import METRICS
from recsys_mtl.registry import Version, versions
from recsys_mtl.tracking import TrackingConfig
from recsys_mtl.tracking.tables import plain

FINGERPRINT = "data_fingerprint"
Values = dict[str, float]
"""By task and metric, such as ``is_like auc``."""


def run(
    model: str,
    metrics: Sequence[str],
    console: Console,
    *,
    json_file: Path | None = None,
    tracking_uri: str | None = None,
) -> list[dict[str, Any]]:
    """Print all versions, and write them if asked.

    Raises:
        ConfigError: no such model or metric.
    """
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ConfigError(f"--metric: {name!r} is not one of {', '.join(METRICS)}" for name in unknown)
    uri = tracking_uri or TrackingConfig().uri
    found = versions(uri, model)
    values = {version.number: values_of(version, metrics) for version in found}
    best = optimal(found, values)
    rows = [as_dict(version, values[version.number], version.number in best) for version in found]
    console.print(table(model, found, values, best))
    if json_file is not None:
        json_file.write_text(json.dumps({"model": model, "versions": rows}, indent=2), encoding="utf-8")
    return rows


def values_of(version: Version, metrics: Sequence[str]) -> Values:
    """Return a version's metrics on its test rows."""
    found = task_metrics(version.metrics, "test")
    return {f"{task} {name}": own[name] for task, own in found.items() for name in metrics if name in own}


def optimal(found: Sequence[Version], values: dict[int, Values]) -> set[int]:
    """Return the Pareto-optimal versions of each data set: numbers from other rows cannot be compared."""
    best: set[int] = set()
    for data in {version.tags.get(FINGERPRINT) for version in found}:
        same = {v.number: _signed(values[v.number]) for v in found if v.tags.get(FINGERPRINT) == data}
        best |= pareto({key: own for key, own in same.items() if own})
    return best


def _signed(values: Values) -> Values:
    """Turn what is defined so that more is better."""
    return {key: METRICS[key.split()[-1]].sign * value for key, value in values.items() if not math.isnan(value)}


def as_dict(version: Version, values: Values, is_optimal: bool) -> dict[str, Any]:
    """Return a version for programs."""
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "run_id": version.run_id,
        "created": version.created.isoformat(timespec="seconds"),
        "decision": version.tags.get(DECISION),
        "verdict": version.tags.get(LINE),
        "data_fingerprint": version.tags.get(FINGERPRINT),
        "metrics": {key: plain(value) for key, value in values.items()},
        "pareto_optimal": is_optimal,
    }


def table(model: str, found: Sequence[Version], values: dict[int, Values], best: set[int]) -> Table:
    """Lay the versions out."""
    caption = "*: no version of the same test data is as good in every column and better in one"
    laid = Table(title=model, caption=caption)
    names = list(dict.fromkeys(key for own in values.values() for key in own))
    for name in ("version", "aliases", "decision", "created", "test data"):
        laid.add_column(name)
    for name in names:
        laid.add_column(name, justify="right")
    for version in found:
        mark = "*" if version.number in best else ""
        facts = (", ".join(version.aliases), version.tags.get(DECISION, "–"), f"{version.created:%Y-%m-%d %H:%M}")
        data = version.tags.get(FINGERPRINT, "–")
        cells = (number(float(values[version.number].get(name, math.nan))) for name in names)
        laid.add_row(f"{version.number}{mark}", *facts, data, *cells)
    return laid
