"""How the cost of a step grows with the sizes of model and data."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.results import Result
from benchmarks.rounds import Figure
from benchmarks.text import markdown_table, number
from benchmarks.training.figures import of_part
from benchmarks.training.plan import GROWTH, ROWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

Curve = Mapping[int, Figure]
"""Rows per second by size."""
LABELS = {
    "experts": "experts",
    "tasks": "tasks",
    "fields": "id fields",
    "vocabulary": "rows of each table",
    "history": "events of a history",
    "rows": "rows of training data, from Parquet",
}


def curves(results: Sequence[Result]) -> dict[str, Curve]:
    """Sort the points."""
    found: dict[str, dict[int, list[float]]] = {}
    for one in of_part(results, GROWTH) + of_part(results, ROWS):
        name, value = one["case"].split()
        found.setdefault(name, {}).setdefault(int(value), []).append(one["rates"][0]["rows_per_s"])
    return {
        name: {value: Figure(tuple(rates)) for value, rates in sorted(points.items())} for name, points in found.items()
    }


def growth_table(results: Sequence[Result]) -> str:
    """Rows per second by size, and what a row costs beside the smallest size."""
    rows = []
    for name, curve in curves(results).items():
        first = next(iter(curve.values())).median
        for value, rate in curve.items():
            rows.append([f"{LABELS[name]}: {value:,}", rate.text(0), number(first / rate.median, 2)])
    return markdown_table(["size", "rows/s", "cost of a row, smallest = 1"], rows)


def picture(results: Sequence[Result]) -> "Picture":
    """Draw all curves."""
    from matplotlib.figure import Figure as Picture

    drawn = Picture(figsize=(12, 7), layout="constrained")
    for axes, name in zip(drawn.subplots(2, 3).flat, LABELS, strict=True):
        if not (curve := curves(results).get(name, {})):
            axes.set_axis_off()
            continue
        middles = [rate.median for rate in curve.values()]
        below = [rate.median - min(rate.values) for rate in curve.values()]
        above = [max(rate.values) - rate.median for rate in curve.values()]
        axes.errorbar([*curve], middles, yerr=[below, above], marker="o", capsize=3)
        axes.set(xlabel=LABELS[name], ylabel="rows/s", xscale="log")
        axes.set_ylim(bottom=0)
        axes.set_xticks([*curve], labels=[short(value) for value in curve])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    return drawn


def short(value: int) -> str:
    """Print a size as briefly as it can be."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return str(value)
