"""Which days of a series are learnt, which are due, and which have missed their turn."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal

from pipelines.prepare.days import BASE
from recsys_mtl.config import ConfigError
from recsys_mtl.data.day import day_facts
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.growth import input_differences, scale_differences
from recsys_mtl.storage import Location, Place, locate
from recsys_mtl.tracking.series import FoundRun

SERIES_TAG, DAY_TAG, DATA_TAG = "daily.series", "daily.day", "daily.data"
"""Tags of a series' runs: its name, the day, and the digest of the day's data."""

State = Literal["learnt now", "learnt before", "changed since", "too late", "due"]


@dataclass(frozen=True)
class Step:
    """A day of a series, or what it begins with."""

    name: str
    """``base``, or the day as ``YYYY-MM-DD``."""
    data: Location
    rows: int
    digest: str
    state: State
    run: FoundRun | None = None
    """The run that has learnt it."""


@dataclass(frozen=True)
class Plan:
    """What there is to do, in order."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    """What a person should know: gaps, days that come too late, data that changed."""
    newest: FoundRun | None
    """What the first due day goes on from; None where the series has not begun."""

    @property
    def due(self) -> list[Step]:
        """Steps that are to be learnt."""
        return [step for step in self.steps if step.state == "due"]


def make_plan(directory: Place, runs: Sequence[FoundRun], *, until: date | None, needs_base: bool) -> Plan:
    """Compare prepared days with the runs of a series.

    Args:
        directory: holds ``base`` and one prepared day in each ``YYYY-MM-DD``.
        runs: finished ones of the series.
        until: last day that is looked at.
        needs_base: whether a series without any run begins with ``base``.

    Raises:
        ConfigError: no days, a broken one, days whose inputs differ, or nothing to begin with.
    """
    by_day = {run.tags[DAY_TAG]: run for run in runs}
    learnt = sorted(date.fromisoformat(day) for day in by_day if day != BASE)
    newest = learnt[-1] if learnt else None
    days = dated(directory, until)
    if not days:
        end = "" if until is None else f" up to {until}"
        raise ConfigError([f"--days: {directory} has no directory named by a day, such as 2022-04-22{end}"])
    steps = [_step(day, path, by_day.get(day.isoformat()), newest) for day, path in days.items()]
    steps = [*_base(directory, by_day.get(BASE), begun=bool(runs), needed=needs_base), *steps]
    _refuse_strangers([step.data for step in steps if step.state == "due"])
    last = by_day.get(BASE) if newest is None else by_day[newest.isoformat()]
    return Plan(tuple(steps), tuple(_notes(steps, newest)), last)


def dated(directory: Place, until: date | None = None) -> dict[date, Location]:
    """Find the directories that are named by a day, in the order of the days."""
    found: dict[date, Location] = {}
    for path in locate(directory).children():
        try:
            day = date.fromisoformat(path.name)
        except ValueError:
            continue
        if path.is_directory() and path.name == day.isoformat() and (until is None or day <= until):
            found[day] = path
    return found


def _step(day: date, path: Location, run: FoundRun | None, newest: date | None) -> Step:
    facts = day_facts(path)
    if facts.day != day:
        raise ConfigError([f"{path}: holds {facts.day}"])
    state: State = "due"
    if run is not None:
        state = "learnt before" if run.tags.get(DATA_TAG) == facts.digest else "changed since"
    elif newest is not None and day < newest:
        state = "too late"
    return Step(day.isoformat(), path, facts.rows, facts.digest, state, run)


def _base(directory: Place, run: FoundRun | None, *, begun: bool, needed: bool) -> Iterator[Step]:
    path = locate(directory) / BASE
    if run is None and (begun or not needed):
        return
    file = path / "stats.json"
    if not file.exists():
        if run is not None:
            return
        raise ConfigError([f"init_from: field required: there is no {path} to begin with"])
    stats = json.loads(file.read_text())
    yield Step(
        BASE, path, stats["splits"]["train"]["rows"], stats["fingerprint"], "learnt before" if run else "due", run
    )


def _refuse_strangers(paths: Sequence[Location]) -> None:
    """Make sure, before anything starts, that each data set can follow the one before."""
    specs = [(path, Encoder.load(path).spec) for path in paths]
    problems: list[str] = []
    for (before, old), (path, new) in pairwise(specs):
        found = [*input_differences(old, new), *scale_differences(old, new)]
        problems += [f"{path}: does not continue {before.name}: {difference}" for difference in found]
    if problems:
        raise ConfigError(problems)


def _notes(steps: Iterable[Step], newest: date | None) -> Iterator[str]:
    before = newest
    for step in steps:
        if step.state == "changed since":
            yield f"{step.name}: its data have changed since it was learnt, and are not learnt again"
        elif step.state == "too late":
            yield f"{step.name}: comes too late, {newest} is learnt already; it is left out"
        elif step.state == "due" and step.name != BASE:
            day = date.fromisoformat(step.name)
            if before is not None and (day - before).days > 1:
                missing = [before + timedelta(days=1), day - timedelta(days=1)]
                span = " to ".join(str(one) for one in dict.fromkeys(missing))
                yield f"{step.name}: there are no data of {span}"
            before = day


def task_metrics(metrics: Mapping[str, float], split: str) -> dict[str, dict[str, float]]:
    """Gather a split's metrics by task out of a run's flat ones."""
    found: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        parts = key.split("/")
        if len(parts) == 3 and parts[0] == split:
            found.setdefault(parts[1], {})[parts[2]] = value
    return found
