"""The ways of having a model for each day: going on from the day before, or training on all days so far."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from pipelines.cluster import cluster
from pipelines.daily import Daily
from pipelines.daily_plan import DATA_TAG, DAY_TAG, SERIES_TAG, dated, task_metrics
from pipelines.prepare.days import BASE
from pipelines.run import TrainRun
from pipelines.train import train
from pipelines.warm import InitFrom
from recsys_mtl.data.day import day_facts
from recsys_mtl.registry import BUNDLE
from recsys_mtl.tracking.series import FoundRun, finished_runs

KEEP, RESET, SCRATCH = "incremental", "incremental, optimisers reset", "from scratch"
ARMS = (KEEP, RESET, SCRATCH)
_SERIES = {KEEP: "keep", RESET: "reset", SCRATCH: "scratch"}


@dataclass(frozen=True)
class DayResult:
    """What an arm's model was worth on a day before it had seen it, and what it cost to have it."""

    metrics: Mapping[str, Mapping[str, float]]
    seconds: float
    """Time in training steps that the day added: of the day before's rows, or of all rows so far."""
    rows: int
    """Rows that were learnt in that time."""


def learn(arm: str, config: TrainRun, days: Path, until: date | None, console: Console) -> None:
    """Train whatever an arm lacks."""
    if arm == SCRATCH:
        _learn_from_scratch(config, days, until, console)
        return
    optimizer: Literal["keep", "reset"] = "keep" if arm == KEEP else "reset"
    if arm == RESET:  # which differs from the other only behind the base
        base = f"runs:/{_runs(KEEP, config)[BASE].run_id}/{BUNDLE}"
        config = config.model_copy(update={"init_from": InitFrom(model=base, optimizer=optimizer)})
    daily = Daily(config, days, series=_SERIES[arm], optimizer=optimizer)
    plan = daily.plan(until)
    if plan.due:
        daily.learn(plan, console)


def _runs(arm: str, config: TrainRun) -> dict[str, FoundRun]:
    """Return an arm's finished runs by day."""
    return {run.tags[DAY_TAG]: run for run in finished_runs(config.tracking, {SERIES_TAG: _SERIES[arm]})}


def results(arm: str, config: TrainRun, days: Path, until: date | None) -> dict[date, DayResult]:
    """Read what an arm has brought so far."""
    runs = _runs(arm, config)
    if arm == RESET:
        runs |= {day: run for day, run in _runs(KEEP, config).items() if day == BASE}
    paths, found = _dated(days, until), {}
    for day in paths:
        run = runs.get(day.isoformat())
        if run is not None and arm == SCRATCH:
            rows = sum(_rows(path) for path in _before(days, paths, day))
            found[day] = DayResult(task_metrics(run.metrics, "test"), _seconds(run), rows)
        elif run is not None:
            before = _before(days, paths, day)[-1]
            cost = _seconds(runs[before.name]) if before.name in runs else 0.0
            found[day] = DayResult(task_metrics(run.metrics, "progressive"), cost, _rows(before))
    return found


def _seconds(run: FoundRun) -> float:
    return run.metrics.get("train/seconds", 0.0)


def _dated(days: Path, until: date | None) -> dict[date, Path]:
    return {day: place.local for day, place in dated(days, until).items()}


def _rows(path: Path) -> int:
    stats = json.loads((path / "stats.json").read_text(encoding="utf-8"))
    return int(stats["splits"]["train"]["rows"])


def _learn_from_scratch(config: TrainRun, days: Path, until: date | None, console: Console) -> None:
    """Train a model for each day on all rows before it, one pass, and keep the last weights."""
    done = _runs(SCRATCH, config)
    paths = _dated(days, until)
    one_pass = config.trainer.model_copy(update={"epochs": 1, "eval_every": None})
    with cluster(config.cluster, verbose=False):
        for day, path in paths.items():
            if day.isoformat() in done:
                continue
            together = days.parent / f".{days.name}-before-{day}"
            _join(_before(days, paths, day), path, together)
            tags = {SERIES_TAG: _SERIES[SCRATCH], DAY_TAG: day.isoformat(), DATA_TAG: day_facts(path).digest}
            data = config.data.model_copy(update={"path": str(together)})
            changes = {"data": data, "run_name": f"{_SERIES[SCRATCH]}-{day}", "trainer": one_pass}
            try:
                train(config.model_copy(update=changes), console, tags=tags)
            finally:
                shutil.rmtree(together)


def _before(days: Path, paths: Mapping[date, Path], day: date) -> list[Path]:
    return [days / BASE, *(path for other, path in paths.items() if other < day)]


def _join(before: Sequence[Path], day: Path, out: Path) -> None:
    """Put together a data set that trains on earlier ones and is tested on a day.

    Rows of values stay the same from day to day, so that files of earlier days can be read with the vocabulary of this
    one. A value that is new on this day has a row that nothing was learnt for, as it has in a model that goes on.
    """
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(day, out, ignore=shutil.ignore_patterns("train"))
    (out / "train").mkdir()
    for number, path in enumerate(before):
        for file in sorted((path / "train").iterdir()):
            os.link(file, out / "train" / f"part-{number:03d}-{file.name}")
    stats = [json.loads((path / "stats.json").read_text(encoding="utf-8")) for path in [*before, day]]
    splits = {"train": _summed([one["splits"]["train"] for one in stats[:-1]]), "valid": stats[-1]["splits"]["valid"]}
    content = {"fingerprint": stats[-1]["fingerprint"], "splits": {**splits, "test": stats[-1]["splits"]["test"]}}
    (out / "stats.json").write_text(json.dumps(content), encoding="utf-8")


def _summed(splits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the counts of several splits."""
    tasks = {name: dict(_task([split["tasks"][name] for split in splits])) for name in splits[0]["tasks"]}
    fields = {
        name: {count: sum(split["fields"][name][count] for split in splits) for count in counts}
        for name, counts in splits[0]["fields"].items()
    }
    return {"rows": sum(split["rows"] for split in splits), "tasks": tasks, "fields": fields}


def _task(counts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float | None]]:
    known = sum(one["known"] for one in counts)
    yield "known", known
    if "positives" in counts[0]:
        positives = sum(one["positives"] for one in counts)
        yield from (("positives", positives), ("rate", positives / known if known else None))
    else:
        total = sum(one["known"] * (one["mean"] or 0) for one in counts)
        yield "mean", total / known if known else None
