"""A series of days: each is predicted with the model of the days before, then learnt. Run it every day, or by cron."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from pipelines.cluster import cluster
from pipelines.daily_plan import DATA_TAG, DAY_TAG, SERIES_TAG, Plan, Step, make_plan, task_metrics
from pipelines.display import number
from pipelines.prepare.days import BASE
from pipelines.run import TrainRun
from pipelines.train import Finished, train
from pipelines.warm import InitFrom
from pipelines.worker import PROGRESSIVE
from recsys_mtl.config import ConfigError, load
from recsys_mtl.registry import BUNDLE
from recsys_mtl.storage import Place
from recsys_mtl.tracking.series import FoundRun, finished_runs


class Daily:
    """A series of runs over the prepared days of a directory."""

    def __init__(
        self, config: TrainRun, days: Place, *, series: str = "daily", optimizer: Literal["keep", "reset"] = "keep"
    ) -> None:
        """``optimizer`` tells whether a day goes on with what the optimisers remember of the day before."""
        self.config, self.days, self.series, self.optimizer = config, days, series, optimizer

    def plan(self, until: date | None = None) -> Plan:
        """Say what there is to do.

        Raises:
            ConfigError: the days or the tracking store cannot be used.
        """
        return make_plan(self.days, self.runs(), until=until, needs_base=self.config.init_from is None)

    def runs(self) -> list[FoundRun]:
        """Return the series' finished runs."""
        return finished_runs(self.config.tracking, {SERIES_TAG: self.series})

    def learn(self, plan: Plan, console: Console, *, verbose: bool = False) -> None:
        """Do what is due, one day after another; a day that another process or an error has stopped goes on.

        Raises:
            ConfigError: something that the user can mend.
            RunFailedError: a day that did not get to its end; the same command goes on there.
        """
        before = plan.newest.run_id if plan.newest is not None else None
        with cluster(self.config.cluster, verbose=verbose):
            for step in plan.due:
                console.rule(f"{step.name}: {step.rows:,} rows", align="left", style="dim")
                before = self._train(step, before, console, verbose=verbose).run_id

    def _train(self, step: Step, before: str | None, console: Console, *, verbose: bool) -> Finished:
        tags = {SERIES_TAG: self.series, DAY_TAG: step.name, DATA_TAG: step.digest}
        return train(self.run_of(step, before), console, verbose=verbose, tags=tags)

    def run_of(self, step: Step, before: str | None) -> TrainRun:
        """Configure the run of a step; ``before`` is the run whose model it goes on from."""
        data = self.config.data.model_copy(update={"path": str(step.data)})
        run = self.config.model_copy(update={"data": data, "run_name": f"{self.series}-{step.name}"})
        if step.name == BASE:
            return run.model_copy(update={"init_from": None})
        init_from = self.config.init_from
        if before is not None:
            init_from = InitFrom(model=f"runs:/{before}/{BUNDLE}", optimizer=self.optimizer)
        select = run.trainer.select.model_copy(update={"patience": None})
        one_pass = {"progressive": True, "epochs": 1, "eval_every": None, "select": select}
        trainer = run.trainer.model_copy(update=one_pass)
        return run.model_copy(update={"init_from": init_from, "trainer": trainer})


def read_config(sources: Sequence[str], days: Place) -> TrainRun:
    """Build the configuration that all days share.

    Raises:
        ConfigError: every problem with it, among them fields that the series itself sets.
    """
    config = load(TrainRun, [f"data.path={json.dumps(str(days))}", *sources])
    problems = []
    if config.data.path != str(days):
        problems.append("data.path: would be ignored: --days says where the data are")
    if config.run_name is not None:
        problems.append("run_name: would be ignored: runs are named by --series and the day")
    if config.trainer.progressive:
        problems.append("trainer.progressive: is set by the series: of every day, and not of the base")
    if problems:
        raise ConfigError(problems)
    return config


def run(
    daily: Daily,
    console: Console,
    *,
    until: date | None = None,
    json_file: Path | None = None,
    dry_run: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Learn every day that is due, print what all days brought, and write it if asked.

    Raises:
        ConfigError: something that the user can mend.
        RunFailedError: a day that did not get to its end.
    """
    plan = daily.plan(until)
    for note in plan.notes:
        console.print(note, highlight=False, soft_wrap=True)
    try:
        if plan.due and not dry_run:
            daily.learn(plan, console, verbose=verbose)
    finally:
        steps = _after(plan, daily.runs())
        facts = {"series": daily.series, "days": [as_dict(step) for step in steps], "notes": list(plan.notes)}
        for table in tables(steps, daily.series):
            console.print(table)
        if json_file is not None:
            json_file.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return facts


def _after(plan: Plan, runs: Sequence[FoundRun]) -> list[Step]:
    """Say of every step of a plan what has become of it."""
    found = {run.tags[DAY_TAG]: run for run in runs}
    return [
        replace(step, state="learnt now", run=found[step.name]) if step.state == "due" and step.name in found else step
        for step in plan.steps
    ]


def as_dict(step: Step) -> dict[str, Any]:
    """Return a step for programs; what is not defined, such as an AUC without events, is absent."""
    known = {} if step.run is None else {"run_id": step.run.run_id, "seconds": _seconds(step)}
    metrics = {} if step.run is None else task_metrics(step.run.metrics, PROGRESSIVE)
    return {"day": step.name, "state": step.state, "rows": step.rows, **known, "metrics": metrics}


def tables(steps: Sequence[Step], series: str) -> list[Table]:
    """Lay out the days, and what their metrics were before each was learnt."""
    overview = Table(title=f"Series {series}")
    for name in ("day", "state", "rows", "seconds", "run"):
        overview.add_column(name, justify="right" if name in {"rows", "seconds"} else "left")
    for step in steps:
        seconds, run_id = ("–", "–") if step.run is None else (f"{_seconds(step):,.1f}", step.run.run_id)
        overview.add_row(step.name, step.state, f"{step.rows:,}", seconds, run_id)
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
