import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys_mtl.metrics import BinaryAccumulator, GroupedAUC, MetricBank, RegressionAccumulator
from recsys_mtl.metrics.bank import in_half
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task

TASKS: tuple[Task, ...] = (BinaryTask(name="click"), RegressionTask(name="watch"), BinaryTask(name="like"))
BINARY_KEYS = {
    "rows", "positives", "auc", "auc_error_bound", "gauc", "gauc_groups", "gauc_coverage", "logloss",
    "normalized_entropy", "calibration", "ece",
}  # fmt: skip
REGRESSION_KEYS = {"rows", "rmse", "mae", "calibration", "xauc", "xauc_rows"}


def world(rows: int = 600, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    predictions_BT = torch.randn(rows, 3, generator=generator)
    noise_BT = torch.rand(rows, 3, generator=generator)
    labels_BT = (noise_BT < predictions_BT.sigmoid()).float()
    labels_BT[:, 1] = noise_BT[:, 1] * 60
    labels_BT[torch.rand(rows, 3, generator=generator) < 0.2] = float("nan")
    return predictions_BT, labels_BT, torch.arange(rows) // 9


def filled(tasks: tuple[Task, ...], columns: tuple[Tensor, Tensor, Tensor], batch: int = 100) -> MetricBank:
    bank = MetricBank(tasks)
    for piece in zip(*(torch.split(column, batch) for column in columns), strict=True):
        bank.update(*piece)
    return bank


def test_each_kind_of_task_has_its_metrics_in_the_order_of_tasks() -> None:
    metrics = filled(TASKS, world()).compute()
    assert list(metrics) == ["click", "watch", "like"]
    assert set(metrics["click"]) == set(metrics["like"]) == BINARY_KEYS
    assert set(metrics["watch"]) == REGRESSION_KEYS
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_tasks_read_their_own_columns() -> None:
    predictions_BT, labels_BT, groups_B = world()
    metrics = filled(TASKS, (predictions_BT, labels_BT, groups_B)).compute()
    for column, name in ((0, "click"), (2, "like")):
        plain, grouped = BinaryAccumulator((name,)), GroupedAUC((name,))
        plain.update(predictions_BT[:, [column]], labels_BT[:, [column]])
        grouped.update(groups_B, predictions_BT[:, [column]], labels_BT[:, [column]])
        expected = vars(plain.compute()[0]) | vars(grouped.compute()[0])
        assert metrics[name] == pytest.approx(expected)
    amounts = RegressionAccumulator(("watch",))
    amounts.update(predictions_BT[:, [1]], labels_BT[:, [1]], groups_B)
    assert metrics["watch"] == pytest.approx(vars(amounts.compute()[0]))


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0], [2, 1, 0]])
def test_permuting_the_tasks_permutes_the_metrics(order: list[int]) -> None:
    predictions_BT, labels_BT, groups_B = world()
    metrics = filled(TASKS, (predictions_BT, labels_BT, groups_B)).compute()
    tasks = tuple(TASKS[column] for column in order)
    permuted = filled(tasks, (predictions_BT[:, order], labels_BT[:, order], groups_B)).compute()
    assert permuted == metrics
    assert list(permuted) == [task.name for task in tasks]
    assert metrics["click"] != metrics["like"]


@pytest.mark.parametrize("batch", [1, 64, 600])
def test_batch_size_does_not_matter(batch: int) -> None:
    expected = filled(TASKS, world()).compute()
    metrics = filled(TASKS, world(), batch).compute()
    for name, values in expected.items():
        assert metrics[name] == pytest.approx(values, rel=1e-9)


def test_without_groups_there_is_no_grouped_auc() -> None:
    predictions_BT, labels_BT, groups_B = world()
    bank = MetricBank(TASKS)
    bank.update(predictions_BT, labels_BT, None)
    metrics, grouped = bank.compute(), filled(TASKS, (predictions_BT, labels_BT, groups_B)).compute()
    assert math.isnan(metrics["click"]["gauc"])
    assert metrics["click"]["gauc_groups"] == 0
    assert metrics["click"]["auc"] == grouped["click"]["auc"]
    assert metrics["watch"]["xauc"] == grouped["watch"]["xauc"]


@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS[1:2]], ids=["binary", "regression"])
def test_one_kind_of_task_is_enough(tasks: tuple[Task, ...]) -> None:
    predictions_BT, labels_BT, groups_B = world()
    column = [TASKS.index(tasks[0])]
    metrics = filled(tasks, (predictions_BT[:, column], labels_BT[:, column], groups_B)).compute()
    everything = filled(TASKS, (predictions_BT, labels_BT, groups_B)).compute()
    assert list(metrics) == [tasks[0].name]
    assert metrics[tasks[0].name] == pytest.approx(everything[tasks[0].name], rel=1e-12)


def test_alone_there_is_nothing_to_reduce() -> None:
    bank, expected = filled(TASKS, world()), filled(TASKS, world()).compute()
    bank.reduce_()
    assert bank.compute() == expected


def test_curves_and_groups_are_those_of_the_named_task() -> None:
    predictions_BT, labels_BT, groups_B = world()
    bank = MetricBank(TASKS, collect_groups=True)
    bank.update(predictions_BT, labels_BT, groups_B)
    metrics = bank.compute()["like"]
    false, true = bank.roc("like", max_points=5000)
    assert float(torch.trapezoid(true, false)) == pytest.approx(metrics["auc"], abs=1e-4)
    assert int(bank.reliability("like").rows.sum()) == metrics["rows"]
    groups = bank.group_scores("like")
    assert np.average(groups.auc, weights=groups.rows) == pytest.approx(metrics["gauc"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_metrics_are_the_same() -> None:
    columns, device = world(), torch.device("cuda")
    bank = MetricBank(TASKS, device)
    bank.update(*(column.to(device) for column in columns))
    metrics = bank.compute()
    for name, values in filled(TASKS, columns).compute().items():
        assert metrics[name] == pytest.approx(values, rel=1e-6)
    assert bank.roc("click").true_positive_rate.device.type == bank.reliability("click").rows.device.type == "cpu"


def test_halves_share_no_group_and_do_not_depend_on_who_counts_them() -> None:
    columns = world(3000)
    whole = MetricBank(TASKS, halves=True)
    whole.update(*columns)
    parts = [MetricBank(TASKS, halves=True) for _ in range(3)]
    for part, edges in zip(parts, ((0, 900), (900, 909), (909, 3000)), strict=True):
        for piece in zip(*(torch.split(column[slice(*edges)], 100) for column in columns), strict=True):
            part.update(*piece)
    chosen_B = in_half(columns[2])
    assert 0.4 < chosen_B.float().mean() < 0.6
    for task in ("click", "like"):
        counted = [[cells.sum() for cells in half[1:]] for half in whole.half_counts(task)]
        assert sum(sum(half) for half in counted) == sum(cells.sum() for cells in whole.cell_counts(task)[1:])
        labels_B = columns[1][chosen_B, TASKS.index(next(t for t in TASKS if t.name == task))]
        assert counted[0] == [(labels_B == 0).sum(), (labels_B == 1).sum()]
        for half in range(2):
            summed = sum(int(part.half_counts(task)[half][2].sum()) for part in parts)
            assert summed == counted[half][1]
