"""Towers against a loop over tasks."""

import pytest
import torch
from torch import Tensor

from recsys_mtl.heads.towers import Towers, TowersConfig
from recsys_mtl.layers import GroupedLinear
from tests import dense

TASKS = ("click", "like", "follow")


def build(config: TowersConfig) -> Towers:
    torch.manual_seed(0)
    return config.build(4, dense.events(*TASKS))


def tower(towers: Towers, task: int, h_BH: Tensor) -> Tensor:
    """y_k = h_k(f^k(x)): Linear and ReLU for every hidden width, then one number."""
    linears = [layer for layer in towers.mlp.layers if isinstance(layer, GroupedLinear)]
    for layer in [*linears, towers.out]:
        assert layer.bias_KO is not None
        h_BH = h_BH @ layer.weight_IKO[:, task] + layer.bias_KO[task]
        h_BH = h_BH if layer is towers.out else torch.relu(h_BH)
    return h_BH.squeeze(1)


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
def test_towers_are_a_perceptron_for_each_task(hidden: tuple[int, ...]) -> None:
    towers = build(TowersConfig(hidden=hidden))
    h_BTH = torch.randn(7, len(TASKS), 4)
    logits_BT = towers(h_BTH)
    assert logits_BT.shape == (7, len(TASKS))
    for t in range(len(TASKS)):
        torch.testing.assert_close(logits_BT[:, t], tower(towers, t, h_BTH[:, t]))


def test_a_task_trains_its_own_tower_only() -> None:
    towers = build(TowersConfig())
    loss = towers(torch.randn(7, len(TASKS), 4))[:, 1].sum()
    for gradient in torch.autograd.grad(loss, list(towers.parameters())):
        by_task = gradient.transpose(0, -2).flatten(1).abs().sum(1)
        assert (by_task > 0).tolist() == [False, True, False]


def test_outputs_are_logits_without_a_sigmoid() -> None:
    logits_BT = build(TowersConfig(hidden=()))(100 * torch.randn(50, len(TASKS), 4))
    assert logits_BT.min() < -1
    assert logits_BT.max() > 1


def test_dropout_acts_in_training_only() -> None:
    towers = build(TowersConfig(dropout=0.5))
    h_BTH = torch.randn(7, len(TASKS), 4)
    assert not torch.equal(towers(h_BTH), towers(h_BTH))
    towers.eval()
    assert torch.equal(towers(h_BTH), towers(h_BTH))
