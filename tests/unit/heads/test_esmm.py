"""Products along the funnel against plain probabilities, and in the tails against exact ones."""

from decimal import Decimal, localcontext
from itertools import product

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from recsys_mtl.heads.esmm import ESMM, ESMMConfig, logit_of_product
from recsys_mtl.heads.towers import TowersConfig
from recsys_mtl.objectives.losses import CALIBRATOR, ObjectiveConfig
from recsys_mtl.tasks import BinaryTask, Task
from tests import dense

IN, ROWS = 4, 7
TAILS = [-200.0, -40.0, -17.0, -3.0, -0.1, 0.0, 2.5, 16.0, 40.0, 200.0]
PAIRS = list(product(TAILS, TAILS))


def build(tasks: tuple[Task, ...] = dense.TASKS, **config: object) -> ESMM:
    torch.manual_seed(0)
    return ESMMConfig.model_validate(config).build(IN, tasks)


def hidden(tasks: int = len(dense.TASKS)) -> Tensor:
    return 3 * torch.randn(ROWS, tasks, IN, generator=torch.Generator().manual_seed(1))


def conditional(heads: ESMM, h_BTH: Tensor) -> Tensor:
    """What the towers say before anything is multiplied."""
    return heads.out(heads.mlp(h_BTH)).squeeze(2)


def test_probabilities_multiply_along_the_funnel_and_nothing_else_does() -> None:
    heads, h_BTH = build(), hidden()
    p_BT = conditional(heads, h_BTH).double().sigmoid()
    logits_BT = heads(h_BTH)
    expected = {0: p_BT[:, 0], 1: p_BT[:, 0] * p_BT[:, 1], 6: p_BT[:, 0] * p_BT[:, 6]}
    expected |= {4: expected[1] * p_BT[:, 4], 3: p_BT[:, 3], 5: p_BT[:, 5]}
    for t, p_B in expected.items():
        torch.testing.assert_close(logits_BT[:, t].double().sigmoid(), p_B, rtol=1e-5, atol=1e-7)
    assert torch.equal(logits_BT[:, 2], conditional(heads, h_BTH)[:, 2]), "an amount is no probability"


def test_a_funnel_may_be_declared_from_its_end() -> None:
    tasks = (
        BinaryTask(name="pay", after="cart"),
        BinaryTask(name="ship", after="pay"),
        BinaryTask(name="cart", after="click"),
        BinaryTask(name="click"),
    )
    heads, h_BTH = build(tasks), hidden(4)
    pay, ship, cart, click = conditional(heads, h_BTH).sigmoid().unbind(1)
    expected_BT = torch.stack([click * cart * pay, click * cart * pay * ship, click * cart, click], dim=1)
    torch.testing.assert_close(heads(h_BTH).sigmoid(), expected_BT)


def test_without_a_funnel_they_are_plain_towers() -> None:
    tasks = dense.events("click", "like", "follow")
    torch.manual_seed(0)
    towers = TowersConfig().build(IN, tasks)
    assert torch.equal(build(tasks)(hidden(3)), towers(hidden(3)))


def test_the_loss_of_a_later_event_trains_the_towers_of_the_events_before_it() -> None:
    heads = build()
    reached = {1: [0, 1], 4: [0, 1, 4], 6: [0, 6], 5: [5]}
    for t, towers in reached.items():
        (gradient_TO,) = torch.autograd.grad(heads(hidden())[:, t].sum(), [heads.out.weight_IKO])
        assert gradient_TO.abs().sum((0, 2)).nonzero().flatten().tolist() == towers


def exact(x: float, y: float) -> float:
    """The logit of σ(x)·σ(y) with more digits than either tail can eat."""
    with localcontext() as context:
        context.prec = 400
        p = 1 / (1 + Decimal(-x).exp()) / (1 + Decimal(-y).exp())
        return float((p / (1 - p)).ln())


def test_products_keep_their_digits_in_both_tails() -> None:
    x_K, y_K = torch.tensor(PAIRS).unbind(1)
    expected_K = torch.tensor([exact(x, y) for x, y in PAIRS])
    torch.testing.assert_close(logit_of_product(x_K, y_K), expected_K, rtol=3e-7, atol=3e-7)


def test_gradients_are_right_and_never_above_one() -> None:
    inputs = torch.tensor(PAIRS, requires_grad=True)
    (gradient_K2,) = torch.autograd.grad(logit_of_product(*inputs.unbind(1)).sum(), inputs)
    assert gradient_K2.isfinite().all()
    assert gradient_K2.min() >= 0
    assert gradient_K2.max() <= 1 + 1e-4
    double = torch.tensor(PAIRS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda pairs: logit_of_product(*pairs.unbind(1)), double)


def test_the_loss_is_the_papers_over_all_impressions() -> None:
    """L = Σ l(click, pCTR) + Σ l(click & buy, pCTR·pCVR); that of no click nobody bought need not be said."""
    tasks = (BinaryTask(name="click"), BinaryTask(name="buy", after="click"))
    heads, h_BTH = build(tasks), hidden(2)
    labels_BT = torch.tensor([[1, 1], [1, 0], [0, 0], [0, torch.nan], [1, 1], [0, torch.nan], [1, 0.0]])
    sums_T, divisors_T = ObjectiveConfig().build(tasks)(heads(h_BTH), labels_BT, torch.ones(ROWS))
    pctr_B, pcvr_B = conditional(heads, h_BTH).sigmoid().unbind(1)
    expected = [
        binary_cross_entropy(pctr_B, labels_BT[:, 0], reduction="sum"),
        binary_cross_entropy(pctr_B * pcvr_B, labels_BT[:, 1].nan_to_num(0), reduction="sum"),
    ]
    assert divisors_T.tolist() == [ROWS, ROWS]
    torch.testing.assert_close(sums_T, torch.stack(expected))


def test_a_sure_and_wrong_product_has_a_finite_gradient() -> None:
    logits = torch.tensor([[90.0, 90.0], [-90.0, -90.0]], requires_grad=True)
    product_B = logit_of_product(*logits.unbind(1))
    loss = binary_cross_entropy_with_logits(product_B, torch.tensor([0.0, 1.0]), reduction="none")
    assert loss.tolist() == pytest.approx([90 - torch.tensor(2.0).log().item(), 180])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[0.5, 0.5], [-1.0, -1.0]]))


def test_products_are_in_order_so_there_is_no_calibrator_to_set() -> None:
    assert ESMMConfig().calibrator == 0
    assert "calibrator" not in ESMMConfig.model_fields
    with pytest.raises(ValidationError, match="calibrator"):
        ESMMConfig.model_validate({"calibrator": 0.6})
    assert CALIBRATOR not in ObjectiveConfig().build(dense.TASKS, calibrator=ESMMConfig().calibrator).terms
    p_BT = build()(hidden()).sigmoid()
    assert (p_BT[:, [1, 4, 6]] <= p_BT[:, [0, 1, 0]]).all()
