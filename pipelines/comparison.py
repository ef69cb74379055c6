"""What a comparison of two models says: as a table, as plain values and in a line."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.contenders import Contender
from pipelines.display import number
from recsys_mtl.metrics.paired import MIN_USERS, Difference

STYLES = {"better": "green", "worse": "red", "not separable": ""}


@dataclass(frozen=True)
class Comparison:
    """One model against the baseline."""

    baseline: Contender
    other: Contender
    tasks: dict[str, dict[str, Difference]]
    """By task and metric."""

    @property
    def left_out(self) -> dict[str, str]:
        """Tasks that only one of the two has, and which one that is."""
        mine, theirs = self.baseline.tasks, self.other.tasks
        return {task: self.baseline.label for task in mine if task not in theirs} | {
            task: self.other.label for task in theirs if task not in mine
        }

    @property
    def verdict(self) -> str:
        """All verdicts in a line, such as ``better: like auc, like gauc; worse: none``."""
        rows = self.rows()
        named = {
            kind: ", ".join(f"{row['task']} {row['metric']}" for row in rows if row["verdict"] == kind)
            for kind in ("better", "worse")
        }
        return "; ".join(f"{kind}: {names or 'none'}" for kind, names in named.items())

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values; None where a number is not defined."""
        return [
            {"task": task, "metric": metric} | _finite(values)
            for task, row in self.tasks.items()
            for metric, values in row.items()
        ]

    def report(self) -> dict[str, Any]:
        """Return everything as plain values, for programs."""
        return {
            "model": self.other.name,
            "run_id": self.other.place.run_id,
            "left_out": list(self.left_out),
            "tasks": {
                task: {metric: _finite(values) for metric, values in row.items()} for task, row in self.tasks.items()
            },
        }

    def show(self, console: Console, split: str, confidence: float) -> None:
        """Print the table, what it leaves out, and the verdicts in a line."""
        title = f"{self.other.label} against {self.baseline.label} on {split}"
        table = Table(title=title, caption="each interval by itself, over users; seeds of training vary on top of that")
        for name in ("task", "metric"):
            table.add_column(name)
        for name in ("baseline", "other", "difference", f"{100 * confidence:.6g}% interval"):
            table.add_column(name, justify="right")
        table.add_column("verdict")
        for name in ("users", "rows", "positives"):
            table.add_column(name, justify="right")
        for row in self.rows():
            table.add_row(*_cells(row), style=STYLES[row["verdict"]])
        console.print(table)
        if any(row["low"] is None for row in self.rows()):
            console.print(
                f"–: no interval from fewer than {MIN_USERS} users with an event, or without", highlight=False
            )
        for task, owner in self.left_out.items():
            console.print(f"left out: {task}, which only {owner} has", highlight=False, soft_wrap=True)
        console.print(self.verdict, highlight=False, soft_wrap=True)


def _cells(row: dict[str, Any]) -> Iterator[str]:
    yield from (row["task"], row["metric"])
    yield from (_number(row[name]) for name in ("baseline", "other"))
    yield _signed(row["difference"])
    yield "–" if row["low"] is None else f"[{_signed(row['low'])}, {_signed(row['high'])}]"
    yield row["verdict"]
    yield from (_number(row[name]) for name in ("users", "rows", "positives"))


def _number(value: float | None) -> str:
    return number(math.nan if value is None else value)


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _finite(values: Difference) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(values).items()
    }
