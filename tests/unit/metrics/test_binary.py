import itertools
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, log_loss, roc_auc_score
from torch import Tensor

from recsys_mtl.metrics.binary import CELLS, BinaryAccumulator, BinaryMetrics

NAN = float("nan")


def world(rows: int, base_logit: float, *, seed: int = 0, tasks: int = 1, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_BT = torch.randn(rows, tasks, generator=generator) * spread + base_logit
    return logits_BT, (torch.rand(rows, tasks, generator=generator) < logits_BT.sigmoid()).float()


def measure(logits_B: Tensor, labels_B: Tensor, cells: int = CELLS) -> BinaryMetrics:
    accumulator = BinaryAccumulator(("click",), cells=cells)
    accumulator.update(logits_B.view(-1, 1), labels_B.view(-1, 1))
    return accumulator.compute()[0]


@pytest.mark.parametrize(("base_logit", "spread"), [(0.0, 1.0), (-3.0, 2.0), (-7.5, 1.0), (-7.5, 0.25)])
def test_agrees_with_sklearn_down_to_rare_positives(base_logit: float, spread: float) -> None:
    logits_BT, labels_BT = world(100_000, base_logit, spread=spread)
    metrics = measure(logits_BT, labels_BT)
    probabilities = logits_BT.double().sigmoid()
    error = abs(metrics.auc - roc_auc_score(labels_BT, logits_BT))
    assert error <= metrics.auc_error_bound < 1e-4
    assert metrics.logloss == pytest.approx(log_loss(labels_BT, probabilities), rel=1e-9)
    rate = float(labels_BT.mean(dtype=torch.float64))
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    assert metrics.normalized_entropy == pytest.approx(metrics.logloss / entropy, rel=1e-9)
    assert metrics.calibration == pytest.approx(float(probabilities.sum() / labels_BT.sum()), rel=1e-9)
    assert (metrics.rows, metrics.positives) == (100_000, int(labels_BT.sum()))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 20, width=32), st.booleans()), min_size=2, max_size=60))
def test_exact_auc_is_always_within_the_bound(rows: list[tuple[float, bool]]) -> None:
    logits_B, labels_B = torch.tensor([row[0] for row in rows]), torch.tensor([float(row[1]) for row in rows])
    metrics = measure(logits_B, labels_B, cells=64)
    if 0 < metrics.positives < metrics.rows:
        assert abs(metrics.auc - roc_auc_score(labels_B, logits_B)) <= metrics.auc_error_bound + 1e-12
    else:
        assert math.isnan(metrics.auc)
        assert math.isnan(metrics.auc_error_bound)


def test_ties_count_half_exactly() -> None:
    logits_BT, labels_BT = world(5000, -1.0)
    coarse_BT = (logits_BT * 2).round() / 2
    assert measure(coarse_BT, labels_BT).auc == pytest.approx(roc_auc_score(labels_BT, coarse_BT), abs=1e-12)


def test_constant_scores_know_nothing() -> None:
    labels_B = torch.tensor([1.0, 0.0, 0.0, 0.0])
    metrics = measure(torch.full((4,), math.log(1 / 3)), labels_B)
    assert metrics.auc == 0.5
    assert metrics.normalized_entropy == pytest.approx(1)
    assert metrics.calibration == pytest.approx(1)
    assert metrics.ece == pytest.approx(0, abs=2e-5)


@pytest.mark.parametrize("logit", [100.0, -100.0])
def test_logloss_of_saturated_scores_is_not_clipped(logit: float) -> None:
    metrics = measure(torch.tensor([logit, logit]), torch.tensor([1.0, 0.0]))
    assert metrics.logloss == pytest.approx(50)


@pytest.mark.parametrize("bins", [10, 50])
def test_reliability_equals_equal_mass_bins_of_sorted_rows(bins: int) -> None:
    logits_B = torch.linspace(-4, 4, 1000)[torch.randperm(1000, generator=torch.Generator().manual_seed(1))]
    labels_B = (torch.rand(1000, generator=torch.Generator().manual_seed(2)) < 0.3).float()
    accumulator = BinaryAccumulator(("click",))
    accumulator.update(logits_B[:, None], labels_B[:, None])
    order = logits_B.argsort()
    predicted = logits_B[order].double().sigmoid().view(bins, -1).mean(1)
    observed = labels_B[order].double().view(bins, -1).mean(1)
    curve = accumulator.reliability(0, bins)
    torch.testing.assert_close(curve.predicted, predicted, atol=2e-5, rtol=0)
    torch.testing.assert_close(curve.observed, observed)
    assert curve.rows.tolist() == [1000 // bins] * bins
    if bins == 50:
        assert accumulator.compute()[0].ece == pytest.approx(float((predicted - observed).abs().mean()), abs=2e-5)


def test_reliability_keeps_a_popular_score_in_one_bin() -> None:
    logits_B = torch.tensor([0.0] * 90 + [-2.0] * 5 + [2.0] * 5)
    accumulator = BinaryAccumulator(("click",))
    accumulator.update(logits_B[:, None], torch.ones(100, 1))
    curve = accumulator.reliability(0, bins=4)
    assert sorted(curve.rows.tolist()) == [5, 95]
    assert curve.observed.tolist() == [1.0, 1.0]


def test_roc_curve_runs_from_corner_to_corner_and_has_the_area() -> None:
    logits_BT, labels_BT = world(20_000, -2.0)
    accumulator = BinaryAccumulator(("click",))
    accumulator.update(logits_BT, labels_BT)
    false, true = accumulator.roc(0, max_points=100)
    assert 50 < len(false) <= 100
    assert [*false[[0, -1]].tolist(), *true[[0, -1]].tolist()] == [0, 1, 0, 1]
    assert (false.diff() >= 0).all()
    assert (true.diff() >= 0).all()
    assert auc(false, true) == pytest.approx(accumulator.compute()[0].auc, abs=1e-3)


def test_unknown_labels_are_as_if_the_rows_were_absent() -> None:
    logits_BT, labels_BT = world(3000, -1.0)
    masked_BT = torch.where(torch.arange(3000)[:, None] % 3 == 0, NAN, labels_BT)
    known = ~masked_BT.isnan()
    expected = measure(logits_BT[known], labels_BT[known])
    assert asdict(measure(logits_BT, masked_BT)) == pytest.approx(asdict(expected), rel=1e-12)


def test_tasks_side_by_side_are_measured_as_if_alone() -> None:
    logits_BT, labels_BT = world(3000, -1.0, tasks=3)
    accumulator = BinaryAccumulator(("a", "b", "c"))
    accumulator.update(logits_BT, labels_BT)
    for task, metrics in enumerate(accumulator.compute()):
        assert asdict(metrics) == pytest.approx(asdict(measure(logits_BT[:, task], labels_BT[:, task])), rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), max_size=4))
def test_merged_parts_equal_the_whole(cuts: list[int]) -> None:
    logits_BT, labels_BT = world(300, -1.0, tasks=2)
    whole, merged = BinaryAccumulator(("a", "b"), cells=256), BinaryAccumulator(("a", "b"), cells=256)
    whole.update(logits_BT, labels_BT)
    edges = [0, *sorted(cuts), 300]
    for start, stop in itertools.pairwise(edges):
        part = BinaryAccumulator(("a", "b"), cells=256)
        part.update(logits_BT[start:stop], labels_BT[start:stop])
        merged.merge(part)
    assert torch.equal(merged.counts, whole.counts)
    torch.testing.assert_close(merged.sums, whole.sums, rtol=1e-12, atol=1e-12)


def test_what_is_undefined_is_nan() -> None:
    empty = BinaryAccumulator(("click",)).compute()[0]
    assert (empty.rows, empty.positives) == (0, 0)
    assert all(math.isnan(value) for name, value in asdict(empty).items() if name not in {"rows", "positives"})
    negatives = measure(torch.zeros(3), torch.zeros(3))
    assert (negatives.rows, negatives.positives) == (3, 0)
    assert negatives.logloss == pytest.approx(math.log(2))
    assert negatives.ece == pytest.approx(0.5, abs=2e-5)
    for value in (negatives.auc, negatives.auc_error_bound, negatives.normalized_entropy, negatives.calibration):
        assert math.isnan(value)
    assert len(BinaryAccumulator(("click",)).roc(0).true_positive_rate) == 0
    assert len(BinaryAccumulator(("click",)).reliability(0).rows) == 0


def test_wrong_values_are_refused_by_name() -> None:
    accumulator = BinaryAccumulator(("click", "like"))
    with pytest.raises(ValueError, match="'like': label 2 is neither 0, 1 nor missing"):
        accumulator.update(torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [1.0, 2.0]]))
    with pytest.raises(ValueError, match="'click': a logit is NaN"):
        accumulator.update(torch.tensor([[NAN, 0.0]]), torch.zeros(1, 2))
    assert int(accumulator.counts.sum()) == 0


def test_half_precision_logits_are_accepted() -> None:
    logits_BT, labels_BT = world(500, 0.0)
    half = measure(logits_BT.bfloat16(), labels_BT)
    assert half.auc == pytest.approx(roc_auc_score(labels_BT, logits_BT.bfloat16().float()), abs=1e-12)


def test_state_does_not_grow_with_rows() -> None:
    accumulator = BinaryAccumulator(("click",))
    before = {name: tensor.shape for name, tensor in accumulator.state().items()}
    for seed in range(5):
        accumulator.update(*world(2000, -1.0, seed=seed))
    assert {name: tensor.shape for name, tensor in accumulator.state().items()} == before
    assert np.isfinite(accumulator.compute()[0].auc)
