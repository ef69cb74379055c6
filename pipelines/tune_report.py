"""What a search has found: tables, pictures, and the command that gives its best."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.display import number
from recsys_mtl.plots import front_figure, search_figure
from recsys_mtl.tracking import Run
from recsys_mtl.training.select import Criterion


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial."""

    name: str
    state: str
    """``finished``, ``stopped early``, ``failed`` or ``not begun``."""
    fields: Mapping[str, Any]
    """Settings that the search chose."""
    values: tuple[float, ...]
    """Of the objectives, on validation; NaN where the trial has no evaluation."""


def front(results: Sequence[TrialResult], goals: Sequence[Criterion]) -> list[TrialResult]:
    """Return the finished trials that no other finished one beats in one objective and matches in all; best first.

    With one objective they are the best, several where values are equal.
    """
    signs = [1 if goal.mode == "max" else -1 for goal in goals]
    points = {
        result.name: [sign * value for sign, value in zip(signs, result.values, strict=True)]
        for result in results
        if result.state == "finished" and not any(math.isnan(value) for value in result.values)
    }

    def beaten(mine: list[float]) -> bool:
        return any(other != mine and all(o >= m for o, m in zip(other, mine, strict=True)) for other in points.values())

    found = [result for result in results if result.name in points and not beaten(points[result.name])]
    return sorted(found, key=lambda result: points[result.name], reverse=True)


def table(results: Sequence[TrialResult], goals: Sequence[Criterion]) -> Table:
    """Lay out all trials in the order they began; those of the front are marked."""
    best = {result.name for result in front(results, goals)}
    found = Table(title="Trials (validation)")
    for name in ("", "trial", "state", *(goal.name for goal in goals), "settings"):
        found.add_column(name, overflow="fold")
    for result in results:
        mark = "*" if result.name in best else ""
        values = [number(value) for value in result.values]
        found.add_row(mark, result.name, result.state, *values, " ".join(words(result.fields)))
    return found


def words(fields: Mapping[str, Any]) -> list[str]:
    """Write settings as they stand on a command line."""
    return [f"{path}={json.dumps(value)}" for path, value in fields.items()]


def report(
    console: Console, sources: Sequence[str], goals: Sequence[Criterion], results: Sequence[TrialResult]
) -> None:
    """Print all trials, and how to train the best of them again."""
    console.print(table(results, goals))
    best = front(results, goals)
    if not best:
        console.print("no trial has come to its end", highlight=False)
    for result in best:
        values = ", ".join(f"{goal.name} {number(v)}" for goal, v in zip(goals, result.values, strict=True))
        command = shlex.join(["recsys-mtl", "train", *sources, *words(result.fields)])
        console.print(f"{'best' if len(goals) == 1 else 'on the front'}: {values}", highlight=False, soft_wrap=True)
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)


def as_dict(results: Sequence[TrialResult], goals: Sequence[Criterion], run_id: str) -> dict[str, Any]:
    """Return the search for programs; a value that is not known is null."""
    best = {result.name for result in front(results, goals)}
    trials = [
        {
            "name": result.name,
            "state": result.state,
            "settings": dict(result.fields),
            "values": {g.name: None if math.isnan(v) else v for g, v in zip(goals, result.values, strict=True)},
            "best": result.name in best,
        }
        for result in results
    ]
    return {"run_id": run_id, "trials": trials}


def keep(tracked: Run, goals: Sequence[Criterion], results: Sequence[TrialResult]) -> None:
    """Put tables, pictures and the best values among the files and metrics of the search's run."""
    known = [result for result in results if not any(math.isnan(value) for value in result.values)]
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "trials.json").write_text(
            json.dumps(as_dict(results, goals, tracked.run_id), indent=2), encoding="utf-8"
        )
        names = [goal.name for goal in goals]
        if known:
            values = [result.values for result in known]
            on_front = [result in front(results, goals) for result in known]
            search_figure(values, names=names).savefig(folder / "search.png")
            if len(goals) > 1:
                front_figure(values, on_front, names=names).savefig(folder / "front.png")
        tracked.log_artifacts(folder, "tune")
    best = front(results, goals)
    if best:
        metrics = {f"best/{goal.name.replace(', ', '-')}": v for goal, v in zip(goals, best[0].values, strict=True)}
        tracked.log_metrics(metrics)
        tracked.set_tags({"tune.best": best[0].name, "tune.settings": " ".join(words(best[0].fields))})
