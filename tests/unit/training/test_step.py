import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.data.batch import Batch, collate
from recsys_mtl.norms import BatchNorm
from recsys_mtl.objectives.losses import ObjectiveConfig
from recsys_mtl.tasks import BinaryTask
from recsys_mtl.training.optim import DenseConfig
from recsys_mtl.training.step import NotFiniteError, TrainStep
from tests.unit.data.worlds import LAYOUT, numbered


class Root(nn.Module):
    """A number per row, normalised, plus a root, whose gradient at zero is infinite."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.norm = BatchNorm(1, momentum=0.5, eps=1e-3)
        self.weight = nn.Parameter(torch.tensor(start))

    def forward(self, batch: Batch) -> Tensor:
        logits_BT: Tensor = self.norm(batch.dense_BC) + self.weight.sqrt()
        return logits_BT


def batch(*, too_large: bool = False) -> Batch:
    made = collate(numbered(range(1, 9)), LAYOUT)
    if too_large:
        made.dense_BC[3] = 3e38
    return made


def make_step(start: float, **config: object) -> TrainStep:
    objective = ObjectiveConfig().build((BinaryTask(name="odd"),))
    return TrainStep(Root(start), objective, DenseConfig.model_validate({"warmup_steps": 2, **config}), 30)


def state(step: TrainStep) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in step.model.state_dict().items()}


def test_of_a_batch_without_a_finite_loss_nothing_stays() -> None:
    step = make_step(0.5)
    step(batch())
    before, moments = state(step), step.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    with pytest.raises(NotFiniteError, match=r"^the loss of odd$") as caught:
        step(batch(too_large=True))
    assert (caught.value.workers, caught.value.learnt) == ((0,), False)
    assert before["norm.running_mean_J"].item() != 0
    assert all(torch.equal(value, before[name]) for name, value in state(step).items())
    assert torch.equal(step.optimizer.state_dict()["state"][0]["exp_avg"], moments)
    step.go_to(step.steps)
    step(batch())
    assert all(value.isfinite().all() for value in state(step).values())


def test_the_schedule_counts_a_batch_that_is_passed_over() -> None:
    step, undisturbed = make_step(0.5), make_step(0.5)
    for number in range(6):
        undisturbed(batch())
        if number == 3:
            with pytest.raises(NotFiniteError):
                step(batch(too_large=True))
            step.go_to(step.steps)
        else:
            step(batch())
        assert step.steps == undisturbed.steps
        assert step.optimizer.param_groups[0]["lr"] == undisturbed.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("clip_norm", [None, 10.0])
def test_a_gradient_that_is_not_finite_moves_no_dense_weight(clip_norm: float | None) -> None:
    step = make_step(0.0, clip_norm=clip_norm)
    with pytest.raises(NotFiniteError, match=r"^the norm of the dense part's gradient$") as caught:
        step(batch())
    assert caught.value.learnt
    assert step.model.get_parameter("weight").item() == 0.0
