import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.metrics.pairs import PairSample, RowNumbers, xauc
from recsys_mtl.metrics.ranking import Floats


def brute_force(predictions_B: Floats, targets_B: Floats) -> float:
    higher_BB = targets_B[:, None] > targets_B
    wins_BB = (predictions_B[:, None] > predictions_B) + 0.5 * (predictions_B[:, None] == predictions_B)
    return float(wins_BB[higher_BB].mean()) if higher_BB.any() else float("nan")


small = st.integers(-4, 4).map(float) | st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(st.lists(st.tuples(small, small), max_size=40))
def test_equals_all_pairs(rows: list[tuple[float, float]]) -> None:
    predictions_B, targets_B = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    assert xauc(predictions_B, targets_B) == pytest.approx(brute_force(predictions_B, targets_B), nan_ok=True)


def test_equals_all_pairs_of_many_rows() -> None:
    random = np.random.default_rng(0)
    targets_B = random.exponential(20, 1500).round()
    predictions_B = (targets_B + random.normal(0, 20, 1500)).round(1)
    assert xauc(predictions_B, targets_B) == pytest.approx(brute_force(predictions_B, targets_B), abs=1e-12)


def test_constant_predictions_know_nothing() -> None:
    assert xauc(np.zeros(50), np.arange(50.0)) == 0.5


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), max_size=6))
def test_row_numbers_do_not_depend_on_batches(cuts: list[int]) -> None:
    groups_B = np.repeat(np.arange(10), [1, 30, 2, 7, 10, 1, 1, 20, 18, 10])
    numbers, whole = RowNumbers(), RowNumbers().number(groups_B)
    pieces = [numbers.number(piece) for piece in np.split(groups_B, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert len(np.unique(whole)) == 100


def test_row_numbers_follow_the_seed() -> None:
    groups_B = np.arange(50)
    assert (RowNumbers(1).number(groups_B) != RowNumbers(2).number(groups_B)).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), max_size=6))
def test_the_sample_is_the_smallest_numbers_of_all_parts(cuts: list[int]) -> None:
    groups_B = np.arange(500) // 7
    priorities_B, values_B2 = RowNumbers().number(groups_B), np.random.default_rng(0).normal(size=(500, 2))
    sample = PairSample(40)
    for priorities, values in zip(np.split(priorities_B, sorted(cuts)), np.split(values_B2, sorted(cuts)), strict=True):
        part = PairSample(40)
        part.add(priorities, values)
        part.settle()
        sample.add(part.priorities, part.values)
    sample.settle()
    chosen = np.argsort(priorities_B)[:40]
    order = np.argsort(sample.priorities)
    np.testing.assert_array_equal(sample.priorities[order], priorities_B[chosen])
    np.testing.assert_array_equal(sample.values[order], values_B2[chosen])


def test_a_sample_estimates_all_pairs_and_stays_small() -> None:
    random = np.random.default_rng(0)
    targets_B = random.exponential(20, 20_000)
    values_B2 = np.stack([targets_B + random.normal(0, 20, 20_000), targets_B], axis=-1)
    sample, whole, numbers = PairSample(2000), PairSample(20_000), RowNumbers()
    for values in np.split(values_B2, 40):
        priorities = numbers.number(np.zeros(500, np.int64))
        sample.add(priorities, values)
        whole.add(priorities, values)
        assert len(sample.priorities) + sum(len(waiting) for waiting, _ in sample._waiting) <= 4000
    assert sample.xauc() == pytest.approx(whole.xauc(), abs=3 / np.sqrt(2 * 2000))
    assert len(sample.values) == 2000
