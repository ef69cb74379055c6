"""PLE against the paper's equations, one row and one expert at a time, and against what public code gets wrong."""

import pytest
import torch
from torch import Tensor

from recsys_mtl.experts.ple import PLE, Level, PLEConfig
from tests import dense
from tests.unit.experts import naive

TASKS = ("click", "like", "follow")
IN = 5


def build(config: PLEConfig, in_dim: int = IN) -> PLE:
    torch.manual_seed(0)
    return config.build(in_dim, dense.events(*TASKS))


def levels_of(layer: PLE) -> list[Level]:
    return [level for level in layer.levels if isinstance(level, Level)]


def extract(level: Level, task_GR: list[Tensor], shared_R: Tensor) -> tuple[list[Tensor], Tensor]:
    """One level for one row: g^k mixes S^k, own and shared experts; g^s mixes S^s, all experts of the level."""
    own = [[naive.expert(level.own, k, i, g_R) for i in range(level.own.groups[1])] for k, g_R in enumerate(task_GR)]
    shared = [naive.expert(level.shared, 0, i, shared_R) for i in range(level.shared.groups[1])]
    out = [naive.mixture(level.task_gate, k, g_R, own[k] + shared) for k, g_R in enumerate(task_GR)]
    if level.shared_gate is None:
        return out, shared_R
    everything = [h for experts in own for h in experts] + shared
    return out, naive.mixture(level.shared_gate, 0, shared_R, everything)


def ple(layer: PLE, x_GR: Tensor) -> Tensor:
    """The whole model for one row; representations of the tasks' own meet in their mean for the shared experts."""
    task_GR, shared_R = [x_GR[k if len(x_GR) > 1 else 0] for k in range(len(TASKS))], x_GR.mean(0)
    for level in levels_of(layer):
        task_GR, shared_R = extract(level, task_GR, shared_R)
    return torch.stack(task_GR)


@pytest.mark.parametrize("num_levels", [1, 2, 3])
@pytest.mark.parametrize(("task_experts", "shared_experts"), [(2, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("hidden", [(6,), (6, 4)])
@pytest.mark.parametrize("representations", [1, len(TASKS)])
def test_it_is_the_papers_extraction(
    representations: int, hidden: tuple[int, ...], task_experts: int, shared_experts: int, num_levels: int
) -> None:
    layer = build(
        PLEConfig(num_levels=num_levels, task_experts=task_experts, shared_experts=shared_experts, hidden=hidden)
    )
    x_BGR = torch.randn(2, representations, IN)
    h_BTH = layer(x_BGR)
    assert layer.out_dim == hidden[-1]
    for b in range(len(x_BGR)):
        torch.testing.assert_close(h_BTH[b], ple(layer, x_BGR[b]))


def test_one_level_is_cgc() -> None:
    """y^k reads w^k(x) S^k(x) alone: no shared gate, nothing above."""
    layer = build(PLEConfig(num_levels=1, task_experts=2, shared_experts=1, hidden=(6,)))
    (level,) = levels_of(layer)
    assert level.shared_gate is None
    assert {name.split(".")[2] for name, _ in layer.named_parameters()} == {"own", "shared", "task_gate"}


def test_shared_experts_have_a_number_of_their_own() -> None:
    (first, _) = levels_of(build(PLEConfig(task_experts=2, shared_experts=5)))
    assert first.own.groups == (len(TASKS), 2)
    assert first.shared.groups == (1, 5)
    assert first.task_gate.linear.weight_IKO.shape == (IN, len(TASKS), 2 + 5)


def test_the_shared_gate_reads_all_experts_of_its_level() -> None:
    layer = build(PLEConfig(task_experts=2, shared_experts=1))
    gate = levels_of(layer)[0].shared_gate
    assert gate is not None
    assert gate.readers == ("shared",)
    assert gate.experts == (("click 0", "click 1", "like 0", "like 1", "follow 0", "follow 1", "shared 0"),)


def test_a_task_gate_reads_its_own_and_the_shared_experts() -> None:
    gate = levels_of(build(PLEConfig(task_experts=1, shared_experts=2)))[0].task_gate
    assert gate.readers == TASKS
    assert gate.experts == tuple((f"{task} 0", "shared 0", "shared 1") for task in TASKS)


def test_every_task_trains_the_shared_gate_and_through_it_all_experts_below() -> None:
    layer = build(PLEConfig())
    first = levels_of(layer)[0]
    assert first.shared_gate is not None
    h_BTH = layer(torch.randn(8, 1, IN))
    weights = [first.shared_gate.linear.weight_IKO, *first.own.parameters(), *first.shared.parameters()]
    for k in range(len(TASKS)):
        gradients = torch.autograd.grad(h_BTH[:, k].sum(), weights, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)
        weight_IKO = gradients[1]
        assert (weight_IKO.abs().sum((0, 2)) > 0).all(), "experts of every task of the first level"


def test_a_task_does_not_train_the_last_level_of_another() -> None:
    layer = build(PLEConfig())
    last = levels_of(layer)[-1]
    weights = [*last.own.parameters(), *last.task_gate.parameters()]
    gradients = torch.autograd.grad(layer(torch.randn(8, 1, IN))[:, 1].sum(), weights)
    for gradient in gradients:
        by_task = gradient.transpose(0, -2).flatten(1).abs().sum(1)
        assert (by_task > 0).tolist() == [False, True, False]


def test_a_batch_of_one_row() -> None:
    layer = build(PLEConfig())
    x_B1R = torch.randn(3, 1, IN)
    torch.testing.assert_close(layer(x_B1R[:1]), layer(x_B1R)[:1])


def test_a_level_above_reads_what_the_level_below_says() -> None:
    levels = levels_of(build(PLEConfig(num_levels=3, hidden=(6, 4))))
    assert [level.task_gate.linear.weight_IKO.shape[0] for level in levels] == [IN, 4, 4]
    assert [len(next(level.own.first.parameters())) for level in levels] == [IN, 4, 4]


def test_dropout_acts_in_training_only() -> None:
    layer = build(PLEConfig(dropout=0.5))
    x_B1R = torch.randn(4, 1, IN)
    assert not torch.equal(layer(x_B1R), layer(x_B1R))
    layer.eval()
    assert torch.equal(layer(x_B1R), layer(x_B1R))


def test_pinned_values() -> None:
    layer = build(PLEConfig(task_experts=1, shared_experts=2, hidden=(3,)))
    h_BTH = layer(torch.linspace(-2, 2, 10).view(2, 1, 5))
    expected = [
        [[0.0480, 0.1853, 0.0450], [0.1864, 0.3543, 0.0], [0.0976, 0.1635, 0.0]],
        [[0.0, 0.1761, 0.0], [0.0759, 0.3284, 0.0], [0.0, 0.1590, 0.0]],
    ]
    torch.testing.assert_close(h_BTH, torch.tensor(expected), rtol=0, atol=1e-4)
