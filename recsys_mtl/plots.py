"""Pictures of a model's quality and of its gates: plain arrays in, figures out, no global state."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Floats = npt.NDArray[np.floating]
Metrics = Mapping[str, float]

COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#a463f2", "#97bbf5", "#9c6b4e", "#3ca951", "#ff8ab7", "#9498a0")

PANELS_PER_ROW = 3
Z_95 = 1.96


def roc_figure(points: Mapping[str, Floats], metrics: Mapping[str, Metrics], *, title: str = "ROC") -> Figure:
    """Draw the ROC curves of all tasks into one picture.

    Args:
        points: by task, an (n, 2) array of false and true positive rates; empty where a class is missing.
        metrics: by task, with ``auc``, ``rows`` and ``positives``.
    """
    figure = _figure(7.8, 5.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#b5b5b5", linestyle=(0, (4, 4)), linewidth=1)
    for index, (task, curve) in enumerate(points.items()):
        label = f"{task}   AUC {_number(metrics[task]['auc'])}\n{_counts(metrics[task])}"
        axes.plot(*np.reshape(curve, (-1, 2)).T, color=COLORS[index % len(COLORS)], linewidth=1.8, label=label)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title=title)
    figure.legend(loc="outside right center", frameon=False, fontsize=9, labelspacing=0.9)
    _plain(axes)
    return figure


def reliability_figure(
    points: Mapping[str, Floats], metrics: Mapping[str, Metrics], *, title: str = "Calibration"
) -> Figure:
    """Draw predicted against observed rates, a panel for each task, with 95 % intervals of the observed rate.

    Args:
        points: by task, an (n, 3) array of predicted rate, observed rate and rows of each bin.
        metrics: by task, with ``rows``, ``positives``, ``calibration`` and ``ece``.
    """
    columns = min(PANELS_PER_ROW, max(1, len(points)))
    rows = max(1, math.ceil(len(points) / columns))
    figure = _figure(3.6 * columns + 0.4, 3.7 * rows + 0.5)
    figure.suptitle(title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, (task, bins) in enumerate(points.items()):
        _reliability_panel(panels[index], task, np.reshape(bins, (-1, 3)), metrics[task])
        panels[index].set(xlabel="predicted rate", ylabel="observed rate" if index % columns == 0 else "")
    for panel in panels[len(points) :]:
        panel.set_axis_off()
    return figure


def _reliability_panel(axes: Axes, task: str, bins: Floats, metrics: Metrics) -> None:
    axes.set_title(task)
    _plain(axes)
    empty = bool((bins[:, 1] == 0).any()) and metrics["positives"] > 0
    lines = [
        *(["△ bin without positives"] if empty else []),
        _counts(metrics),
        f"predicted / observed {_number(metrics['calibration'], 3)}",
        f"ECE {_number(metrics['ece'])}",
    ]
    note = "\n".join(lines)
    axes.text(0.97, 0.04, note, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color="#444444")
    if not metrics["positives"]:
        axes.set(xticks=[], yticks=[], box_aspect=1)
        return
    predicted, observed, rows = bins.T
    start, limit = _limits(axes, predicted, observed)
    low, high = wilson_interval(observed, rows)
    seen = observed > 0
    axes.plot([start, limit], [start, limit], color="#b5b5b5", linestyle=(0, (4, 4)), linewidth=1)
    axes.vlines(predicted, np.maximum(low, start), high, color=COLORS[0], alpha=0.35, linewidth=2)
    axes.plot(predicted[seen], observed[seen], "o-", color=COLORS[0], markersize=4, linewidth=1)
    axes.plot(predicted[~seen], np.full((~seen).sum(), start), "^", color=COLORS[0], markersize=8, fillstyle="none")
    axes.set(xlim=(start, limit), ylim=(start, limit), box_aspect=1)


def _limits(axes: Axes, predicted: Floats, observed: Floats) -> tuple[float, float]:
    """Choose logarithmic axes where most bins would crowd in the corner, as they do for rare events."""
    highest = float(max(predicted.max(), observed.max()))
    if np.median(predicted) > highest / 5:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        return 0.0, 1.08 * highest
    axes.set(xscale="log", yscale="log")
    lowest = min(predicted[predicted > 0].min(), observed[observed > 0].min())
    return float(lowest) / 2, 2 * highest


def gate_figure(
    mean_TE: Floats,
    std_TE: Floats,
    *,
    readers: Sequence[str],
    experts: Sequence[Sequence[str]],
    title: str = "Gate weights",
) -> Figure:
    """Draw how much each reader draws from each expert: mean over rows, with its standard deviation.

    Args:
        readers: names of the rows.
        experts: what each row chooses from, in the order of the columns; a cell stays blank where a row has no access.
    """
    readers_of = Counter(name for row in experts for name in row)
    names = sorted(readers_of, key=readers_of.__getitem__)  # a task's own experts first, shared ones last
    mean, std = (_spread(values, experts, names) for values in (mean_TE, std_TE))
    figure = _figure(max(4.5, 0.86 * len(names) + 2.6), 0.58 * len(readers) + 1.9)
    axes = figure.add_subplot()
    highest = max(float(np.nanmax(mean)), 1e-9)
    image = axes.pcolormesh(mean, cmap="Blues", vmin=0, vmax=highest, edgecolors="white", linewidth=2)
    for (row, column), value in np.ndenumerate(mean):
        if not np.isnan(value):
            color = "white" if value > 0.6 * highest else "#222222"
            axes.text(column + 0.5, row + 0.42, f"{value:.2f}", ha="center", va="center", color=color, fontsize=9)
            spread = f"±{std[row, column]:.2f}"
            axes.text(column + 0.5, row + 0.74, spread, ha="center", va="center", color=color, fontsize=7)
    _label_cells(axes, rows=readers, columns=names, title=title)
    figure.colorbar(image, label="mean weight (± sd over rows)", fraction=0.04).outline.set_visible(False)
    return figure


def cosine_figure(cosine_TT: Floats, *, names: Sequence[str], title: str = "Cosines") -> Figure:
    """Draw cosines between every two of T vectors; a cell stays blank where one of them is zero."""
    figure = _figure(max(4.5, 0.66 * len(names) + 2.8), max(3.4, 0.5 * len(names) + 1.9))
    axes = figure.add_subplot()
    image = axes.pcolormesh(cosine_TT, cmap="RdBu", vmin=-1, vmax=1, edgecolors="white", linewidth=2)
    for (row, column), value in np.ndenumerate(cosine_TT):
        if not np.isnan(value):
            color = "white" if abs(value) > 0.6 else "#222222"
            axes.text(column + 0.5, row + 0.5, f"{value:+.2f}", ha="center", va="center", color=color, fontsize=8)
    _label_cells(axes, rows=names, columns=names, title=title)
    figure.colorbar(image, label="cosine", fraction=0.04).outline.set_visible(False)
    return figure


def _label_cells(axes: Axes, *, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    axes.set_facecolor("#f4f4f4")
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.set_title(title)


def wilson_interval(rate: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Return the 95 % interval of a rate that was observed on so many rows (Wilson, 1927)."""
    centre = (rate + Z_95**2 / (2 * rows)) / (1 + Z_95**2 / rows)
    half = Z_95 / (1 + Z_95**2 / rows) * np.sqrt(rate * (1 - rate) / rows + Z_95**2 / (4 * rows**2))
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def _spread(values_TE: Floats, experts: Sequence[Sequence[str]], names: Sequence[str]) -> Floats:
    """Put each row's values under the names of its own experts; NaN elsewhere."""
    spread = np.full((len(experts), len(names)), np.nan)
    for row, (own, values) in enumerate(zip(experts, values_TE, strict=True)):
        spread[row, [names.index(name) for name in own]] = values
    return spread


def search_figure(values: Sequence[Sequence[float]], *, names: Sequence[str], title: str = "Search") -> Figure:
    """Draw every objective over the trials, in the order they began; ``values`` are (trials, objectives)."""
    figure = _figure(7.0, 2.6 * len(names) + 0.5)
    figure.suptitle(title)
    panels = figure.subplots(len(names), 1, squeeze=False).ravel()
    for index, (panel, name) in enumerate(zip(panels, names, strict=True)):
        heights = [value[index] for value in values]
        panel.plot(range(len(heights)), heights, "o", color=COLORS[index % len(COLORS)], markersize=5)
        panel.set(xlabel="trial", ylabel=name)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(panel)
    return figure


def front_figure(
    values: Sequence[Sequence[float]], on_front: Sequence[bool], *, names: Sequence[str], title: str = "Pareto front"
) -> Figure:
    """Draw the first two objectives of trials against each other; those that none beats in all objectives stand out."""
    figure = _figure(5.6, 4.6)
    axes = figure.add_subplot()
    for chosen, color, label in ((False, "#b5b5b5", "beaten"), (True, COLORS[0], "on the front")):
        points = [value for value, is_on in zip(values, on_front, strict=True) if is_on is chosen]
        axes.plot([p[0] for p in points], [p[1] for p in points], "o", color=color, label=label, markersize=6)
    axes.set(xlabel=names[0], ylabel=names[1], title=title)
    axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes) -> None:
    axes.grid(color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")


def _counts(metrics: Metrics) -> str:
    return f"{int(metrics['rows']):,} rows, {int(metrics['positives']):,} positive"


def _number(value: float, digits: int = 4) -> str:
    return "not defined" if math.isnan(value) else f"{value:.{digits}f}"
