import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from torch import Tensor

from recsys_mtl.metrics.pairs import xauc
from recsys_mtl.metrics.regression import RegressionAccumulator

NAN = float("nan")


def world(rows: int = 1000) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels_BT = torch.rand(rows, 2, generator=generator, dtype=torch.float64) * 100
    predictions_BT = labels_BT + torch.randn(rows, 2, generator=generator) * 20
    labels_BT[torch.rand(rows, 2, generator=generator) < 0.2] = NAN
    return predictions_BT, labels_BT, torch.arange(rows) // 7


def test_agrees_with_sklearn_on_known_rows() -> None:
    predictions_BT, labels_BT, groups_B = world()
    accumulator = RegressionAccumulator(("watch", "dwell"))
    for start in range(0, 1000, 90):
        rows = slice(start, start + 90)
        accumulator.update(predictions_BT[rows], labels_BT[rows], groups_B[rows])
    for task, metrics in enumerate(accumulator.compute()):
        known = ~labels_BT[:, task].isnan()
        predicted, observed = predictions_BT[known, task].numpy(), labels_BT[known, task].numpy()
        assert metrics.rows == metrics.xauc_rows == len(observed)
        assert metrics.rmse == pytest.approx(root_mean_squared_error(observed, predicted))
        assert metrics.mae == pytest.approx(mean_absolute_error(observed, predicted))
        assert metrics.calibration == pytest.approx(predicted.mean() / observed.mean())
        assert metrics.xauc == pytest.approx(xauc(predicted, observed))
        assert 0.6 < metrics.xauc < 1


@pytest.mark.parametrize("sample_rows", [100, 5000])
def test_parts_merge_to_the_whole(sample_rows: int) -> None:
    columns = world()
    whole = RegressionAccumulator(("watch", "dwell"), sample_rows=sample_rows)
    whole.update(*columns)
    edge = 7 * 60
    first, second = (RegressionAccumulator(("watch", "dwell"), sample_rows=sample_rows) for _ in range(2))
    first.update(*(column[:edge] for column in columns))
    second.update(*(column[edge:] for column in columns))
    second.merge(first)
    for merged, expected in zip(second.compute(), whole.compute(), strict=True):
        assert asdict(merged) == pytest.approx(asdict(expected))


def test_the_sample_is_bounded() -> None:
    accumulator = RegressionAccumulator(("watch", "dwell"), sample_rows=50)
    for _ in range(5):
        accumulator.update(*world()[:2])
    metrics = accumulator.compute()[0]
    assert metrics.rows > 3000
    assert metrics.xauc_rows == 50
    assert accumulator.samples[0].values.shape == (50, 2)


def test_what_is_undefined_is_nan() -> None:
    accumulator = RegressionAccumulator(("watch",))
    accumulator.update(torch.zeros(0, 1), torch.zeros(0, 1))
    accumulator.update(torch.zeros(1, 1), torch.full((1, 1), NAN))
    empty = asdict(accumulator.compute()[0])
    assert (empty.pop("rows"), empty.pop("xauc_rows")) == (0, 0)
    assert all(math.isnan(value) for value in empty.values())
    accumulator.update(torch.ones(3, 1), torch.zeros(3, 1))
    metrics = accumulator.compute()[0]
    assert (metrics.rows, metrics.rmse, metrics.mae) == (3, 1.0, 1.0)
    assert math.isnan(metrics.calibration)
    assert math.isnan(metrics.xauc)


def test_nan_predictions_are_refused_by_name() -> None:
    accumulator = RegressionAccumulator(("watch", "dwell"))
    with pytest.raises(ValueError, match="'dwell': a prediction is NaN"):
        accumulator.update(torch.tensor([[1.0, NAN]]), torch.ones(1, 2))
    assert np.array_equal(accumulator.sums, np.zeros((2, 5)))
