"""What the pipeline did, call by call, day by day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.text import machine, markdown_table, number


@dataclass(frozen=True)
class Call:
    """One call of the command, and what there was when it had ended."""

    name: str
    code: int
    seconds: float
    champion: int | None
    days: Sequence[Mapping[str, Any]]
    unfinished: Sequence[str]
    """Names of runs in MLflow that had not come to their end."""


def report(calls: Sequence[Call], told: Sequence[Mapping[str, Any]], command: str, policy: str) -> str:
    """Write the report in Markdown."""
    days = calls[-1].days
    parts = [
        "# Operations: three days, one of them bad, one killed and called again",
        f"{machine()}.\n\n    {command}",
        f"Policy `{policy}`. The labels of {days[2]['day']} were shuffled among its rows. {days[3]['day']} was killed "
        "with SIGKILL when its first checkpoint was there, and the same command called again.",
        "## Calls",
        _calls(calls),
        "## Days",
        _days(days, told),
        *(f"- **{day['day']}**: {day.get('verdict', 'not judged')}" for day in days),
        "## What was said",
        *(f"    {message['text']}" for message in told),
    ]
    return "\n\n".join(parts) + "\n"


def _calls(calls: Sequence[Call]) -> str:
    header = ("call", "exit code", "seconds", "days learnt in it", "champion after it", "runs not at their end")
    rows = [
        (
            one.name,
            str(one.code),
            number(one.seconds, 0),
            ", ".join(day["day"] for day in one.days if day["state"] == "learnt now") or "–",
            f"version {one.champion}",
            ", ".join(one.unfinished) or "–",
        )
        for one in calls
    ]
    return markdown_table(header, rows)


def _days(days: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]]) -> str:
    said = {message["day"]: message for message in told}
    tasks = [
        task for task, values in days[1]["metrics"].items() if values.get("positives", 0) >= 50 and "auc" in values
    ]
    header = ("day", "rows", "decision", "version", "champion", *(f"{task}: AUC before the day" for task in tasks))
    rows = []
    for day in days:
        facts = said[day["day"]]
        scores = [number(day["metrics"].get(task, {}).get("auc", float("nan"))) for task in tasks]
        place = (str(facts["version"]), str(facts["champion"]))
        rows.append((day["day"], f"{day['rows']:,}", day.get("decision", "–"), *place, *scores))
    return markdown_table(header, rows)
