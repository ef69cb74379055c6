"""What a series has to show: its days, their verdicts, and how good each model was on a day before it was learnt."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.table import Table

from pipelines.daily_plan import DAY_TAG, Plan, Step, task_metrics
from pipelines.display import number
from pipelines.notes import DECISION, LINE
from pipelines.worker import PROGRESSIVE
from recsys_mtl.data.day import day_facts
from recsys_mtl.tracking.series import FoundRun


def after(plan: Plan, runs: Sequence[FoundRun]) -> list[Step]:
    """Say of every step of a plan what has become of it."""
    found = {run.tags[DAY_TAG]: run for run in runs}
    steps = [_as_it_is(replace(step, run=found.get(step.name, step.run))) for step in plan.steps]
    return [replace(step, state="learnt now") if step.state == "due" and step.run else step for step in steps]


def _as_it_is(step: Step) -> Step:
    """Count the rows of a day that has been prepared since the plan was made."""
    if step.prepared or not step.data.is_directory():
        return step
    return replace(step, rows=day_facts(step.data).rows, prepared=True)


def as_dict(step: Step) -> dict[str, Any]:
    """Return a step for programs; what is not defined, such as an AUC without events, is absent."""
    known = {} if step.run is None else {"run_id": step.run.run_id, "seconds": _seconds(step)}
    metrics = {} if step.run is None else task_metrics(step.run.metrics, PROGRESSIVE)
    tags = {} if step.run is None else step.run.tags
    judged = {"decision": tags[DECISION], "verdict": tags[LINE]} if DECISION in tags else {}
    return {"day": step.name, "state": step.state, "rows": step.rows, **known, **judged, "metrics": metrics}


def tables(steps: Sequence[Step], series: str) -> list[Table]:
    """Lay out the days, and what their metrics were before each was learnt."""
    overview = Table(title=f"Series {series}")
    for name in ("day", "state", "rows", "seconds", "run", "decision"):
        overview.add_column(name, justify="right" if name in {"rows", "seconds"} else "left")
    for step in steps:
        seconds, run_id = ("–", "–") if step.run is None else (f"{_seconds(step):,.1f}", step.run.run_id)
        decision = "–" if step.run is None else step.run.tags.get(DECISION, "–")
        overview.add_row(step.name, step.state, f"{step.rows:,}", seconds, run_id, decision)
    found = {step.name: task_metrics(step.run.metrics, PROGRESSIVE) for step in steps if step.run is not None}
    return [
        overview,
        *_measures(found, "auc", "positives", "Progressive AUC (positives)"),
        *_measures(found, "gauc", "positives", "Progressive GAUC (positives)"),
        *_measures(found, "rmse", "rows", "Progressive RMSE (rows)"),
    ]


def _measures(found: dict[str, dict[str, dict[str, float]]], metric: str, count: str, title: str) -> list[Table]:
    tasks = dict.fromkeys(task for day in found.values() for task, values in day.items() if metric in values)
    if not tasks:
        return []
    table = Table(title=title)
    table.add_column("day")
    for task in tasks:
        table.add_column(task, justify="right")
    for day, metrics in found.items():
        if metrics:
            table.add_row(day, *(_cell(metrics.get(task, {}), metric, count) for task in tasks))
    return [table]


def _cell(values: dict[str, float], metric: str, count: str) -> str:
    return f"{number(values.get(metric, math.nan))} ({values.get(count, 0):,.0f})"


def _seconds(step: Step) -> float:
    """Return the time in training steps; a run from before it was logged counts as none."""
    return step.run.metrics.get("train/seconds", 0.0) if step.run is not None else 0.0
