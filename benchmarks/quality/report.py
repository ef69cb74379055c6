"""The report: every table with what its numbers rest on."""

import math
from collections.abc import Mapping
from datetime import datetime

from benchmarks.quality.costs import health_table, rates_table, sizes_table, speed_table
from benchmarks.quality.facts import Facts
from benchmarks.quality.scores import (
    FEW_POSITIVES,
    SHARED,
    SINGLE,
    averages,
    gains,
    reference,
    seesaw,
    values,
)
from benchmarks.spread import Spread, needed_errors, paired
from benchmarks.text import machine, markdown_table, number, percent, signed


def report(facts: Facts) -> str:
    """Write the report in Markdown."""
    sections = {
        "Average": averages_table(facts),
        "Tasks": tasks_table(facts),
        f"Gain over {SINGLE}": gains_table(facts),
        "Ablations": ablations_table(facts),
        "Sizes": sizes_table(facts.plan, facts.sizes),
        "Expert health": health_table(facts),
        "Speed": speed_table(facts),
        "Learning rates": rates_table(facts),
        "Missing runs": "\n".join(f"- {name}" for name in facts.missing) or "None.",
    }
    blocks = [block for title, body in sections.items() if body for block in (f"## {title}", body)]
    return "\n\n".join(["# Quality of the models", origin(facts), *blocks]) + "\n"


def origin(facts: Facts) -> str:
    """Say where the numbers come from."""
    commits = sorted({str(result.get("commit") or "unknown") for result in facts.results if "commit" in result})
    lines = [f"{datetime.now().astimezone():%Y-%m-%d}. {machine()}.", f"Commit of the runs: {', '.join(commits)}."]
    lines += [f"Data: specification `{facts.data.spec.fingerprint}`.", "", f"    {facts.command}", ""]
    splits = {name: split["rows"] for name, split in facts.data.stats["splits"].items()}
    counts = [
        (task, *(count(facts.data.count(split, task, what)) for split in splits for what in ("known", "positives")))
        for task in facts.tasks
    ]
    heads = [f"{name} ({rows:,} rows): {what}" for name, rows in splits.items() for what in ("known", "positives")]
    return "\n".join(lines) + "\n" + markdown_table(["task", *heads], counts)


def averages_table(facts: Facts) -> str:
    """Average AUC, its distance from the better simple model, and the share of tasks that lose against one alone."""
    scores, best = facts.scores, reference(facts.scores, facts.judged)
    against = averages(scores, best, facts.judged) if best else {}
    rows, counts = [], set()
    for model in facts.models:
        own = averages(scores, model, facts.judged)
        mean, ahead = Spread.of(own.values()), paired(own, against)
        counts.add(ahead.count)
        share = seesaw(gains(scores, model, facts.headlines)) if model != SINGLE else math.nan
        cells = [str(mean.count), number(mean.mean), number(mean.error, 5), signed(ahead.mean, 5)]
        rows.append([model, *cells, signed(ahead.in_errors, 1), percent(share)])
    heads = ["model", "seeds", "average AUC", "standard error", f"over {best}", "in standard errors"]
    table = markdown_table([*heads, f"tasks below {SINGLE}"], rows)
    needed = ", ".join(f"{needed_errors(n):.1f} for {n} seeds" for n in sorted(counts) if n > 1)
    note = (
        f"Over {', '.join(facts.judged) or 'no task'}: the events with {FEW_POSITIVES} or more positives in the test "
        f"split. {best} is the better of {SINGLE} and {SHARED}. Differences are of equal seeds; errors are over seeds, "
        "for this test split. A difference is beyond chance (5 %, two-sided, Student's t) from so many standard errors "
        f"on: {needed or 'one seed has none'}."
    )
    return f"{table}\n\n{note}"


def tasks_table(facts: Facts) -> str:
    """Every task's metrics, mean and standard deviation over seeds."""
    shown = {task: ("auc", "gauc") if name == "auc" else ("xauc", "rmse") for task, name in facts.headlines.items()}
    columns = [(task, metric) for task, metrics in shown.items() for metric in metrics]
    rows = [
        [model, *(mean_and_deviation(values(facts.scores, model, task, metric)) for task, metric in columns)]
        for model in facts.models
    ]
    return markdown_table(["model", *(f"{task} {metric.upper()}" for task, metric in columns)], rows)


def gains_table(facts: Facts) -> str:
    """The seesaw: what every task gains from learning with the others."""
    rows = []
    for model in facts.models:
        found = gains(facts.scores, model, facts.headlines)
        if model != SINGLE and any(gain.count for gain in found.values()):
            cells = [f"{signed(gain.mean)} ({signed(gain.in_errors, 1)})" for gain in found.values()]
            rows.append([model, *cells, percent(seesaw(found))])
    heads = [f"{task} {metric.upper()}" for task, metric in facts.headlines.items()]
    note = "Means over equal seeds; in brackets in standard errors."
    return f"{markdown_table(['model', *heads, 'tasks that lose'], rows)}\n\n{note}" if rows else ""


def ablations_table(facts: Facts) -> str:
    """What each part of a model is worth: the model without it against the whole."""
    rows = []
    for name in facts.ablations:
        if (whole := facts.plan.ablations[name].like) is not None:
            own, other = (averages(facts.scores, model, facts.judged) for model in (name, whole))
            parts = gains(facts.scores, name, facts.headlines, baseline=whole).values()
            cells = [signed(paired(own, other).mean, 5), signed(paired(own, other).in_errors, 1)]
            rows.append([name, whole, str(paired(own, other).count), *cells, *(signed(part.mean) for part in parts)])
    heads = ["model", "against", "seeds", "average AUC", "in standard errors", *facts.headlines]
    return markdown_table(heads, rows) if rows else ""


def count(value: int | None) -> str:
    """Print a count; an amount has no positives."""
    return "–" if value is None else f"{value:,}"


def mean_and_deviation(found: Mapping[int, float]) -> str:
    """Print values of several seeds."""
    spread = Spread.of(found.values())
    return number(spread.mean) + (f" ± {spread.deviation:.4f}" if spread.count > 1 else "")
