"""Information transfer against the paper's equations, row by row and link by link."""

import math

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.heads.aitm import AITM, AITMConfig
from recsys_mtl.heads.base import Funnel
from recsys_mtl.heads.towers import TowersConfig
from recsys_mtl.layers import GroupedLinear, GroupedMLP
from recsys_mtl.objectives.losses import CALIBRATOR, ObjectiveConfig
from recsys_mtl.tasks import BinaryTask, Task
from tests import dense

IN, ROWS = 4, 5
BEFORE = {1: 0, 6: 0, 4: 1}
TRANSFERS = {1: (0, 0), 6: (0, 1), 4: (1, 0)}
"""By later task: its level, and its place there."""


def build(tasks: tuple[Task, ...] = dense.TASKS, **config: object) -> AITM:
    torch.manual_seed(0)
    return AITMConfig.model_validate(config).build(IN, tasks)


def hidden(tasks: int = len(dense.TASKS)) -> Tensor:
    return torch.randn(ROWS, tasks, IN, generator=torch.Generator().manual_seed(1))


def perceptron(module: GroupedMLP, k: int, x_I: Tensor) -> Tensor:
    """Linear and ReLU, layer by layer."""
    for layer in module.layers:
        if isinstance(layer, GroupedLinear):
            assert layer.bias_KO is not None
            x_I = torch.relu(x_I @ layer.weight_IKO[:, k] + layer.bias_KO[k])
    return x_I


def transferred(heads: AITM, t: int, h_TH: Tensor) -> Tensor:
    """z_t of one row."""
    q_K = perceptron(heads.mlp, t, h_TH[t])
    if t not in BEFORE:
        return q_K
    level, place = TRANSFERS[t]
    g = heads.transfers[level]
    assert isinstance(g, GroupedMLP)
    p_K = perceptron(g, place, transferred(heads, BEFORE[t], h_TH))
    assert heads.attention is not None
    h1, h2, h3 = heads.attention.h.weight.chunk(3)
    scores = [((h2 @ u_K) @ (h3 @ u_K) / math.sqrt(len(u_K))).exp() for u_K in (p_K, q_K)]
    weights = [score / (scores[0] + scores[1]) for score in scores]
    return weights[0] * (h1 @ p_K) + weights[1] * (h1 @ q_K)


@pytest.mark.parametrize("widths", [[6], [6, 3], []])
def test_each_event_attends_to_its_own_tower_and_to_what_the_event_before_hands_on(widths: list[int]) -> None:
    heads, h_BTH = build(hidden=widths), hidden()
    with torch.no_grad():
        for weight in heads.parameters():
            weight.mul_(2)  # weights of attention away from a half
    logits_BT = heads(h_BTH)
    assert logits_BT.shape == (ROWS, len(dense.TASKS))
    assert heads.out.bias_KO is not None
    for b in range(ROWS):
        for t in range(len(dense.TASKS)):
            expected = transferred(heads, t, h_BTH[b]) @ heads.out.weight_IKO[:, t] + heads.out.bias_KO[t]
            torch.testing.assert_close(logits_BT[b, t].view(1), expected)


def test_information_flows_down_the_funnel_only() -> None:
    heads, h_BTH = build(), hidden().requires_grad_()
    reads = {0: [0], 1: [0, 1], 2: [2], 3: [3], 4: [0, 1, 4], 5: [5], 6: [0, 6]}
    for t, sources in reads.items():
        (gradient_BTH,) = torch.autograd.grad(heads(h_BTH)[:, t].sum(), h_BTH)
        assert gradient_BTH.abs().sum((0, 2)).nonzero().flatten().tolist() == sources


def test_without_a_funnel_they_are_plain_towers_without_other_weights() -> None:
    tasks = dense.events("click", "like", "follow")
    torch.manual_seed(0)
    towers = TowersConfig().build(IN, tasks)
    heads = build(tasks)
    assert torch.equal(heads(hidden(3)), towers(hidden(3)))
    assert heads.state_dict().keys() == towers.state_dict().keys()


def test_each_link_has_a_transfer_of_its_own_and_all_share_the_attention() -> None:
    heads = build(hidden=[6])
    sizes = {name: weight.shape for name, weight in heads.named_parameters() if not name.startswith(("mlp", "out"))}
    assert sizes == {
        "transfers.0.layers.0.weight_IKO": (6, 2, 6),
        "transfers.0.layers.0.bias_KO": (2, 6),
        "transfers.1.layers.0.weight_IKO": (6, 1, 6),
        "transfers.1.layers.0.bias_KO": (1, 6),
        "attention.h.weight": (18, 6),
    }


def test_links_stand_by_depth_and_name_whatever_the_order_of_the_tasks() -> None:
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 4, 5, 2, 1, 3, 0]):
        tasks = tuple(dense.TASKS[t] for t in order)
        pairs = [
            [
                (tasks[later].name, tasks[earlier].name)
                for later, earlier in zip(links.later_L, links.earlier_L, strict=True)
            ]
            for links in Funnel(tasks)
        ]
        assert pairs == [[("task1", "task0"), ("task6", "task0")], [("task4", "task1")]]


def test_the_links_are_no_part_of_the_state() -> None:
    assert not [name for name in build().state_dict() if name.startswith("funnel")]


def test_transfers_are_made_in_the_style_of_the_towers() -> None:
    heads = build(activation="tanh", dropout=0.3, norm={"kind": "layer"})
    (transfer, _) = heads.transfers
    assert isinstance(transfer, GroupedMLP)
    kinds = [type(layer) for layer in transfer.layers]
    assert kinds == [type(layer) for layer in heads.mlp.layers]
    assert {nn.Tanh, nn.Dropout} < set(kinds)


def test_the_calibrator_weighs_what_the_paper_says_and_can_be_left_out() -> None:
    tasks = (BinaryTask(name="click"), BinaryTask(name="buy", after="click"))
    terms = {
        weight: ObjectiveConfig().build(tasks, calibrator=AITMConfig(calibrator=weight).calibrator).terms
        for weight in (AITMConfig().calibrator, 0.0)
    }
    assert terms == {0.6: ("click", "buy", CALIBRATOR), 0.0: ("click", "buy")}
