import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import Tensor

from recsys_mtl.metrics.grouped import GroupedAUC, GroupedMetrics

NAN = float("nan")
TASKS = ("click", "like")


def world(rows: int, *, seed: int = 0, unknown: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Impressions ordered by user, with many equal scores, unknown labels and a rarer second task."""
    random = np.random.default_rng(seed)
    groups_B = np.repeat(random.permutation(rows) - 3, random.integers(1, 25, rows))[:rows]
    logits_BT = random.normal(size=(rows, 2)).round(1).astype(np.float32)
    labels_BT = (random.random((rows, 2)) < [0.4, 0.05]).astype(np.float32)
    labels_BT[random.random((rows, 2)) < unknown] = NAN
    return torch.from_numpy(groups_B), torch.from_numpy(logits_BT), torch.from_numpy(labels_BT)


def naive(groups_B: Tensor, logits_B: Tensor, labels_B: Tensor) -> GroupedMetrics:
    known = ~labels_B.isnan()
    weights, aucs = [], []
    for group in torch.unique(groups_B[known]):
        rows = known & (groups_B == group)
        if len(torch.unique(labels_B[rows])) == 2:
            weights.append(int(rows.sum()))
            aucs.append(roc_auc_score(labels_B[rows], logits_B[rows]))
    return GroupedMetrics(np.average(aucs, weights=weights), len(aucs), sum(weights) / int(known.sum()))


def feed(accumulator: GroupedAUC, columns: tuple[Tensor, Tensor, Tensor], cuts: list[int]) -> GroupedAUC:
    for piece in zip(*(torch.tensor_split(column, sorted(cuts)) for column in columns), strict=True):
        accumulator.update(*piece)
    return accumulator


@pytest.mark.parametrize("block_rows", [1, 50, 100_000])
def test_equals_a_loop_over_users(block_rows: int) -> None:
    columns = groups_B, logits_BT, labels_BT = world(1000)
    accumulator = feed(GroupedAUC(TASKS, block_rows=block_rows), columns, list(range(0, 1000, 64)))
    for task, metrics in enumerate(accumulator.compute()):
        expected = naive(groups_B, logits_BT[:, task], labels_BT[:, task])
        assert (metrics.gauc, metrics.gauc_coverage) == pytest.approx((expected.gauc, expected.gauc_coverage))
        assert metrics.gauc_groups == expected.gauc_groups > 3


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), max_size=8), st.integers(1, 80))
def test_batches_may_cut_groups_anywhere(cuts: list[int], block_rows: int) -> None:
    columns = world(200)
    whole = feed(GroupedAUC(TASKS), columns, [])
    pieces = feed(GroupedAUC(TASKS, block_rows=block_rows), columns, cuts)
    torch.testing.assert_close(pieces.state()["sums"], whole.state()["sums"], rtol=1e-12, atol=1e-12)


scores = st.sampled_from([-math.inf, -3.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1.0000001, 3.0e38])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), scores, st.booleans()), min_size=1, max_size=40))
def test_ties_are_exact_for_any_floats(rows: list[tuple[int, float, bool]]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    groups, logits, labels = (torch.tensor(column) for column in zip(*rows, strict=True))
    accumulator = GroupedAUC(("click",), collect=True)
    accumulator.update(groups, logits[:, None].float(), labels[:, None].float())
    accumulator.close()
    for group, count, value in zip(*accumulator.scores(0), strict=True):
        own = groups == group
        positive, negative = logits[own & labels].float(), logits[own & ~labels].float()
        wins = (positive[:, None] > negative).double() + (positive[:, None] == negative).double() / 2
        assert count == own.sum()
        assert value == pytest.approx(float(wins.mean()), abs=1e-12)


def test_one_group_longer_than_many_blocks() -> None:
    groups_B = torch.tensor([7] * 400 + [8] * 3)
    logits_BT = torch.randn(403, 1, generator=torch.Generator().manual_seed(0))
    labels_BT = (torch.arange(403)[:, None] % 2).float()
    accumulator = feed(GroupedAUC(("click",), block_rows=16), (groups_B, logits_BT, labels_BT), list(range(0, 403, 5)))
    metrics = accumulator.compute()[0]
    expected = naive(groups_B, logits_BT[:, 0], labels_BT[:, 0])
    assert metrics.gauc == pytest.approx(expected.gauc)
    assert (metrics.gauc_groups, metrics.gauc_coverage) == (2, 1.0)


def test_the_caller_may_reuse_its_memory() -> None:
    columns = world(300)
    expected = feed(GroupedAUC(TASKS), columns, []).compute()
    accumulator, buffers = GroupedAUC(TASKS), tuple(column[:30].clone() for column in columns)
    for start in range(0, 300, 30):
        for buffer, column in zip(buffers, columns, strict=True):
            buffer.copy_(column[start : start + 30])
        accumulator.update(*buffers)
    assert accumulator.compute() == expected


def test_parts_with_different_groups_merge_to_the_whole() -> None:
    columns = groups_B, _, _ = world(600)
    edge = int(groups_B.diff().nonzero()[20]) + 1
    whole = feed(GroupedAUC(TASKS, collect=True), columns, [])
    first, second = GroupedAUC(TASKS, collect=True), GroupedAUC(TASKS, collect=True)
    first.update(*(column[:edge] for column in columns))
    second.update(*(column[edge:] for column in columns))
    first.merge(second)
    torch.testing.assert_close(first.sums, whole.state()["sums"], rtol=1e-12, atol=1e-12)
    for task in range(2):
        for mine, expected in zip(first.scores(task), whole.scores(task), strict=True):
            np.testing.assert_array_equal(mine, expected)


def test_collected_groups_give_the_metric() -> None:
    accumulator = feed(GroupedAUC(TASKS, block_rows=100, collect=True), world(500), [77, 200])
    for task, metrics in enumerate(accumulator.compute()):
        collected = accumulator.scores(task)
        assert np.average(collected.auc, weights=collected.rows) == pytest.approx(metrics.gauc)
        assert len(np.unique(collected.group)) == len(collected.group) == metrics.gauc_groups


@pytest.mark.parametrize("cuts", [[], [3], [1, 2, 3, 4, 5]])
def test_a_group_that_comes_back_is_refused(cuts: list[int]) -> None:
    columns = torch.tensor([5, 5, 9, 9, 5, 5]), torch.zeros(6, 1), torch.zeros(6, 1)
    accumulator = GroupedAUC(("click",), block_rows=2)
    with pytest.raises(ValueError, match="group 5 comes back"):  # noqa: PT012 - the block decides which call sees it
        feed(accumulator, columns, cuts)
        accumulator.close()


def test_nan_scores_are_refused() -> None:
    accumulator = GroupedAUC(("click",))
    accumulator.update(torch.zeros(1, dtype=torch.long), torch.tensor([[NAN]]), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="NaN"):
        accumulator.close()


def test_what_is_undefined_is_nan() -> None:
    nothing = GroupedAUC(("click",)).compute()[0]
    assert math.isnan(nothing.gauc)
    assert math.isnan(nothing.gauc_coverage)
    one_class = GroupedAUC(("click",))
    one_class.update(torch.tensor([1, 1, 2]), torch.zeros(3, 1), torch.tensor([[0.0], [0.0], [1.0]]))
    metrics = one_class.compute()[0]
    assert math.isnan(metrics.gauc)
    assert (metrics.gauc_groups, metrics.gauc_coverage) == (0, 0.0)
    unknown = GroupedAUC(("click",))
    unknown.update(torch.tensor([1, 1]), torch.zeros(2, 1), torch.full((2, 1), NAN))
    assert math.isnan(unknown.compute()[0].gauc_coverage)


def test_rows_held_do_not_grow_with_the_stream() -> None:
    accumulator = GroupedAUC(TASKS, block_rows=128)
    groups_B, logits_BT, labels_BT = world(400)
    held = []
    for turn in range(12):
        accumulator.update(groups_B + turn * 1000, logits_BT, labels_BT)
        held.append(sum(block.logits_TB.shape[1] for block in accumulator._waiting))
    assert max(held) < 128 + 25
