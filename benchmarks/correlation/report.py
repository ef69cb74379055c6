"""What the runs say: losses over correlations, a picture, and whether the papers' order comes out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.correlation.experiment import MODELS, NOISE_VARIANCE
from benchmarks.results import Result
from benchmarks.spread import BySeed, Spread, needed_errors, paired
from benchmarks.text import machine, markdown_table, number, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Losses = Mapping[str, Mapping[float, BySeed]]
"""Test loss by model, correlation and seed: the mean squared error, averaged over the two tasks."""

PAIRS = (("MMoE", "Shared-Bottom"), ("PLE", "MMoE"))
"""What the papers find better, and than what."""


def losses(results: Iterable[Result]) -> Losses:
    """Sort the runs."""
    found: dict[str, dict[float, BySeed]] = {}
    for result in results:
        values = found.setdefault(result["model"], {}).setdefault(result["correlation"], {})
        values[result["seed"]] = math.nan if None in result["test"] else sum(result["test"]) / len(result["test"])
    return found


def advantages(found: Losses, better: str, other: str) -> dict[float, Spread]:
    """Return by how much the loss of one model is below another's, by correlation, over equal seeds."""
    mine, its = found.get(better, {}), found.get(other, {})
    return {p: paired(its[p], mine[p]) for p in sorted(mine.keys() & its.keys())}


def slope(found: Losses, better: str, other: str) -> Spread:
    """Return how the advantage changes with the correlation: one least-squares line for each seed."""
    mine, its = found.get(better, {}), found.get(other, {})
    correlations = sorted(mine.keys() & its.keys())
    seeds = set.intersection(*({*mine[p]} & {*its[p]} for p in correlations)) if len(correlations) > 1 else set()
    lines = [np.polyfit(correlations, [its[p][seed] - mine[p][seed] for p in correlations], 1) for seed in seeds]
    return Spread.of(float(line[0]) for line in lines)


def certain(spread: Spread) -> int:
    """Return the sign of a mean that is beyond chance, else 0."""
    return int(math.copysign(1, spread.mean)) if abs(spread.in_errors) > needed_errors(spread.count) else 0


def verdict(found: Losses, better: str, other: str) -> str:
    """Say in a sentence whether the papers' order of two models comes out."""
    signs = {p: certain(spread) for p, spread in advantages(found, better, other).items()}
    ahead, behind = (", ".join(f"{p:g}" for p, sign in signs.items() if sign == wanted) for wanted in (1, -1))
    places = [f"below it at p = {ahead}"] if ahead else []
    places += [f"above it at p = {behind}"] if behind else []
    line = slope(found, better, other)
    change = {1: "shrinks", -1: "grows", 0: "does not change beyond chance"}[certain(line)]
    different = f"{' and '.join(places)}, beyond chance" if places else "nowhere different beyond chance"
    slopes = f"{signed(line.mean, 5)} per unit of p, {signed(line.in_errors, 1)} standard errors"
    return (
        f"Papers' order, {better} better than {other}: {'yes' if ahead and not behind else 'no'}. "
        f"The loss of {better}, against {other}'s, is {different}. "
        f"Its advantage {change} as the tasks correlate less ({slopes})."
    )


def report(results: Sequence[Result], rates: Mapping[str, float], command: str, missing: Sequence[str]) -> str:
    """Write the report in Markdown."""
    found = losses(results)
    pearson = {p: Spread.of(r["pearson"] for r in results if r["correlation"] == p) for p in correlations_of(found)}
    parts = [
        "# Shared-Bottom, MMoE and PLE over task correlations",
        f"{machine()}, one thread.\n\n    {command}",
        "\n\n".join(verdict(found, better, other) for better, other in PAIRS),
        losses_table(found, pearson),
        f"Test loss, mean ± sd (median) over seeds; the noise alone is {NOISE_VARIANCE}. A seed draws data, labels and "
        "weights, the same for all models: advantages are paired, in brackets in standard errors.",
        "![Loss against correlation](correlation.png)",
        models_table(results, rates),
        "Missing runs: " + (", ".join(missing) or "none") + ".",
    ]
    return "\n\n".join(parts) + "\n"


def correlations_of(found: Losses) -> list[float]:
    """Return the correlations of all runs."""
    return sorted({p for by_correlation in found.values() for p in by_correlation})


def losses_table(found: Losses, pearson: Mapping[float, Spread]) -> str:
    """Losses and advantages by correlation."""
    pairs = {f"{better} below {other}": advantages(found, better, other) for better, other in PAIRS}
    rows = []
    for p in correlations_of(found):
        spreads = [Spread.of(found.get(model, {}).get(p, {}).values()) for model in MODELS]
        cells = [f"{number(s.mean, 5)} ± {number(s.deviation, 5)} ({number(s.median, 5)})" for s in spreads]
        ahead = [gains.get(p, Spread.of([])) for gains in pairs.values()]
        cells += [f"{signed(gain.mean, 5)} ({signed(gain.in_errors, 1)})" for gain in ahead]
        rows.append([f"{p:g}", number(pearson[p].mean, 3), str(max(s.count for s in spreads)), *cells])
    return markdown_table(["p", "Pearson of the labels", "seeds", *MODELS, *pairs], rows)


def models_table(results: Sequence[Result], rates: Mapping[str, float]) -> str:
    """Sizes, learning rates and time."""
    rows = []
    for model in MODELS:
        runs = [result for result in results if result["model"] == model]
        if runs:
            seconds = Spread.of(run["seconds"] for run in runs).mean
            rows.append([model, f"{runs[0]['parameters']:,}", f"{rates[model]:g}", str(len(runs)), number(seconds, 1)])
    return markdown_table(["model", "weights", "learning rate", "runs", "seconds each"], rows)


def picture(found: Losses) -> "Figure":
    """Draw losses with their spread, and the paired advantages with their errors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for model in [model for model in MODELS if model in found]:
        by_correlation = {p: sorted(values.values()) for p, values in sorted(found[model].items())}
        heights = np.array([Spread.of(values).median for values in by_correlation.values()])
        lowest, highest = np.array([(values[0], values[-1]) for values in by_correlation.values()]).T
        bars = np.stack([heights - lowest, highest - heights])
        left.errorbar([*by_correlation], heights, yerr=bars, marker="o", capsize=3, label=model)
    for better, other in PAIRS:
        gains = advantages(found, better, other)
        means, errors = [s.mean for s in gains.values()], [s.error for s in gains.values()]
        right.errorbar([*gains], means, yerr=errors, marker="o", capsize=3, label=f"{better} below {other}")
    left.axhline(NOISE_VARIANCE, color="grey", linestyle=":", label="noise")
    right.axhline(0, color="grey", linestyle=":")
    left.set(xlabel="correlation p of the weights", ylabel="test loss, median and range", yscale="log")
    right.set(xlabel="correlation p of the weights", ylabel="paired advantage ± standard error")
    for axes in (left, right):
        axes.legend()
    return figure
