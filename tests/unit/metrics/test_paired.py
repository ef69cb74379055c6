"""The paired bootstrap against a loop that really repeats rows, and what must hold of any comparison."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from recsys_mtl.metrics import paired
from recsys_mtl.metrics.bank import MetricBank
from recsys_mtl.metrics.paired import METRICS, Difference, UserBootstrap, difference, interval, judge, measure
from recsys_mtl.metrics.pairs import xauc
from recsys_mtl.metrics.ranking import Ints
from recsys_mtl.metrics.user_metrics import Counts, Singles, UserCalibration
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task

USERS = 60
KINDS: dict[str, Task] = {
    "binary": BinaryTask(name="click"),
    "regression": RegressionTask(name="watch", transform="identity"),
}


def world(name: str, *, seed: int = 0, rows: int = 500, noise: float = 1.0) -> tuple[Ints, Singles, Singles]:
    """Users, scores with many ties, and labels that the scores know something of; users come in no order."""
    rng = np.random.default_rng(0)
    users_B = rng.integers(0, USERS, rows)
    users_B[:USERS] = np.arange(USERS)
    wish_B = rng.normal(size=rows) + rng.normal(size=USERS)[users_B]
    binary = METRICS[name].kind == "binary"
    labels_B = (wish_B > 0.6).astype(np.float32) if binary else np.round(np.exp(wish_B)).astype(np.float32)
    noise_B = np.random.default_rng(seed + 1).normal(size=rows)
    scores_B = np.round((wish_B if binary else labels_B) + noise * noise_B, 1).astype(np.float32)
    return users_B, scores_B, labels_B


def naive_gauc(users_B: Ints, scores_B: Singles, labels_B: Singles, copies_B: Ints) -> float:
    """A user who was drawn twice counts as two users with the same rows."""
    values, weights = [], []
    for user in np.unique(users_B):
        rows = users_B == user
        if len(np.unique(labels_B[rows])) == 2:
            values.append(roc_auc_score(labels_B[rows], scores_B[rows]))
            weights.append(rows.sum() * copies_B[rows][0])
    return float(np.average(values, weights=weights))


def naive(name: str, users_B: Ints, scores_B: Singles, labels_B: Singles, counts_U: NDArray[np.int32]) -> float:
    copies_B = counts_U[users_B].astype(np.int64)
    if name == "gauc":
        return naive_gauc(users_B, scores_B, labels_B, copies_B)
    scores, labels = (np.repeat(values.astype(np.float64), copies_B) for values in (scores_B, labels_B))
    plain: dict[str, Callable[[], float]] = {
        "auc": lambda: float(roc_auc_score(labels, scores)),
        "rmse": lambda: math.sqrt(((scores - labels) ** 2).mean()),
        "xauc": lambda: xauc(scores, labels),
    }
    return plain[name]()


def compared(name: str, first: Singles, second: Singles, **settings: float) -> Difference:
    users_B, _, labels_B = world(name)
    draws = UserBootstrap(USERS, len(users_B), replicates=200, seed=int(settings.pop("seed", 3)))
    metrics = {k: METRICS[name](users_B, scores, labels_B) for k, scores in enumerate((first, second))}
    measured = measure(metrics, draws, USERS)
    return difference(measured[0], measured[1], settings.get("confidence", 0.95))


@pytest.mark.parametrize("name", METRICS)
def test_a_replicate_equals_repeating_the_rows_of_every_user(name: str) -> None:
    users_B, scores_B, labels_B = world(name)
    (counts_RU,) = UserBootstrap(USERS, len(users_B), replicates=8)
    metric = METRICS[name](users_B, scores_B, labels_B)
    expected = [naive(name, users_B, scores_B, labels_B, counts_U) for counts_U in counts_RU]
    np.testing.assert_allclose(metric.replicate(counts_RU), expected, rtol=1e-9)
    assert len(np.unique(expected)) == 8


@pytest.mark.parametrize("name", METRICS)
def test_the_value_is_that_of_the_metrics_module(name: str) -> None:
    users_B, scores_B, labels_B = world(name)
    order_B = np.argsort(users_B, kind="stable")
    users_B, scores_B, labels_B = users_B[order_B], scores_B[order_B], labels_B[order_B]
    bank = MetricBank([KINDS[METRICS[name].kind]])
    bank.update(torch.from_numpy(scores_B)[:, None], torch.from_numpy(labels_B)[:, None], torch.from_numpy(users_B))
    (expected,) = bank.compute().values()
    metric = METRICS[name](users_B, scores_B, labels_B)
    bound = expected["auc_error_bound"] if name == "auc" else 0.0
    assert metric.value(USERS) == pytest.approx(expected[name], rel=1e-9, abs=bound + 1e-12)
    if name == "gauc":
        assert metric.support.users == expected["gauc_groups"]
    else:
        assert (metric.support.rows, metric.support.positives) == (expected["rows"], expected.get("positives"))


def test_calibration_is_that_of_the_metrics_module_on_any_draw() -> None:
    users_B, scores_B, labels_B = world("auc")
    metric = UserCalibration(users_B, scores_B, labels_B)
    bank = MetricBank([KINDS["binary"]])
    bank.update(torch.from_numpy(scores_B)[:, None], torch.from_numpy(labels_B)[:, None], None)
    (expected,) = bank.compute().values()
    assert metric.value(USERS) == pytest.approx(expected["calibration"])
    assert (metric.support.rows, metric.support.positives) == (expected["rows"], expected["positives"])
    with_both = [len(np.unique(users_B[labels_B == label])) for label in (0, 1)]
    assert metric.support.rarer == min(with_both)
    (counts_RU,) = UserBootstrap(USERS, len(users_B), replicates=4)
    copies_RB = counts_RU[:, users_B]
    chances_B = 1 / (1 + np.exp(-scores_B.astype(np.float64)))
    np.testing.assert_allclose(metric.replicate(counts_RU), copies_RB @ chances_B / (copies_RB @ labels_B))
    nothing = UserCalibration(users_B, scores_B, np.zeros_like(labels_B))
    assert math.isnan(nothing.value(USERS))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 1)), max_size=25), st.integers(0, 99))
def test_ties_and_missing_classes_on_any_small_data(rows: list[tuple[int, int, int]], seed: int) -> None:
    table_B3 = np.array(rows, np.int64).reshape(-1, 3)
    users_B, (scores_B, labels_B) = table_B3[:, 0], table_B3[:, 1:].T.astype(np.float32)
    (counts_RU,) = UserBootstrap(6, len(rows), replicates=4, seed=seed)
    for name in ("auc", "xauc"):
        found_R = METRICS[name](users_B, scores_B, labels_B).replicate(counts_RU)
        for value, counts_U in zip(found_R, counts_RU, strict=True):
            left = np.repeat(labels_B, counts_U[users_B])
            if len(np.unique(left)) < 2:
                assert np.isnan(value)
            else:
                assert value == pytest.approx(naive(name, users_B, scores_B, labels_B, counts_U))


@pytest.mark.parametrize("name", METRICS)
def test_a_model_against_itself_does_not_differ_at_all(name: str) -> None:
    _, scores_B, _ = world(name)
    found = compared(name, scores_B, scores_B)
    assert (found.difference, found.low, found.high, found.verdict) == (0.0, 0.0, 0.0, "not separable")
    assert found.baseline == found.other


@pytest.mark.parametrize("name", METRICS)
def test_swapping_the_models_turns_the_difference_around(name: str) -> None:
    first, second = world(name)[1], world(name, seed=5)[1]
    there, back = compared(name, first, second), compared(name, second, first)
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))
    assert there.low < there.difference < there.high


@pytest.mark.parametrize("name", METRICS)
def test_a_clearly_better_model_is_better_and_the_other_is_worse(name: str) -> None:
    vague, sharp = world(name, noise=3.0)[1], world(name, noise=0.3)[1]
    found = compared(name, vague, sharp)
    assert found.verdict == "better"
    assert (found.low < 0) == (name == "rmse")
    assert compared(name, sharp, vague).verdict == "worse"


def test_more_confidence_is_a_wider_interval() -> None:
    first, second = world("auc")[1], world("auc", seed=5)[1]
    narrow, wide = (compared("auc", first, second, confidence=confidence) for confidence in (0.5, 0.95))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_too_few_users_with_an_event_give_no_interval() -> None:
    users_B, scores_B, _ = world("auc")
    labels_B = (users_B < paired.MIN_USERS - 1).astype(np.float32)
    draws = UserBootstrap(USERS, len(users_B), replicates=100)
    better_B = labels_B + 0.1 * scores_B
    measured = measure(
        {k: METRICS["auc"](users_B, s, labels_B) for k, s in enumerate((scores_B, better_B))}, draws, USERS
    )
    found = difference(measured[0], measured[1], 0.95)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert (found.verdict, found.other) == ("not separable", 1.0)
    assert found.difference > 0


def test_draws_are_multinomial_and_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(UserBootstrap(50, 100, replicates=400, seed=1)))
    assert (whole.sum(1) == 50).all()
    assert whole.mean(0) == pytest.approx(np.ones(50), abs=6 / math.sqrt(400))
    assert whole.var() == pytest.approx(1 - 1 / 50, abs=0.05)
    monkeypatch.setattr(paired, "CHUNK_CELLS", 700)
    pieces: list[Counts] = list(UserBootstrap(50, 100, replicates=400, seed=1))
    assert [len(piece) for piece in pieces] == [7] * 57 + [1]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert not np.array_equal(np.concatenate(list(UserBootstrap(50, 100, replicates=400, seed=2))), whole)


def test_the_interval_covers_no_difference_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        users_B = np.repeat(np.arange(150), 4)
        labels_B = (rng.random(600) < 0.3).astype(np.float32)
        shared_B = labels_B + rng.normal(size=600)
        models = {k: (shared_B + rng.normal(size=150)[users_B]).astype(np.float32) for k in range(2)}
        metrics = {k: METRICS["auc"](users_B, scores_B, labels_B) for k, scores_B in models.items()}
        measured = measure(metrics, UserBootstrap(150, 600, replicates=200, seed=seed), 150)
        covered += difference(measured[0], measured[1], 0.8).verdict == "not separable"
    assert 38 <= covered <= 57  # 48 are expected; three standard errors either way


def test_long_data_takes_the_same_sample_of_pairs_for_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_mtl.metrics.user_pairs.SAMPLE_ROWS", 300)
    users_B, scores_B, labels_B = world("xauc")
    first, second = (METRICS["xauc"](users_B, scores, labels_B) for scores in (scores_B, -scores_B))
    assert first.support.rows == second.support.rows == 300
    assert first.value(USERS) == pytest.approx(1 - second.value(USERS))
    assert first.value(USERS) == pytest.approx(xauc(scores_B.astype(float), labels_B.astype(float)), abs=0.05)


def test_verdicts_mind_the_sign() -> None:
    assert [judge(low, high, 1) for low, high in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0.0, 0.1))] == [
        "better", "worse", "not separable", "not separable",
    ]  # fmt: skip
    assert [judge(low, high, -1) for low, high in ((0.1, 0.2), (-0.2, -0.1))] == ["worse", "better"]
    assert judge(math.nan, math.nan, 1) == "not separable"


def test_draws_without_the_metric_are_left_out_of_the_interval() -> None:
    values_R = np.array([math.nan, 0.0, 1.0, 2.0, math.nan])
    assert interval(values_R, 0.5) == (0.5, 1.5)
    assert all(map(math.isnan, interval(np.full(3, math.nan), 0.5)))
