from itertools import product

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.experts.home import FeatureGate, HoME, HoMEConfig
from recsys_mtl.layers import ExpertBank, Gate, GroupedLinear, SelfGate
from recsys_mtl.norms import BatchNorm, BatchNormConfig, NoNormConfig
from recsys_mtl.tasks import BinaryTask, Task
from tests.unit.experts import naive

TASKS: tuple[Task, ...] = (
    BinaryTask(name="click", group="watch"),
    BinaryTask(name="like", group="act"),
    BinaryTask(name="view", group="watch"),
)
GROUPS = ("act", "watch")
MEMBERS = {"act": [1], "watch": [0, 2]}
IN, ROWS = 5, 4


def build(config: HoMEConfig | None = None, *, seed: int = 0) -> HoME:
    """A layer in evaluation whose batch normalisations have seen something."""
    torch.manual_seed(seed)
    layer = (config or HoMEConfig()).build(IN, TASKS).eval()
    for module in layer.modules():
        if isinstance(module, BatchNorm):
            for tensor in (module.weight_J.data, module.bias_J.data, module.running_mean_J):
                tensor.normal_()
            module.running_var_J.uniform_(0.5, 2)
    return layer


def first_layer(bank: ExpertBank) -> GroupedLinear:
    linear = bank.first.layers[0]
    assert isinstance(linear, GroupedLinear)
    return linear


def expert(bank: ExpertBank, group: int, index: int, x_R: Tensor) -> Tensor:
    """Swish(BatchNorm(x W)) of one expert with one hidden layer, or ReLU(x W + b) without normalisation."""
    linear, (_, *rest) = first_layer(bank), bank.first.layers
    assert not bank.rest.layers
    per_group = bank.groups[1]
    width = linear.weight_IKO.shape[2] // per_group
    part = slice(index * width, (index + 1) * width)
    z = x_R @ linear.weight_IKO[:, group, part]
    if linear.bias_KO is not None:
        z = z + linear.bias_KO[group, part]
    assert (linear.bias_KO is None) == isinstance(rest[0], BatchNorm)
    if not isinstance(rest[0], BatchNorm):
        return torch.relu(z)
    norm, units = rest[0], slice((group * per_group + index) * width, (group * per_group + index + 1) * width)
    normal = (z - norm.running_mean_J[units]) / (norm.running_var_J[units] + norm.eps).sqrt()
    normal = normal * norm.weight_J[units] + norm.bias_J[units]
    return normal * normal.sigmoid()


def view(gate: nn.Module, group: int, v_R: Tensor) -> Tensor:
    """v ⊙ Σ_l softmax(W v)_l 2 σ(v B_l A_l)."""
    if isinstance(gate, nn.Identity):
        return v_R
    assert isinstance(gate, FeatureGate)
    rank = gate.up.weight_IKO.shape[0]
    weights = [1.0]
    if gate.mix is not None:
        weights = (v_R @ gate.mix.weight_IKO[:, group]).softmax(0).tolist()
    total = torch.zeros_like(v_R)
    for lora, weight in enumerate(weights):
        b_RD = gate.down.weight_IKO[:, group, lora * rank : (lora + 1) * rank]
        a_DR = gate.up.weight_IKO[:, group * gate.num_loras + lora]
        total += weight * 2 * torch.sigmoid(v_R @ b_RD @ a_DR)
    return v_R * total


def own(gate: nn.Module | None, group: int, v_R: Tensor, experts: list[Tensor]) -> Tensor:
    """The self gate: a sigmoid over one expert, a softmax over several."""
    if gate is None:
        return torch.zeros_like(experts[0])
    assert isinstance(gate, SelfGate)
    logits_E = v_R @ gate.linear.weight_IKO[:, group]
    weights_E = logits_E.sigmoid() if len(experts) == 1 else logits_E.softmax(0)
    return sum((w * h for w, h in zip(weights_E, experts, strict=True)), torch.zeros_like(experts[0]))


def bank_of(bank: ExpertBank, group: int, x_R: Tensor) -> list[Tensor]:
    return [expert(bank, group, index, x_R) for index in range(bank.groups[1])]


def naive_home(layer: HoME, x_GR: Tensor, *, mask: bool) -> Tensor:
    """One row through the paper's equations (T, H)."""
    one = len(x_GR) == 1
    v = {name: x_GR[0] if one else x_GR[MEMBERS[name]].mean(0) for name in GROUPS}
    v_shared = x_GR[0] if one else x_GR.mean(0)
    meta, task = layer.meta, layer.task
    shared = bank_of(meta.shared_bank, 0, view(meta.shared_views, 0, v_shared))
    mine = {name: bank_of(meta.group_bank, c, view(meta.group_views, c, v[name])) for c, name in enumerate(GROUPS)}
    pool = [h for name in GROUPS for h in mine[name]] + shared
    z = {}
    for c, name in enumerate(GROUPS):
        z[name] = naive.mixture(meta.group_gate, c, v[name], mine[name] + shared if mask else pool)
        z[name] = z[name] + own(meta.group_self, c, v[name], mine[name])
    z_shared = naive.mixture(meta.shared_gate, 0, v_shared, pool) + own(meta.shared_self, 0, v_shared, shared)
    shared = bank_of(task.shared_bank, 0, view(task.shared_views, 0, z_shared))
    ours = {name: bank_of(task.group_bank, c, view(task.group_views, c, z[name])) for c, name in enumerate(GROUPS)}
    alone = [bank_of(task.own_bank, t, view(task.own_views, t, z[TASKS[t].group])) for t in range(len(TASKS))]
    pool = [h for each in alone for h in each] + [h for name in GROUPS for h in ours[name]] + shared
    rows = []
    for t, each in enumerate(TASKS):
        seen = alone[t] + ours[each.group] + shared if mask else pool
        mixed = naive.mixture(task.gate, t, torch.cat([z[each.group], z_shared]), seen)
        rows.append(mixed + own(task.own_self, t, z[each.group], alone[t]))
    return torch.stack(rows)


SWITCHES = [
    HoMEConfig(hidden=(3,)),
    HoMEConfig(hidden=(3,), task_experts=2, group_experts=1, shared_experts=3, feature_loras=1, feature_rank=2),
    HoMEConfig(hidden=(3,), feature_gates=()),
    HoMEConfig(hidden=(3,), feature_gates=("meta",), self_gates=("task",)),
    HoMEConfig(hidden=(3,), self_gates=()),
    HoMEConfig(hidden=(3,), mask=False),
    HoMEConfig(hidden=(3,), norm=NoNormConfig()),
]


@torch.no_grad()
@pytest.mark.parametrize(("config", "representations"), list(product(SWITCHES, [1, len(TASKS)])))
def test_the_layer_is_the_equations_of_the_paper(config: HoMEConfig, representations: int) -> None:
    layer = build(config)
    x_BGR = torch.randn(ROWS, representations, IN)
    h_BTH = layer(x_BGR)
    assert h_BTH.shape == (ROWS, len(TASKS), layer.out_dim) == (ROWS, 3, 3)
    for b in range(ROWS):
        torch.testing.assert_close(h_BTH[b], naive_home(layer, x_BGR[b], mask=config.mask), rtol=1e-4, atol=1e-5)


def test_a_feature_gate_of_zeros_is_the_identity() -> None:
    gate = FeatureGate(2, IN, rank=3, num_loras=2)
    nn.init.zeros_(gate.up.weight_IKO)
    v_BGR = torch.randn(ROWS, 2, IN)
    torch.testing.assert_close(gate(v_BGR), v_BGR)


def test_a_view_lies_between_nothing_and_twice_the_input() -> None:
    gate = FeatureGate(2, IN, rank=3, num_loras=2)
    v_BGR = 50 * torch.randn(ROWS, 1, IN)
    ratio_BKR = gate(v_BGR) / v_BGR
    assert ratio_BKR.shape == (ROWS, 2, IN)
    assert (ratio_BKR >= 0).all()
    assert (ratio_BKR <= 2).all()
    assert ratio_BKR.std() > 0.1


def gradients(layer: HoME, task: int) -> dict[str, Tensor]:
    """Gradients of one task's output by parameter."""
    parameters = dict(layer.named_parameters())
    target = layer(torch.randn(ROWS, 1, IN))[:, task].square().sum()
    found = torch.autograd.grad(target, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize(("mask", "hidden"), [(True, True), (False, False)])
def test_the_mask_hides_the_experts_of_other_tasks_and_groups(mask: bool, hidden: bool) -> None:
    layer = build(HoMEConfig(mask=mask))
    found = gradients(layer, 1)
    for bank, others in (("task.own_bank", [0, 2]), ("task.group_bank", [1])):
        gradient_IKO = found[f"{bank}.first.layers.0.weight_IKO"]
        assert all((gradient_IKO[:, k].abs().sum() == 0) == hidden for k in others)
        assert gradient_IKO[:, [k for k in range(gradient_IKO.shape[1]) if k not in others]].abs().sum() > 0


def test_self_gates_teach_own_experts_whatever_the_main_gate_says() -> None:
    layer = build()
    with torch.no_grad():  # the main gate of every task looks away from its own expert
        layer.task.gate.linear.weight_IKO.zero_()
        layer.task.gate.linear.weight_IKO[:, :, 0] = -1e4
    torch.manual_seed(1)
    z_BCH, shared_B1H = torch.rand(ROWS, 2, layer.out_dim) + 1, torch.rand(ROWS, 1, layer.out_dim) + 1
    h_BTH = layer.task(z_BCH, shared_B1H, layer.group_T)
    (gradient,) = torch.autograd.grad(h_BTH.sum(), [first_layer(layer.task.own_bank).weight_IKO])
    assert (gradient.abs().sum((0, 2)) > 0).all()


def test_gates_name_what_they_read() -> None:
    layer = build(HoMEConfig(shared_experts=1, group_experts=1))
    assert layer.meta.group_gate.readers == GROUPS
    assert layer.meta.group_gate.experts == (("act 0", "shared 0"), ("watch 0", "shared 0"))
    assert layer.meta.shared_gate.experts == (("act 0", "watch 0", "shared 0"),)
    assert layer.task.gate.experts == (
        ("click 0", "watch 0", "shared 0"),
        ("like 0", "act 0", "shared 0"),
        ("view 0", "watch 0", "shared 0"),
    )


@torch.no_grad()
def test_a_task_may_be_called_like_its_group_or_like_the_shared_part() -> None:
    names = ("watch", "act", "shared")
    twins = tuple(BinaryTask(name=name, group=task.group) for name, task in zip(names, TASKS, strict=True))
    layer, other = build(), HoMEConfig().build(IN, twins).eval()
    other.load_state_dict(layer.state_dict())
    x_BGR = torch.randn(ROWS, 1, IN)
    assert torch.equal(other(x_BGR), layer(x_BGR))


def test_one_group_and_one_task_are_enough() -> None:
    layer = HoMEConfig().build(IN, (BinaryTask(name="click"),))
    assert layer(torch.randn(ROWS, 1, IN)).shape == (ROWS, 1, 64)


def test_experts_come_out_at_the_same_scale_whatever_their_weights() -> None:
    """What the normalisation is there for: a gate compares like with like."""
    layer = build(HoMEConfig(norm=BatchNormConfig(momentum=1.0), feature_gates=()))
    with torch.no_grad():
        for module in layer.modules():
            if isinstance(module, BatchNorm):
                module.weight_J.fill_(1)
                module.bias_J.zero_()
        first_layer(layer.meta.group_bank).weight_IKO[:, 0] *= 100
    layer.train()
    h_BGEH = layer.meta.group_bank(torch.randn(500, 1, IN))
    scales_GE = h_BGEH.std((0, 3))
    assert scales_GE.max() / scales_GE.min() < 1.2


def test_gate_dropout_acts_in_training_only() -> None:
    layer = build(HoMEConfig(gate_dropout=0.5))
    gates = [module for module in layer.modules() if isinstance(module, Gate)]
    x_BGR = torch.randn(50, 1, IN)
    assert all(gate.dropout.p == 0.5 for gate in gates)
    assert torch.equal(layer(x_BGR), layer(x_BGR))
    torch.testing.assert_close(gates[0](x_BGR).sum(2), torch.ones(50, len(GROUPS)))
    assert (gates[0].train()(x_BGR) == 0).any()
