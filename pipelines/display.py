"""What a person sees of a long run: a progress bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipelines.monitor import Event
from recsys_mtl.training.select import Metrics

LINE_EVERY_S = 10.0
"""Seconds between lines where there is no terminal."""

COLUMNS = {
    "binary": ("rows", "positives", "auc", "gauc", "gauc_coverage", "logloss", "calibration", "ece"),
    "regression": ("rows", "rmse", "mae", "xauc", "calibration"),
}
"""Metrics of the table, in its order."""


class TrainingDisplay:
    """Shows a run's events."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None
        self.last_line = -math.inf

    def __enter__(self) -> "TrainingDisplay":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "stage":
            self.console.print(event.text, highlight=False)
        elif event.kind == "progress":
            self._progress(event)
        elif event.kind == "evaluation":
            mark = " (best so far)" if event.best else ""
            self.console.print(f"step {event.step}: {_summary(event.metrics)}{mark}", highlight=False, soft_wrap=True)

    def _progress(self, event: Event) -> None:
        loss = f"loss {event.losses['total']:.4f}, " if "total" in event.losses else ""
        status = f"{loss}{event.rows_per_s:,.0f} rows/s, {event.waited:.0%} waiting for data"
        if self.task is None:
            self.task = self.bar.add_task("training", total=event.total_steps, status=status)
        self.bar.update(self.task, completed=event.step, status=status)
        now = time.monotonic()
        if not self.console.is_terminal and now - self.last_line >= LINE_EVERY_S:
            self.last_line = now
            self.console.print(f"step {event.step}/{event.total_steps}: {status}", highlight=False)


def metrics_table(metrics: Metrics, title: str) -> list[Table]:
    """Lay out metrics: one table for events, one for amounts."""
    tables: list[Table] = []
    for kind, names in COLUMNS.items():
        rows = {task: values for task, values in metrics.items() if ("rmse" in values) == (kind == "regression")}
        if rows:
            table = Table(title=title if not tables else None)
            table.add_column("task")
            for name in names:
                table.add_column(name, justify="right")
            for task, values in rows.items():
                table.add_row(task, *(number(values.get(name, math.nan)) for name in names))
            tables.append(table)
    return tables


def number(value: float) -> str:
    """Print a count or a measure; a measure that is not defined is a dash."""
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if math.isnan(value) else f"{value:.4f}"


def final_lines(metrics: Metrics) -> list[str]:
    """One line per task, for people and scripts: ``final TASK auc=…``."""
    return [
        f"final {task} " + " ".join(f"{k}={number_plain(v)}" for k, v in _headline(values).items())
        for task, values in metrics.items()
    ]


def left_out_lines(counts: Mapping[str, int]) -> list[str]:
    """Say what was left out of training, if anything was: ``left out NAME=COUNT …``."""
    return ["left out " + " ".join(f"{name}={count}" for name, count in counts.items())] if counts else []


def number_plain(value: float) -> str:
    """Print a number without separators."""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _headline(values: Mapping[str, float]) -> dict[str, float]:
    names = ("auc", "gauc", "rmse", "xauc", "rows", "positives")
    return {name: values[name] for name in names if name in values}


def _summary(metrics: Metrics) -> str:
    parts = []
    for task, values in metrics.items():
        name = "auc" if "auc" in values else "rmse"
        parts.append(f"{task} {name} {number(values[name])}")
    return ", ".join(parts)
