"""One day from its rows to the champion: prepare, train, judge, publish, notify."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol

from rich.console import Console

from pipelines.daily_config import Pipeline
from pipelines.daily_plan import Step, dated, read_step
from pipelines.daily_prepare import fingerprint, prepare
from pipelines.daily_start import judging_rows
from pipelines.daily_steps import Result, Steps
from pipelines.daily_verdict import decide
from pipelines.judging_rows import Rows
from pipelines.notes import DECISION, LINE
from pipelines.notify import notify
from pipelines.prepare.days import BASE
from pipelines.run import TrainRun
from recsys_mtl.storage import Place
from recsys_mtl.tracking import Run
from recsys_mtl.tracking.series import FoundRun


class Publish(Protocol):
    """Brings the features of a prepared data set to a store."""

    def __call__(self, data: str, to: str, *, as_of: datetime | None, update: bool) -> None:
        """Publish; ``update`` leaves the rows of all other users and items as they are."""


@dataclass(frozen=True)
class World:
    """What all days of a series share."""

    config: TrainRun
    days: Place
    series: str
    pipeline: Pipeline
    publish: Publish
    console: Console

    def say(self, text: str) -> None:
        """Tell the user."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)


class Day:
    """A day on its way. Each step is done once, whoever does it; the champion changes in one of them only."""

    def __init__(self, world: World, step: Step, run: Run) -> None:
        self.world, self.step, self.run = world, step, run
        self.steps = Steps(run, f"{world.series}-{step.name}", world.say)

    def go(self, train: Callable[[Step, Run], str], runs: Callable[[], Sequence[FoundRun]]) -> None:
        """Do what is left to do; ``train`` learns a day and returns its run, ``runs`` looks up the finished ones."""
        self.prepare()
        run_id = self.step.run.run_id if self.step.run is not None else train(self.step, self.run)
        found = self.judge(run_id, judging_rows(self.world.days, self.step, runs(), self.world.pipeline.judge.days))
        self.publish(found)
        self.tell(found)
        self.run.set_tags(
            {DECISION: found["decision"], LINE: found["verdict"], "mlflow.note.content": found["verdict"]}
        )

    def prepare(self) -> None:
        """Make a data set of the day's rows, if there is none."""
        config, world = self.world.pipeline.prepare, self.world
        if self.step.prepared or config is None:
            return
        day, given = date.fromisoformat(self.step.name), config

        def work(_: Run) -> Result:
            prepare(given, world.days, day, world.console)
            return {}

        self.steps.once("prepare", {"day": str(day), "rows": fingerprint(config, day)}, work)
        self.step = replace(read_step(day, self.step.data, None, None), state="due")

    def judge(self, run_id: str, rows: Rows) -> Result:
        """Hold the day's version against the champion, and promote it if the policy says so."""
        policy, world = self.world.pipeline.judge.policy, self.world
        rules = policy.model_dump(mode="json")
        inputs = {"run_id": run_id, "rows": rows.names, "data": self.step.digest, "policy": rules}

        def work(child: Run) -> Result:
            found, verdict = decide(world.config, run_id, rows, policy, world.console)
            child.log_text(json.dumps(verdict.report(), indent=2), "verdict.json")
            child.log_metrics(verdict.charts())
            child.set_tags({DECISION: found["decision"], LINE: found["verdict"]})
            return found

        return self.steps.once("judge", inputs, work)

    def publish(self, found: Result) -> None:
        """Bring the newest values of users and items to the store; not those of a day that was rejected."""
        step, world = self.world.pipeline.publish, self.world
        if step is None:
            return
        if found["decision"] == "reject":
            world.say("publish: left out, since what was learnt from the day was rejected")
            return
        target = step.to

        def work(_: Run) -> Result:
            is_day = self.step.name != BASE
            world.publish(str(self.step.data), target, as_of=self._end(), update=is_day)
            return {}

        self.steps.once("publish", {"data": self.step.digest, "to": target}, work)

    def tell(self, found: Result) -> None:
        """Tell whom it concerns. Who cannot be told is named here, and nothing else happens."""
        config, world = self.world.pipeline.notify, self.world
        if config is None or found["decision"] not in config.when:
            return
        given = config
        message = message_of(world, self.step.name, **found, pipeline_run_id=self.run.run_id)

        def work(_: Run) -> Result:
            problems = notify(given, message)
            for problem in problems:
                world.say(problem)
            return {"problems": problems}

        self.steps.once("notify", {"run_id": found["run_id"], "decision": found["decision"]}, work)

    def _end(self) -> datetime | None:
        """Return the end of the day, or of the base: the first midnight that its values know nothing of."""
        if self.step.name != BASE:
            return datetime.combine(date.fromisoformat(self.step.name) + timedelta(days=1), time(), UTC)
        first = min(dated(self.world.days), default=None)
        return None if first is None else datetime.combine(first, time(), UTC)


def message_of(world: World, day: str, **facts: object) -> dict[str, object]:
    """Say how a day went, for people and programs; ``text`` is what chat programs show."""
    model, state = world.config.registry.name, facts["decision"]
    text = f"{world.series} {day}: {model}: {facts.get('verdict') or facts.get('problem')}"
    start = {"event": "recsys-mtl daily", "series": world.series, "day": day, "model": model, "state": state}
    return {**start, **facts, "text": text}
