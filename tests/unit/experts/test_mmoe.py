"""MMoE against the paper's equations, one row and one expert at a time."""

import pytest
import torch
from torch import Tensor

from recsys_mtl.experts.mmoe import MMoE, MMoEConfig
from tests import dense
from tests.unit.experts import naive

TASKS = ("click", "like", "follow")


def build(config: MMoEConfig, in_dim: int = 5) -> MMoE:
    torch.manual_seed(0)
    return config.build(in_dim, dense.events(*TASKS))


def f(layer: MMoE, task: int, x_R: Tensor) -> Tensor:
    """f^k(x) = Σ_i g^k(x)_i f_i(x), g^k(x) = softmax(W_gk x)."""
    experts = [naive.expert(layer.bank, 0, i, x_R) for i in range(layer.bank.groups[1])]
    return naive.mixture(layer.gate, task, x_R, experts)


@pytest.mark.parametrize("hidden", [(7,), (7, 4)])
@pytest.mark.parametrize("num_experts", [1, 4])
@pytest.mark.parametrize("representations", [1, len(TASKS)])
def test_it_is_the_papers_mixture(representations: int, num_experts: int, hidden: tuple[int, ...]) -> None:
    layer = build(MMoEConfig(num_experts=num_experts, hidden=hidden))
    x_BGR = torch.randn(4, representations, 5)
    h_BTH = layer(x_BGR)
    assert layer.out_dim == hidden[-1]
    for b in range(len(x_BGR)):
        for k in range(len(TASKS)):
            x_R = x_BGR[b, k if representations > 1 else 0]
            torch.testing.assert_close(h_BTH[b, k], f(layer, k, x_R))


def test_experts_are_shared_and_gates_are_not() -> None:
    layer = build(MMoEConfig(num_experts=4, hidden=(7, 6)))
    experts = 4 * (5 * 7 + 7) + 4 * (7 * 6 + 6)
    assert sum(p.numel() for p in layer.parameters()) == experts + len(TASKS) * 5 * 4


def test_equal_gates_give_all_tasks_the_same() -> None:
    layer = build(MMoEConfig(num_experts=4))
    with torch.no_grad():
        layer.gate.linear.weight_IKO.copy_(layer.gate.linear.weight_IKO[:, :1].clone())
    h_BTH = layer(torch.randn(4, 1, 5))
    assert torch.equal(h_BTH[:, 0], h_BTH[:, 1])


def test_gates_are_named_after_tasks_and_experts() -> None:
    gate = build(MMoEConfig(num_experts=2)).gate
    assert gate.readers == TASKS
    assert gate.experts == (("expert 0", "expert 1"),) * 3


def test_dropout_acts_in_training_only() -> None:
    layer = build(MMoEConfig(dropout=0.5))
    x_B1R = torch.randn(4, 1, 5)
    assert not torch.equal(layer(x_B1R), layer(x_B1R))
    layer.eval()
    assert torch.equal(layer(x_B1R), layer(x_B1R))


def test_pinned_values() -> None:
    layer = build(MMoEConfig(num_experts=3, hidden=(4, 2)))
    h_BTH = layer(torch.linspace(-2, 2, 10).view(2, 1, 5))
    expected = [
        [[0.3587, 0.1979], [0.2357, 0.0561], [0.4635, 0.2883]],
        [[0.3527, 0.1874], [0.3635, 0.1074], [0.3694, 0.2143]],
    ]
    torch.testing.assert_close(h_BTH, torch.tensor(expected), rtol=0, atol=1e-4)
