from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from sklearn.metrics import roc_auc_score, roc_curve

from recsys_mtl import plots


def measured(rows: int, positives: int, auc: float = 0.7, calibration: float = 1.0) -> dict[str, float]:
    return {"rows": rows, "positives": positives, "auc": auc, "calibration": calibration, "ece": 0.01}


def rendered(figure: Figure, folder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    figure.savefig(folder / "figure.png")
    return np.asarray(imread(folder / "figure.png"), dtype=np.float32)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_roc_curves_are_drawn_as_given_with_their_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 500), rng.random(500)
    curve = np.stack(roc_curve(labels, scores)[:2], axis=1)
    auc = float(roc_auc_score(labels, scores))
    metrics = {"is_click": measured(1_234_567, 89_012, auc), "is_hate": measured(40, 0, float("nan"))}
    figure = plots.roc_figure({"is_click": curve, "is_hate": np.zeros((0, 2))}, metrics, title="ROC of step 5")
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xydata(), curve)
    labels_shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels_shown == [
        f"is_click   AUC {auc:.4f}\n1,234,567 rows, 89,012 positive",
        "is_hate   AUC not defined\n40 rows, 0 positive",
    ]
    assert figure.axes[0].get_title() == "ROC of step 5"
    assert rendered(figure, tmp_path).std() > 0.05


def test_every_task_has_a_calibration_panel(tmp_path: Path) -> None:
    even = np.array([[0.1, 0.2, 100.0], [0.5, 0.4, 100.0], [0.9, 0.9, 100.0]])
    rare = np.array([[1e-4, 0.0, 500.0], [2e-4, 0.002, 500.0], [0.05, 0.04, 500.0]])
    points = {"even": even, "rare": rare, "never": np.array([[0.1, 0.0, 50.0]]), "unseen": np.zeros((0, 3))}
    metrics = {
        "even": measured(300, 150),
        "rare": measured(1500, 21),
        "never": measured(50, 0, calibration=float("nan")),
        "unseen": measured(0, 0, calibration=float("nan")),
    }
    figure = plots.reliability_figure(points, metrics)
    assert [axes.get_title() for axes in figure.axes[:4]] == list(points)
    assert [axes.get_xscale() for axes in figure.axes[:4]] == ["linear", "log", "linear", "linear"]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xydata(), even[:, :2])
    np.testing.assert_array_equal(figure.axes[1].lines[1].get_xydata(), rare[1:, :2])
    assert ["300 rows, 150 positive" in text for text in texts(figure)] == [True, False, False, False]
    assert ["△ bin without positives" in text for text in texts(figure)] == [False, True, False, False]
    assert not figure.axes[4].axison
    assert rendered(figure, tmp_path).std() > 0.05


def test_gates_show_means_with_deviation_and_no_access_as_blank(tmp_path: Path) -> None:
    experts = (("a 0", "shared 0"), ("b 0", "shared 0"))
    mean, std = np.array([[0.25, 0.75], [0.4, 0.6]]), np.array([[0.01, 0.02], [0.03, 0.04]])
    figure = plots.gate_figure(mean, std, readers=("a", "b"), experts=experts)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a 0", "b 0", "shared 0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert texts(figure) == ["0.25", "±0.01", "0.75", "±0.02", "0.40", "±0.03", "0.60", "±0.04"]
    places = [text.get_position()[0] for text in axes.texts[::2]]
    assert places == [0.5, 2.5, 1.5, 2.5]
    drawn: np.ndarray[Any, Any] = np.ma.filled(np.ma.asanyarray(axes.collections[0].get_array()), np.nan)
    np.testing.assert_array_equal(drawn, [[0.25, np.nan, 0.75], [np.nan, 0.4, 0.6]])
    assert rendered(figure, tmp_path).std() > 0.05


def test_cosines_are_coloured_around_zero_and_undefined_ones_are_blank(tmp_path: Path) -> None:
    cosines = np.array([[1.0, -0.25, np.nan], [-0.25, 1.0, np.nan], [np.nan, np.nan, np.nan]])
    figure = plots.cosine_figure(cosines, names=("a", "b", "never"), title="Conflicts")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "never"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "never"]
    assert texts(figure) == ["+1.00", "-0.25", "-0.25", "+1.00"]
    assert axes.collections[0].get_clim() == (-1, 1)
    assert rendered(figure, tmp_path).std() > 0.05


@pytest.mark.parametrize(("positives", "rows"), [(0, 10), (1, 10), (40, 100), (10, 10)])
def test_wilson_interval_bounds_the_rates_that_a_score_test_accepts(positives: int, rows: int) -> None:
    low, high = (side[0] for side in plots.wilson_interval(np.array([positives / rows]), np.array([float(rows)])))
    rates = np.linspace(1e-6, 1 - 1e-6, 200_001)
    accepted = rates[np.abs(positives / rows - rates) <= 1.96 * np.sqrt(rates * (1 - rates) / rows)]
    assert low == pytest.approx(accepted.min(), abs=2e-5)
    assert high == pytest.approx(accepted.max(), abs=2e-5)


def test_nothing_is_left_in_the_global_state() -> None:
    from matplotlib import pyplot

    plots.roc_figure({"a": np.array([[0.0, 0.0], [1.0, 1.0]])}, {"a": measured(10, 5)})
    plots.reliability_figure({"a": np.array([[0.5, 0.5, 10.0]])}, {"a": measured(10, 5)})
    assert pyplot.get_fignums() == []
