"""The meter against all rows at once."""

import pytest
import torch
from torch import Tensor

from recsys_mtl.objectives.losses import CALIBRATOR, Objective, ObjectiveConfig
from recsys_mtl.tasks import BinaryTask
from recsys_mtl.training.meter import Meter
from recsys_mtl.training.step import StepResult

TASKS = (BinaryTask(name="click", weight=0.5), BinaryTask(name="buy", after="click"), BinaryTask(name="like"))
LABELS = torch.tensor([[1, 1, torch.nan], [1, 0, torch.nan], [0, torch.nan, torch.nan], [0, 0, torch.nan]])


def objective(calibrator: float = 0.6) -> Objective:
    return ObjectiveConfig().build(TASKS, calibrator=calibrator)


def logits() -> Tensor:
    return 2 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def result(of: Objective, rows: slice) -> StepResult:
    sums_K, divisors_K = of(logits()[rows], LABELS[rows], torch.ones(4)[rows])
    return StepResult(sums_K, divisors_K, len(sums_K))


def test_means_are_those_of_all_rows_since_the_last_reading() -> None:
    of = objective()
    meter = Meter(of)
    for rows in (slice(0, 1), slice(1, 4)):
        meter.add(result(of, rows))
    everything = result(of, slice(0, 4))
    means_K = (everything.sums_K / everything.divisors_K).tolist()
    read = meter.read()
    assert list(read) == ["click", "buy", CALIBRATOR, "total"], "nothing is known of likes"
    assert read["click"] == pytest.approx(means_K[0])
    assert read["buy"] == pytest.approx(means_K[1])
    assert read[CALIBRATOR] == pytest.approx(means_K[3])
    assert read[CALIBRATOR] > 0.01
    assert read["total"] == pytest.approx(0.5 * read["click"] + read["buy"] + 0.6 * read[CALIBRATOR])


def test_a_reading_starts_again() -> None:
    of = objective()
    meter = Meter(of)
    assert meter.read() == {}
    meter.add(result(of, slice(0, 1)))
    meter.read()
    assert meter.read() == {}
    meter.add(result(of, slice(1, 4)))
    later = meter.read()
    again = Meter(of)
    again.add(result(of, slice(1, 4)))
    assert later == again.read()


def test_without_a_calibrator_there_is_no_such_loss() -> None:
    of = objective(calibrator=0.0)
    meter = Meter(of)
    meter.add(result(of, slice(0, 4)))
    assert list(meter.read()) == ["click", "buy", "total"]


@pytest.mark.parametrize("shares", [1, 3])
def test_it_goes_on_from_its_state_whatever_number_of_workers_it_is_of(shares: int) -> None:
    of = objective()
    meter, other = Meter(of), Meter(of)
    meter.add(result(of, slice(0, 3)))
    (mine,) = meter.state() or []
    other.put_back([[[value / shares for value in mine[0]], mine[1]]] * shares)
    for each in (meter, other):
        each.add(result(of, slice(3, 4)))
    assert other.read() == pytest.approx(meter.read(), rel=0 if shares == 1 else 1e-6)
    assert Meter(of).state() is None
