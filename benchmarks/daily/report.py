"""What the arms say: the AUC of each day's predictions, and seconds of training."""

import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import date

from benchmarks.daily.arms import ARMS, KEEP, DayResult
from benchmarks.spread import Spread
from benchmarks.text import machine, markdown_table, number, signed

Results = Mapping[str, Mapping[date, DayResult]]

LEAST_POSITIVES = 50
"""With fewer on a day, the standard error of an AUC of 0.75 is above 0.04 (Hanley and McNeil, 1982)."""


def report(found: Results, command: str) -> str:
    """Write the report in Markdown."""
    arms = [arm for arm in ARMS if found.get(arm)]
    days = sorted(set.intersection(*(set(found[arm]) for arm in arms))) if arms else []
    if not days:
        return "# Daily training\n\nNo day has been learnt in every way yet.\n"
    tasks = [task for task in _events(found[arms[0]]) if any(_counts(found[arms[0]][day], task) for day in days)]
    parts = [
        "# Daily training: going on from yesterday's model, or training anew",
        f"{machine()}.\n\n    {command}",
        "Each day is predicted by a model that has seen nothing of it. *Incremental* goes on from the model of the day "
        "before with one pass over that day; *from scratch* trains on all rows before the day, one pass, from new "
        "weights. A value that is new on the day is unknown to all of them.",
        "## Mean AUC of the events",
        _means(found, arms, days, tasks),
        f"Over the events with {LEAST_POSITIVES} positives or more on the day; in the last line over days, with the "
        "difference from *incremental* in standard errors over days.",
        "## Cost",
        _costs(found, arms, days),
        "Seconds in training steps, and rows learnt in them, that were spent to have the day's model.",
    ]
    for task in tasks:
        parts += [f"## {task}", _task(found, arms, days, task)]
    return "\n\n".join(parts) + "\n"


def mean_auc(result: DayResult, tasks: Sequence[str]) -> float:
    """Average the AUC of the events that have enough positives on a day."""
    values = [result.metrics[task]["auc"] for task in tasks if _counts(result, task)]
    return statistics.fmean(values) if values else math.nan


def _events(results: Mapping[date, DayResult]) -> list[str]:
    return list(dict.fromkeys(task for r in results.values() for task, m in r.metrics.items() if "auc" in m))


def _counts(result: DayResult, task: str) -> bool:
    metrics = result.metrics.get(task, {})
    return metrics.get("positives", 0) >= LEAST_POSITIVES and "auc" in metrics


def _means(found: Results, arms: Sequence[str], days: Sequence[date], tasks: Sequence[str]) -> str:
    by_arm = {arm: {day: mean_auc(found[arm][day], tasks) for day in days} for arm in arms}
    rows = [(str(day), *(number(by_arm[arm][day]) for arm in arms)) for day in days]
    last = ["mean"]
    for arm in arms:
        text = number(statistics.fmean(by_arm[arm].values()))
        if arm != KEEP and KEEP in by_arm:
            gap = Spread.of(by_arm[arm][day] - by_arm[KEEP][day] for day in days)
            text += f" ({signed(gap.mean)}, {signed(gap.in_errors, 1)} s.e.)"
        last.append(text)
    return markdown_table(("day", *arms), [*rows, last])


def _costs(found: Results, arms: Sequence[str], days: Sequence[date]) -> str:
    rows = [
        (str(day), *(f"{found[arm][day].seconds:,.1f} s, {found[arm][day].rows:,} rows" for arm in arms))
        for day in days
    ]
    sums = [f"{sum(found[arm][day].seconds for day in days):,.1f} s" for arm in arms]
    return markdown_table(("day", *arms), [*rows, ("together", *sums)])


def _task(found: Results, arms: Sequence[str], days: Sequence[date], task: str) -> str:
    rows = []
    for day in days:
        metrics = [found[arm][day].metrics.get(task, {}) for arm in arms]
        cells = [f"{number(m.get('auc', math.nan))} / {number(m.get('gauc', math.nan))}" for m in metrics]
        rows.append((str(day), f"{metrics[0].get('positives', 0):,.0f}", *cells))
    return markdown_table(("day", "positives", *(f"{arm}: AUC / GAUC" for arm in arms)), rows)
