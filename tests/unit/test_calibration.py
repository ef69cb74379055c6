"""Calibration against scikit-learn's logistic regression, and predictions against formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from recsys_mtl.calibration import (
    Calibration,
    Calibrator,
    Identity,
    Isotonic,
    Platt,
    fit_platt,
    levelled,
    mean_chance,
    natural_unit,
    predictions,
)
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task

TASKS: tuple[Task, ...] = (
    BinaryTask(name="click"),
    RegressionTask(name="watch", upper=60.0),
    BinaryTask(name="like"),
    RegressionTask(name="price", transform="identity"),
)
LOGITS = torch.tensor([[-2.0, 0.5, 0.0, -3.0], [1.0, -0.5, 3.0, 8.0], [0.3, 50.0, -7.0, 0.0]])
CALIBRATION = Calibration(tasks={"like": Platt(slope=0.5, intercept=-1.0), "click": Identity()})


def counts(
    slope: float, intercept: float, *, mean: float, spread: float, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a model whose true probabilities are σ(slope · logit + intercept), with their events and non-events."""
    draws = torch.Generator().manual_seed(seed)
    x_K = mean + spread * torch.randn(2000, generator=draws)
    n_K = torch.randint(1, 60, x_K.shape, generator=draws).float()
    positives_K = torch.binomial(n_K, (slope * x_K + intercept).sigmoid(), generator=draws)
    return x_K, positives_K, n_K - positives_K


def sklearn_fit(x_K: Tensor, positives_K: Tensor, negatives_K: Tensor) -> tuple[float, float]:
    """Logistic regression without regularisation on one row per event and non-event."""
    x = torch.cat([x_K.double().repeat_interleave(n_K.long()) for n_K in (positives_K, negatives_K)]).numpy()
    y = np.repeat([1, 0], [int(positives_K.sum()), int(negatives_K.sum())])
    centre = x.mean()
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit((x - centre)[:, None], y)
    slope = float(fitted.coef_[0, 0])
    return slope, float(fitted.intercept_[0]) - slope * float(centre)


@pytest.mark.parametrize(
    ("slope", "intercept", "mean", "spread"),
    [
        (0.7, -1.0, 0.0, 1.0),
        (1.0, 0.0, -1.0, 2.0),
        (1.0, -23.0, 20.0, 1.0),  # every start probability is 1
        (1.0, 11.0, -14.0, 1.0),  # every start probability is 0
        (0.05, 0.0, 0.0, 30.0),
        (2.5, 4.0, -3.0, 0.5),
    ],
)
def test_platt_is_logistic_regression_on_expanded_rows(
    slope: float, intercept: float, mean: float, spread: float
) -> None:
    cells = counts(slope, intercept, mean=mean, spread=spread)
    fitted = fit_platt(*cells)
    assert isinstance(fitted, Platt)
    expected_slope, expected_intercept = sklearn_fit(*cells)
    assert fitted.slope == pytest.approx(expected_slope, rel=2e-3)
    x_K = cells[0]
    mine_K, theirs_K = fitted.slope * x_K + fitted.intercept, expected_slope * x_K + expected_intercept
    torch.testing.assert_close(mine_K.sigmoid(), theirs_K.sigmoid(), atol=1e-3, rtol=0)


def test_calibrated_probabilities_add_up_to_the_events() -> None:
    x_K, positives_K, negatives_K = counts(0.6, -2.0, mean=1.0, spread=1.0)
    fitted = fit_platt(x_K, positives_K, negatives_K)
    assert isinstance(fitted, Platt)
    expected = ((fitted.slope * x_K + fitted.intercept).sigmoid() * (positives_K + negatives_K)).sum()
    assert expected.item() == pytest.approx(positives_K.sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("positives", "negatives"),
    [([0, 0, 0], [500, 500, 500]), ([500, 500, 500], [0, 0, 0]), ([10, 20, 19], [500, 500, 500]), ([], [])],
    ids=["no-event", "no-non-event", "few-events", "nothing"],
)
def test_counts_that_determine_nothing_leave_the_models_probability(positives: list[int], negatives: list[int]) -> None:
    x_K = torch.linspace(-1, 1, len(positives))
    assert fit_platt(x_K, torch.tensor(positives), torch.tensor(negatives)) == Identity()


def test_a_model_that_ranks_the_wrong_way_round_is_left_alone() -> None:
    x_K, positives_K, negatives_K = counts(1.0, 0.0, mean=0.0, spread=1.0)
    assert fit_platt(-x_K, positives_K, negatives_K) == Identity()


def test_separable_counts_have_a_finite_fit() -> None:
    x_K = torch.tensor([-50.0, -1.0, 1.0, 50.0])
    fitted = fit_platt(x_K, torch.tensor([0, 0, 60, 60]), torch.tensor([60, 60, 0, 0]))
    assert isinstance(fitted, Platt)
    assert 1 < fitted.slope < 100
    assert fitted.intercept == pytest.approx(0, abs=1e-6)


def test_a_constant_logit_becomes_the_observed_rate() -> None:
    fitted = fit_platt(torch.tensor([3.0]), torch.tensor([100]), torch.tensor([300]))
    assert isinstance(fitted, Platt)
    assert fitted.slope == pytest.approx(1)
    assert 1 / (1 + math.exp(-(3 * fitted.slope + fitted.intercept))) == pytest.approx(0.25)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-16, 16), st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=8),
    st.floats(-20, 20),
)
def test_any_counts_give_a_finite_rising_line(cells: list[tuple[float, int, int]], offset: float) -> None:
    x, positives, negatives = (torch.tensor(column) for column in zip(*cells, strict=True))
    fitted = fit_platt(x + offset, positives, negatives)
    if isinstance(fitted, Platt):
        assert math.isfinite(fitted.slope)
        assert math.isfinite(fitted.intercept)
        rate = ((fitted.slope * (x + offset).double() + fitted.intercept).sigmoid() * (positives + negatives)).sum()
        assert rate.item() == pytest.approx(positives.sum().item(), rel=1e-3)


def test_calibration_moves_the_logits_of_its_tasks_only() -> None:
    calibrated_BT = CALIBRATION.apply(LOGITS, TASKS)
    torch.testing.assert_close(calibrated_BT[:, 2], 0.5 * LOGITS[:, 2] - 1)
    assert torch.equal(calibrated_BT[:, [0, 1, 3]], LOGITS[:, [0, 1, 3]])


def test_a_calibrator_of_an_amount_has_no_effect() -> None:
    odd = Calibration(tasks={"watch": Platt(slope=2.0, intercept=5.0)})
    assert torch.equal(odd.apply(LOGITS, TASKS), LOGITS)


def test_predictions_are_probabilities_and_amounts() -> None:
    predicted_BT = predictions(LOGITS, TASKS, CALIBRATION)
    for b, (click, watch, like, price) in enumerate(LOGITS.tolist()):
        expected = [
            1 / (1 + math.exp(-click)),
            min(max(math.exp(watch) - 1, 0), 60.0),
            1 / (1 + math.exp(-(0.5 * like - 1))),
            price,
        ]
        assert predicted_BT[b].tolist() == pytest.approx(expected, rel=1e-5)


def test_predictions_without_calibration_are_the_models_own() -> None:
    assert torch.equal(predictions(LOGITS, TASKS), predictions(LOGITS, TASKS, Calibration()))
    assert torch.equal(predictions(LOGITS, TASKS)[:, 2], LOGITS[:, 2].sigmoid())


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=5), st.sampled_from(["log1p", "identity"]))
def test_amounts_survive_the_way_to_the_learning_scale_and_back(amounts: list[float], transform: str) -> None:
    task = RegressionTask.model_validate({"name": "watch", "transform": transform})
    amounts_B = torch.tensor(amounts, dtype=torch.float64)
    scaled_B = amounts_B.log1p() if transform == "log1p" else amounts_B
    torch.testing.assert_close(natural_unit(scaled_B, task), amounts_B)


def test_order_is_kept() -> None:
    x = torch.linspace(-5, 5, 20).unsqueeze(1)
    calibration = Calibration(tasks={"click": Platt(slope=0.01, intercept=3.0)})
    assert (predictions(x, TASKS[:1], calibration).diff(dim=0) > 0).all()


def test_a_falling_line_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tasks\.click\.slope: .*greater than 0"):
        validate(Calibration, {"tasks": {"click": {"kind": "platt", "slope": -1.0, "intercept": 0.0}}})


CALIBRATORS: tuple[Calibrator, ...] = (
    Identity(),
    Platt(slope=0.7, intercept=-1.0),
    Isotonic(logits=(-2.0, 0.0, 1.0), values=(-3.0, -1.0, 0.5)),
)


@given(st.sampled_from(CALIBRATORS), st.floats(0.001, 0.999), st.integers(0, 99))
def test_a_calibrator_is_shifted_to_any_level_and_keeps_the_order(
    calibrator: Calibrator, mean: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits_K, rows_K = torch.tensor(rng.normal(size=40)), torch.tensor(rng.integers(0, 5, 40))
    found = levelled(calibrator, logits_K, rows_K, mean)
    if rows_K.sum():
        assert mean_chance(found, logits_K, rows_K) == pytest.approx(mean, rel=1e-6)
    again = levelled(found, logits_K, rows_K, mean)
    assert mean_chance(again, logits_K, rows_K) == pytest.approx(mean, rel=1e-6)
    event = (BinaryTask(name="event"),)
    moved_K1 = Calibration(tasks={"event": found}).apply(logits_K.sort().values.unsqueeze(1), event)
    assert (moved_K1.diff(dim=0) >= 0).all()


@pytest.mark.parametrize("mean", [0.0, 1.0, math.nan])
def test_a_level_that_cannot_be_reached_changes_nothing(mean: float) -> None:
    some = torch.tensor([0.0, 1.0]), torch.tensor([1, 1])
    assert levelled(CALIBRATORS[1], *some, mean) == CALIBRATORS[1]
    assert levelled(CALIBRATORS[1], some[0], torch.tensor([0, 0]), 0.5) == CALIBRATORS[1]
