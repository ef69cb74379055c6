"""Isotonic calibration against a naive reference, and which calibrator a task gets."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.calibration import (
    Calibration,
    Counts,
    Identity,
    Isotonic,
    Method,
    Platt,
    choose,
    fit_isotonic,
    predictions,
)
from recsys_mtl.calibration.calibrators import MAX_KNOTS
from recsys_mtl.calibration.choice import calibration_error
from recsys_mtl.calibration.isotonic import STEEPEST, pool_violators
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.tasks import BinaryTask, RegressionTask

CURVE = Isotonic(logits=(-2.0, 0.0, 1.0), values=(-3.0, -1.0, 4.0))
CLICK = (BinaryTask(name="click"),)
COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).filter(any), min_size=1, max_size=12)


def naive_rates(cells: list[tuple[int, int]]) -> list[float]:
    """Least squares under order by the min-max formula (Robertson, Wright and Dykstra, 1988)."""
    n = len(cells)

    def mean(first: int, last: int) -> float:
        p, q = (sum(column) for column in zip(*cells[first : last + 1], strict=True))
        return float(p / (p + q))

    return [max(min(mean(s, t) for t in range(i, n)) for s in range(i + 1)) for i in range(n)]


@given(COUNTS)
def test_pools_are_the_least_squares_fit_under_order(cells: list[tuple[int, int]]) -> None:
    pools = pool_violators([(p, n, float(p + n)) for p, n in cells])
    fitted = [p / (p + n) for p, n, total in pools for _ in range(round(total))]
    wanted = [rate for rate, (p, n) in zip(naive_rates(cells), cells, strict=True) for _ in range(p + n)]
    assert fitted == pytest.approx(wanted)
    assert all(a < b for a, b in itertools.pairwise(p / (p + n) for p, n, _ in pools))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 3000), st.floats(1e-4, 20), st.floats(0.001, 0.5))
def test_any_counts_give_a_bounded_rising_curve(seed: int, cells: int, spread: float, rate: float) -> None:
    draw = np.random.default_rng(seed)
    x_K = torch.tensor(np.unique(draw.normal(0, spread, cells)))
    n_K = draw.integers(1, 500, len(x_K))
    positives_K = torch.tensor(draw.binomial(n_K, rate))
    fitted = fit_isotonic(x_K, positives_K, torch.tensor(n_K) - positives_K)
    if isinstance(fitted, Isotonic):
        assert len(fitted.logits) <= MAX_KNOTS
        slopes = np.diff(fitted.values) / np.diff(fitted.logits)
        assert ((slopes >= 0) & (slopes <= STEEPEST * (1 + 1e-6))).all()
        x = torch.cat([torch.linspace(-30, 30, 2001), x_K.float(), torch.tensor(fitted.logits).float()]).sort().values
        assert (fitted.curve(x).diff() >= 0).all()


def test_the_curve_passes_its_knots_and_goes_on_with_slope_one() -> None:
    x = torch.tensor([-5.0, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, math.inf, -math.inf])
    assert CURVE.curve(x).tolist() == [-6.0, -3.0, -2.0, -1.0, 1.5, 4.0, 6.0, math.inf, -math.inf]
    assert CURVE.curve(x).dtype == torch.float32


def test_one_knot_is_a_shift() -> None:
    assert Isotonic(logits=(1.0,), values=(3.0,)).curve(torch.tensor([-1.0, 1.0, 2.0])).tolist() == [1.0, 3.0, 4.0]


def test_order_is_kept_in_predictions_of_the_task_alone() -> None:
    tasks = (*CLICK, RegressionTask(name="watch"))
    logits_BT = torch.linspace(-6, 6, 500).unsqueeze(1).expand(-1, 2)
    predicted_BT = predictions(logits_BT, tasks, Calibration(tasks={"click": CURVE, "watch": CURVE}))
    assert (predicted_BT[:, 0].diff() > 0).all()
    assert torch.equal(predicted_BT[:, 1], predictions(logits_BT, tasks)[:, 1])


def test_a_calibration_survives_its_file() -> None:
    calibration = Calibration(tasks={"click": CURVE, "like": Platt(slope=0.1, intercept=2.0), "buy": Identity()})
    calibration.apply(torch.zeros(3, 1), CLICK)  # what is computed once is no part of it
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
    assert set(calibration.model_dump()["tasks"]["click"]) == {"kind", "logits", "values"}


@pytest.mark.parametrize(
    ("knots", "problem"),
    [
        ({"logits": [0.0, 1.0], "values": [0.0]}, "values: 1 numbers for 2 logits"),
        ({"logits": [0.0, 0.0], "values": [0.0, 1.0]}, "logits: each must be greater"),
        ({"logits": [0.0, 1.0], "values": [1.0, 0.0]}, "values: none may be less"),
        ({"logits": [], "values": []}, "at least 1 item"),
        ({"logits": [0.0, math.inf], "values": [0.0, 1.0]}, "finite"),
        ({"logits": list(range(101)), "values": list(range(101))}, "at most 100 items"),
    ],
)
def test_knots_that_are_no_rising_curve_are_refused(knots: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        validate(Calibration, {"tasks": {"click": {"kind": "isotonic", **knots}}})


def bent(x_K: Tensor) -> Tensor:
    """Log-odds that no line follows."""
    return torch.where(x_K < 0, -2.0 + 0.1 * x_K, -2.0 + 3.0 * x_K)


TRUTHS = {
    "identity": lambda x_K: x_K,
    "platt": lambda x_K: 0.5 * x_K - 1.5,
    "isotonic": bent,
}


def world(kind: str, rows: int, seed: int) -> Counts:
    draws = torch.Generator().manual_seed(seed)
    x_K = torch.linspace(-4, 4, 800, dtype=torch.float64)
    n_K = torch.full_like(x_K, rows / len(x_K))
    positives_K = torch.binomial(n_K, TRUTHS[kind](x_K).sigmoid(), generator=draws)
    return Counts(x_K, positives_K.long(), (n_K - positives_K).long())


def both(first: Counts, second: Counts) -> Counts:
    return Counts(first.logits_K, first.positives_K + second.positives_K, first.negatives_K + second.negatives_K)


@pytest.mark.parametrize("kind", TRUTHS)
@pytest.mark.parametrize("seed", range(4))
def test_held_out_rows_choose_what_is_true(kind: str, seed: int) -> None:
    halves = world(kind, 40_000, 2 * seed), world(kind, 40_000, 2 * seed + 1)
    choice = choose(both(*halves), halves)
    assert choice.calibrator.kind == kind
    if kind == "identity":
        assert choice.ece_after == choice.ece_before
    else:
        assert choice.ece_after < choice.ece_before / 3
    fresh = world(kind, 400_000, 100 + seed)
    assert calibration_error(fresh.moved(choice.calibrator)) < 0.01


@pytest.mark.parametrize("method", ["identity", "platt", "isotonic"])
def test_a_method_that_was_asked_for_is_taken(method: Method) -> None:
    halves = world("platt", 40_000, 0), world("platt", 40_000, 1)
    choice = choose(both(*halves), halves, method)
    assert choice.calibrator.kind == method
    assert not math.isnan(choice.ece_after)


def test_too_few_events_to_compare_leave_two_numbers_and_fewer_none() -> None:
    halves = world("isotonic", 800, 0), Counts(*(column[:0] for column in world("isotonic", 800, 0)))
    choice = choose(both(halves[0], halves[0]), halves)
    assert choice.calibrator.kind == "platt"
    assert math.isnan(choice.ece_before)
    assert math.isnan(choice.ece_after)
    few = Counts(torch.zeros(1), torch.tensor([10]), torch.tensor([10]))
    assert choose(few, (few, few)).calibrator == Identity()


@given(st.floats(1e-4, 1), st.floats(-12, 12))
def test_the_correction_for_dropped_negatives_is_exact(rate: float, logit: float) -> None:
    logits_BT = torch.tensor([[logit]], dtype=torch.float64)
    seen = 1 / (1 + math.exp(-logit))
    wanted = rate * seen / (1 - seen + rate * seen)
    assert predictions(logits_BT, (BinaryTask(name="click", negative_rate=rate),)).item() == pytest.approx(wanted)


def test_the_correction_comes_before_the_calibrator() -> None:
    tasks = (BinaryTask(name="click", negative_rate=0.1),)
    calibration = Calibration(tasks={"click": Platt(slope=2.0, intercept=1.0)})
    assert calibration.apply(torch.tensor([[3.0]]), tasks).item() == pytest.approx(2 * (3 + math.log(0.1)) + 1)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1])
def test_a_share_of_negatives_is_a_share(rate: float) -> None:
    with pytest.raises(ConfigError, match="negative_rate"):
        validate(BinaryTask, {"name": "click", "negative_rate": rate})
