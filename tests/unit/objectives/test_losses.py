"""The objective against a loop over rows and tasks."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from recsys_mtl.objectives.losses import LabelRules, Objective, ObjectiveConfig, learning_scale, task_losses
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task

NAN = math.nan
TASKS: tuple[Task, ...] = (
    BinaryTask(name="click"),
    BinaryTask(name="buy", space="click", weight=3.0),
    RegressionTask(name="watch", upper=60.0, weight=0.5),
    RegressionTask(name="price", transform="identity", loss="mse", space="buy"),
)
LABELS = torch.tensor(
    [
        [1, 0, 10.0, 5.0],  # clicked, not bought: no price
        [1, 1, 500.0, 7.5],  # watched for longer than the upper limit
        [0, 1, 0.0, 2.0],  # not clicked: outside of the space of buy; its own label is 1, so price counts
        [NAN, 1, NAN, NAN],  # nothing known of the click: nothing of buy
        [1, NAN, 3.0, 4.0],  # buy is not known: nothing of price
    ]
)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 4.0, 0.0])
AverageOver = Literal["known", "rows"]


def logits(scale: float = 1.0) -> Tensor:
    torch.manual_seed(0)
    return (scale * torch.randn(LABELS.shape)).requires_grad_()


def one_loss(logit: float, label: float, task: Task) -> float:
    """A row's loss, written out."""
    if isinstance(task, BinaryTask):
        p = 1 / (1 + math.exp(-logit))
        return -math.log(p) if label == 1 else -math.log(1 - p)
    amount = min(label, task.upper) if task.upper is not None else label
    error = abs(logit - (math.log(1 + amount) if task.transform == "log1p" else amount))
    if task.loss == "mse":
        return error**2
    return error**2 / 2 if error <= 1 else error - 0.5


def naive(logits_BT: Tensor, average_over: AverageOver) -> tuple[list[float], list[float]]:
    """Sums and divisors, row by row; PLE's δ is 1 where the label is known and the row in the task's space."""
    names = [task.name for task in TASKS]
    sums, divisors = [0.0] * len(TASKS), [0.0] * len(TASKS)
    for row, weight in enumerate(WEIGHTS.tolist()):
        for t, task in enumerate(TASKS):
            label = LABELS[row, t].item()
            inside = task.space is None or LABELS[row, names.index(task.space)].item() == 1
            known = not math.isnan(label) and inside
            sums[t] += weight * one_loss(logits_BT[row, t].item(), label, task) if known else 0
            divisors[t] += weight if known or average_over == "rows" else 0
    return sums, divisors


@pytest.mark.parametrize("average_over", ["known", "rows"])
def test_losses_are_summed_over_known_labels_in_their_space(average_over: AverageOver) -> None:
    objective = ObjectiveConfig(average_over=average_over).build(TASKS)
    logits_BT = logits()
    sums_T, divisors_T = objective(logits_BT, LABELS, WEIGHTS)
    sums, divisors = naive(logits_BT, average_over)
    assert sums_T.tolist() == pytest.approx(sums, rel=1e-5)
    assert divisors_T.tolist() == pytest.approx(divisors)
    expected = sum(task.weight * s / d for task, s, d in zip(TASKS, sums, divisors, strict=True) if d)
    assert objective.combine(sums_T, divisors_T).item() == pytest.approx(expected, rel=1e-5)


def test_by_default_a_rare_label_counts_as_much_as_a_frequent_one() -> None:
    assert ObjectiveConfig().average_over == "known"


@pytest.mark.parametrize("average_over", ["known", "rows"])
def test_tasks_without_a_known_label_contribute_nothing(average_over: AverageOver) -> None:
    objective = ObjectiveConfig(average_over=average_over).build(TASKS)
    labels_BT, logits_BT = LABELS.clone(), logits()
    labels_BT[:, 1] = NAN
    sums_T, divisors_T = objective(logits_BT, labels_BT, WEIGHTS)
    others = [0, 2]
    assert sums_T[[1, 3]].tolist() == [0, 0], "price has the space of buy"
    loss = objective.combine(sums_T, divisors_T)
    mean_T = torch.tensor([TASKS[t].weight for t in others]) * (sums_T / divisors_T)[others]
    torch.testing.assert_close(loss, mean_T.sum())
    (gradient_BT,) = torch.autograd.grad(loss, logits_BT)
    assert gradient_BT.isfinite().all()
    assert not gradient_BT[:, [1, 3]].any()
    assert gradient_BT[:, others].abs().sum(0).min() > 0


def test_a_batch_without_any_known_label_gives_zero_and_finite_gradients() -> None:
    objective = ObjectiveConfig().build(TASKS)
    logits_BT = logits()
    loss = objective.combine(*objective(logits_BT, torch.full_like(LABELS, NAN), WEIGHTS))
    assert loss.item() == 0
    assert torch.equal(torch.autograd.grad(loss, logits_BT)[0], torch.zeros_like(LABELS))


def test_rows_without_weight_do_not_count() -> None:
    objective = ObjectiveConfig().build(TASKS)
    kept = [0, 1, 2, 3]
    all_rows = objective(logits(), LABELS, WEIGHTS)
    without = objective(logits()[kept], LABELS[kept], WEIGHTS[kept])
    torch.testing.assert_close(all_rows, without)


def test_a_tasks_loss_trains_its_own_output_only() -> None:
    logits_BT = logits()
    sums_T, _ = ObjectiveConfig().build(TASKS)(logits_BT, LABELS, torch.ones(len(LABELS)))
    for t in range(len(TASKS)):
        (gradient_BT,) = torch.autograd.grad(sums_T[t], logits_BT, retain_graph=True)
        assert gradient_BT.abs().sum(0).nonzero().flatten().tolist() == [t]


def test_permuting_the_tasks_permutes_their_losses() -> None:
    order = [2, 0, 3, 1]
    permuted = ObjectiveConfig().build(tuple(TASKS[t] for t in order))
    plain = ObjectiveConfig().build(TASKS)
    theirs = permuted(logits()[:, order], LABELS[:, order], WEIGHTS)
    mine = plain(logits(), LABELS, WEIGHTS)
    for part, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(other, part[order])
    torch.testing.assert_close(permuted.combine(*theirs), plain.combine(*mine))


def test_sure_and_wrong_outputs_have_a_finite_loss() -> None:
    """Logits go into the loss, not probabilities, which would round to 0 and 1."""
    logit_BT = torch.tensor([[-200.0], [200.0]], requires_grad=True)
    losses_BT = task_losses(logit_BT, torch.tensor([[1.0], [0.0]]), (BinaryTask(name="click"),))
    assert losses_BT.tolist() == [[200.0], [200.0]]
    assert torch.autograd.grad(losses_BT.sum(), logit_BT)[0].tolist() == [[-1.0], [1.0]]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (RegressionTask(name="w"), [0.0, math.log(3), math.log(101)]),
        (RegressionTask(name="w", upper=9.0), [0.0, math.log(3), math.log(10)]),
        (RegressionTask(name="w", transform="identity"), [0.0, 2.0, 100.0]),
        (RegressionTask(name="w", transform="identity", upper=9.0), [0.0, 2.0, 9.0]),
    ],
)
def test_amounts_are_learnt_clipped_and_on_their_scale(task: RegressionTask, expected: list[float]) -> None:
    assert learning_scale(torch.tensor([0.0, 2.0, 100.0]), task).tolist() == pytest.approx(expected)


def test_labels_outside_of_the_space_become_unknown_and_stay_in_the_batch() -> None:
    labels_BT = LABELS.clone()
    inside_BT = LabelRules(TASKS)(labels_BT)
    expected = torch.tensor(
        [[1, 0, 10.0, NAN], [1, 1, 500.0, 7.5], [0, NAN, 0.0, 2.0], [NAN, NAN, NAN, NAN], [1, NAN, 3.0, NAN]]
    )
    torch.testing.assert_close(inside_BT, expected, equal_nan=True)
    torch.testing.assert_close(labels_BT, LABELS, equal_nan=True)


def test_a_space_needs_its_task() -> None:
    with pytest.raises(ValueError, match=r"tasks\.include: buy needs click, the task of its sample space"):
        ObjectiveConfig().build(TASKS[1:3])


def test_task_weights_move_with_the_module_and_are_not_part_of_its_state() -> None:
    objective: Objective = ObjectiveConfig().build(TASKS)
    assert objective.weights_K.tolist() == [1.0, 3.0, 0.5, 1.0]
    assert objective.to(torch.float64).weights_K.dtype == torch.float64
    assert objective.state_dict() == {}
