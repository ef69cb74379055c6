"""The objective against a loop over rows and tasks."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from recsys_mtl.objectives.losses import CALIBRATOR, LabelRules, Objective, ObjectiveConfig, learning_scale, task_losses
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


FUNNEL: tuple[Task, ...] = (
    BinaryTask(name="pay", after="cart", weight=2.0),
    RegressionTask(name="watch"),
    BinaryTask(name="cart", after="click"),
    BinaryTask(name="click"),
    BinaryTask(name="gift", space="cart"),
)
"""click -> cart -> pay, told from its end; a gift is known of carts only."""
FUNNEL_LABELS = torch.tensor(
    [
        [NAN, 1.0, NAN, 0, NAN],  # no click: no cart, and so no payment
        [NAN, NAN, 0, 1, 1],  # no cart: no payment; a gift's space is the cart
        [NAN, 2.0, 1, 1, 0],  # a cart: the payment stays unknown
        [NAN, 3.0, NAN, 1, 1],  # a click: cart and payment stay unknown
        [NAN, 3.0, NAN, NAN, 1],  # nothing known
        [1, 0.0, NAN, 0, 1],  # a logged payment stays, whatever the funnel says
        [0, 0.0, 1, NAN, 1],  # the label is known: nothing is concluded backwards
        [NAN, 0.0, 1, 0, 1],  # the cart was logged without a click: it decides about the payment
    ]
)


def test_what_follows_an_event_that_did_not_happen_did_not_happen_either() -> None:
    expected = torch.tensor(
        [
            [0, 1.0, 0, 0, NAN],
            [0, NAN, 0, 1, NAN],
            [NAN, 2.0, 1, 1, 0],
            [NAN, 3.0, NAN, 1, NAN],
            [NAN, 3.0, NAN, NAN, NAN],
            [1, 0.0, 0, 0, NAN],
            [0, 0.0, 1, NAN, 1],
            [NAN, 0.0, 1, 0, 1],
        ]
    )
    labels_BT = FUNNEL_LABELS.clone()
    torch.testing.assert_close(LabelRules(FUNNEL)(labels_BT), expected, equal_nan=True)
    torch.testing.assert_close(labels_BT, FUNNEL_LABELS, equal_nan=True)


def test_known_labels_of_a_funnel_are_never_changed() -> None:
    torch.manual_seed(0)
    funnel = FUNNEL[:4]
    labels_BT = torch.randint(0, 2, (500, 4)).float().masked_fill(torch.rand(500, 4) < 0.4, NAN)
    ruled_BT, known_BT = LabelRules(funnel)(labels_BT), labels_BT.isfinite()
    assert torch.equal(ruled_BT[known_BT], labels_BT[known_BT])
    concluded_BT = ruled_BT.isfinite() & ~known_BT
    assert concluded_BT.sum(0)[[0, 2]].min() > 0
    assert not concluded_BT[:, [1, 3]].any()
    assert not ruled_BT[concluded_BT].any()


def test_rows_of_which_the_funnel_tells_the_label_count() -> None:
    sums_T, divisors_T = ObjectiveConfig().build(FUNNEL)(torch.zeros(8, 5), FUNNEL_LABELS, torch.ones(8))
    assert divisors_T.tolist() == [4, 7, 6, 6, 3]
    torch.testing.assert_close(sums_T[[0, 2]], math.log(2) * torch.tensor([4.0, 6.0]))


def naive_disorder(logits_BT: Tensor, weights_B: Tensor) -> float:
    """Σ over rows and links of max(ŷ_t - ŷ_s, 0)."""
    total = 0.0
    for row_T, weight in zip(logits_BT.tolist(), weights_B.tolist(), strict=True):
        pay, _, cart, click, _ = (1 / (1 + math.exp(-logit)) for logit in row_T)
        total += weight * (max(pay - cart, 0) + max(cart - click, 0))
    return total


@pytest.mark.parametrize("average_over", ["known", "rows"])
def test_the_calibrator_is_the_mean_disorder_over_all_rows(average_over: AverageOver) -> None:
    torch.manual_seed(0)
    logits_BT, weights_B = 2 * torch.randn(8, 5), torch.rand(8)
    config = ObjectiveConfig(average_over=average_over)
    plain, calibrated = config.build(FUNNEL), config.build(FUNNEL, calibrator=0.6)
    assert calibrated.terms == ("pay", "watch", "cart", "click", "gift", CALIBRATOR) == (*plain.terms, CALIBRATOR)
    sums_T, divisors_T = plain(logits_BT, FUNNEL_LABELS, weights_B)
    sums_K, divisors_K = calibrated(logits_BT, FUNNEL_LABELS, weights_B)
    assert torch.equal(sums_K[:-1], sums_T)
    assert torch.equal(divisors_K[:-1], divisors_T)
    disorder = naive_disorder(logits_BT, weights_B)
    assert disorder > 0.5
    assert sums_K[-1].item() == pytest.approx(disorder, rel=1e-5)
    assert divisors_K[-1].item() == pytest.approx(weights_B.sum().item()), "labels do not matter"
    added = calibrated.combine(sums_K, divisors_K) - plain.combine(sums_T, divisors_T)
    assert added.item() == pytest.approx(0.6 * disorder / weights_B.sum().item(), rel=1e-4)


def test_the_calibrator_pulls_apart_what_is_out_of_order_only() -> None:
    logits_BT = torch.tensor([[0.0, 9, 1, 2, 9], [2, 9, 1, 0, 9]], requires_grad=True)
    objective = ObjectiveConfig().build(FUNNEL, calibrator=1.0)
    sums_K, _ = objective(logits_BT, torch.zeros(2, 5), torch.ones(2))
    (gradient_BT,) = torch.autograd.grad(sums_K[-1], logits_BT)
    assert gradient_BT.sign().tolist() == [[0, 0, 0, 0, 0], [1, 0, 0, -1, 0]]  # the slopes of the cart cancel
    assert sums_K[-1].item() == pytest.approx(1 / (1 + math.exp(-2)) - 0.5)


@pytest.mark.parametrize(("tasks", "weight"), [(FUNNEL, 0.0), (TASKS, 0.6)])
def test_without_a_weight_or_a_funnel_there_is_no_calibrator(tasks: tuple[Task, ...], weight: float) -> None:
    objective = ObjectiveConfig().build(tasks, calibrator=weight)
    assert objective.terms == tuple(task.name for task in tasks)
    assert len(objective.weights_K) == len(tasks)
    sums_K, divisors_K = objective(torch.zeros(5, len(tasks)), torch.zeros(5, len(tasks)), WEIGHTS)
    assert len(sums_K) == len(divisors_K) == len(tasks)


def test_the_calibrators_weight_is_among_those_of_the_terms() -> None:
    weights = ObjectiveConfig().build(FUNNEL, calibrator=0.6).weights_K.tolist()
    assert weights == pytest.approx([2.0, 1.0, 1.0, 1.0, 1.0, 0.6])


def test_a_batch_without_any_known_label_has_the_calibrator_left() -> None:
    objective = ObjectiveConfig().build(FUNNEL, calibrator=1.0)
    logits_BT = torch.tensor([[2.0, 0, 1, 0, 0]])
    loss = objective.combine(*objective(logits_BT, torch.full((1, 5), NAN), torch.ones(1)))
    assert loss.item() == pytest.approx(naive_disorder(logits_BT, torch.ones(1)))


def test_a_funnel_needs_its_earlier_event() -> None:
    with pytest.raises(ValueError, match=r"tasks\.cart\.after: 'click' is not another binary task"):
        ObjectiveConfig().build(FUNNEL[:3])
