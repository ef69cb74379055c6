"""A series of days: each is predicted with the model of the days before, then learnt. Run it every day, or by cron."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from pipelines.cluster import cluster
from pipelines.daily_config import Pipeline
from pipelines.daily_day import Day, Publish, World, message_of
from pipelines.daily_plan import DATA_TAG, DAY_TAG, SERIES_TAG, Plan, Step, make_plan
from pipelines.daily_prepare import coming_days
from pipelines.daily_report import after, as_dict, tables
from pipelines.daily_start import FROM_TAG, address, beginning, require_held_out
from pipelines.daily_steps import PIPELINE, PIPELINE_DAY, day_run
from pipelines.notify import notify
from pipelines.prepare.days import BASE
from pipelines.run import TrainRun
from pipelines.train import train
from pipelines.warm import InitFrom
from recsys_mtl.config import ConfigError, load
from recsys_mtl.registry import BUNDLE
from recsys_mtl.storage import Place
from recsys_mtl.tracking import Run
from recsys_mtl.tracking.series import PARENT, FoundRun, finished_runs, unfinished_runs


class Daily:
    """A series of runs over the prepared days of a directory."""

    def __init__(
        self,
        config: TrainRun,
        days: Place,
        *,
        series: str = "daily",
        optimizer: Literal["keep", "reset"] = "keep",
        pipeline: Pipeline | None = None,
    ) -> None:
        """Set it up.

        Args:
            optimizer: Whether a day goes on with what the optimisers remember of the day before.
            pipeline: What is done besides learning; nothing if it is not given.
        """
        self.config, self.days, self.series, self.optimizer, self.pipeline = config, days, series, optimizer, pipeline

    def plan(self, until: date | None = None) -> Plan:
        """Say what there is to do.

        Raises:
            ConfigError: the days or the tracking store cannot be used.
        """
        begun: set[str] = set()
        coming: list[date] = []
        if self.pipeline is not None:
            open_days = unfinished_runs(self.config.tracking, {PIPELINE: self.series})
            begun = {run.tags[PIPELINE_DAY] for run in open_days}
            coming = coming_days(self.pipeline.prepare, until) if self.pipeline.prepare is not None else []
        needs_base = self.config.init_from is None
        plan = make_plan(self.days, self.runs(), until=until, needs_base=needs_base, begun=begun, coming=coming)
        if self.pipeline is not None:
            preparing = self.pipeline.prepare
            require_held_out(plan.due, None if preparing is None else preparing.hold_out)
        return plan

    def runs(self) -> list[FoundRun]:
        """Return the series' finished runs."""
        return finished_runs(self.config.tracking, {SERIES_TAG: self.series})

    def learn(self, plan: Plan, console: Console, *, publish: Publish | None = None, verbose: bool = False) -> None:
        """Do what is due, one day after another; a day that another process or an error has stopped goes on.

        Raises:
            ConfigError: something that the user can mend.
            RunFailedError: a day that did not get to its end; the same command goes on there.
        """
        before = address(plan.newest) if plan.newest is not None else None
        trains = any(step.state == "due" for step in plan.due)
        with self.session(verbose=verbose) if trains else nullcontext():
            for step in plan.due:
                rows = f"{step.rows:,} rows" if step.prepared else "to be prepared"
                console.rule(f"{step.name}: {rows}", align="left", style="dim")
                if self.pipeline is None:
                    before = f"runs:/{self.train(step, before, console, verbose=verbose)}/{BUNDLE}"
                else:
                    assert publish is not None
                    world = World(self.config, self.days, self.series, self.pipeline, publish, console)
                    self._through(world, step, verbose=verbose)

    def _through(self, world: World, step: Step, *, verbose: bool) -> None:
        """Bring a day through its pipeline; whom it concerns hears of what stops it."""

        def learn(ready: Step, parent: Run) -> str:
            before = beginning(self.config, self.runs(), world.pipeline.judge.go_on_from)
            return self.train(ready, before, world.console, verbose=verbose, tags={PARENT: parent.run_id})

        try:
            params = world.pipeline.model_dump(mode="json", exclude={"notify"})  # its address may be a secret
            with day_run(self.config.tracking, self.series, step.name, params) as run:
                Day(world, step, run).go(learn, self.runs)
        except Exception as error:
            told = world.pipeline.notify
            if told is not None and "failed" in told.when:
                for problem in notify(told, message_of(world, step.name, decision="failed", problem=str(error))):
                    world.say(problem)
            raise

    def session(self, *, verbose: bool) -> AbstractContextManager[None]:
        """Hold what the training of all days needs."""
        return cluster(self.config.cluster, verbose=verbose)

    def train(
        self, step: Step, before: str | None, console: Console, *, verbose: bool, tags: dict[str, str] | None = None
    ) -> str:
        """Learn a day; return its run."""
        own = {SERIES_TAG: self.series, DAY_TAG: step.name, DATA_TAG: step.digest, FROM_TAG: before or ""}
        return train(self.run_of(step, before), console, verbose=verbose, tags={**own, **(tags or {})}).run_id

    def run_of(self, step: Step, before: str | None) -> TrainRun:
        """Configure the run of a step; ``before`` is the address of the model that it goes on from."""
        data = self.config.data.model_copy(update={"path": str(step.data)})
        run = self.config.model_copy(update={"data": data, "run_name": f"{self.series}-{step.name}"})
        if step.name == BASE:
            return run.model_copy(update={"init_from": None})
        init_from = self.config.init_from
        if before is not None:
            init_from = InitFrom(model=before, optimizer=self.optimizer)
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
    publish: Publish | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    """Learn every day that is due, print what all days brought, and write it if asked.

    ``publish`` brings features to a store, for a pipeline.

    Raises:
        ConfigError: something that the user can mend.
        RunFailedError: a day that did not get to its end.
    """
    plan = daily.plan(until)
    for note in (*plan.notes, *_intentions(daily, plan, dry_run=dry_run)):
        console.print(note, highlight=False, soft_wrap=True)
    try:
        if plan.due and not dry_run:
            daily.learn(plan, console, publish=publish, verbose=verbose)
    finally:
        steps = after(plan, daily.runs())
        facts = {"series": daily.series, "days": [as_dict(step) for step in steps], "notes": list(plan.notes)}
        for table in tables(steps, daily.series):
            console.print(table)
        if json_file is not None:
            json_file.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return facts


def _intentions(daily: Daily, plan: Plan, *, dry_run: bool) -> list[str]:
    """Say which steps a dry run leaves out."""
    if daily.pipeline is None or not dry_run:
        return []
    lines = []
    for step in plan.due:
        done = {"prepare"} if step.prepared else set()
        done |= {"prepare", "train"} if step.state == "begun" else set()
        steps = [name for name in daily.pipeline.steps if name not in done]
        lines.append(f"{step.name}: would {', '.join(steps)}")
    return lines
