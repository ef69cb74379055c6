"""Grouped layers against loops over their maps, one row at a time."""

import math

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.layers import ACTIVATIONS, MLP, Activation, ExpertBank, Gate, GroupedLinear, GroupedMLP, LayerStyle
from recsys_mtl.norms import BatchNorm, BatchNormConfig, GroupedLayerNorm, LayerNormConfig, NormConfig

ROWS, IN = 5, 4


def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    seeded()


def linear(layer: GroupedLinear, x_I: Tensor, k: int) -> Tensor:
    """One map of one row, number by number."""
    weight_IKO = layer.weight_IKO
    y_O = [sum(x_I[i] * weight_IKO[i, k, o] for i in range(len(x_I))) for o in range(weight_IKO.shape[2])]
    return torch.stack([torch.as_tensor(y) for y in y_O]) + (0 if layer.bias_KO is None else layer.bias_KO[k])


def mlp(module: GroupedMLP, x_I: Tensor, k: int) -> Tensor:
    """One perceptron of one row."""
    for layer in module.layers:
        x_I = linear(layer, x_I, k) if isinstance(layer, GroupedLinear) else layer(x_I)
    return x_I


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inputs", [1, 3])
def test_a_grouped_linear_is_a_loop_over_its_maps(inputs: int, bias: bool) -> None:
    layer = GroupedLinear(3, IN, 2, bias=bias)
    x_BGI = torch.randn(ROWS, inputs, IN)
    y_BKO = layer(x_BGI)
    assert y_BKO.shape == (ROWS, 3, 2)
    for b in range(ROWS):
        for k in range(3):
            torch.testing.assert_close(y_BKO[b, k], linear(layer, x_BGI[b, k if inputs > 1 else 0], k))


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_do_not_depend_on_whether_the_input_is_shared(bias: bool) -> None:
    layer = GroupedLinear(3, IN, 2, bias=bias)
    x_B1I = torch.randn(ROWS, 1, IN, requires_grad=True)
    weights = torch.randn(ROWS, 3, 2)
    inputs = [x_B1I, *layer.parameters()]
    shared = torch.autograd.grad((layer(x_B1I) * weights).sum(), inputs)
    own = torch.autograd.grad((layer(x_B1I.expand(-1, 3, -1)) * weights).sum(), inputs)
    torch.testing.assert_close(shared, own)


def test_weights_start_like_those_of_a_linear_layer() -> None:
    layer, reference = GroupedLinear(50, 400, 20), nn.Linear(400, 1000)
    for mine, theirs in ((layer.weight_IKO, reference.weight), (layer.bias_KO, reference.bias)):
        assert mine is not None
        assert mine.abs().max() <= 1 / math.sqrt(400)
        assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.05)


@pytest.mark.parametrize(("activation", "function"), [("relu", torch.relu), ("tanh", torch.tanh)])
@pytest.mark.parametrize("inputs", [1, 3])
def test_a_grouped_mlp_is_a_loop_over_its_perceptrons(inputs: int, activation: Activation, function: object) -> None:
    module = GroupedMLP(3, IN, (6, 2), LayerStyle(activation=activation))
    assert callable(function)
    x_BGI = torch.randn(ROWS, inputs, IN)
    h_BKH = module(x_BGI)
    assert module.out_dim == 2
    first, _, second, _ = module.layers
    assert isinstance(first, GroupedLinear)
    assert isinstance(second, GroupedLinear)
    for b in range(ROWS):
        for k in range(3):
            hidden = function(linear(first, x_BGI[b, k if inputs > 1 else 0], k))
            torch.testing.assert_close(h_BKH[b, k], function(linear(second, hidden, k)))


def test_a_perceptron_without_layers_hands_its_input_on() -> None:
    x_BGI = torch.randn(ROWS, 3, IN)
    assert GroupedMLP(3, IN, ()).out_dim == MLP(IN, ()).out_dim == IN
    assert torch.equal(GroupedMLP(3, IN, ())(x_BGI), x_BGI)
    assert torch.equal(MLP(IN, ())(x_BGI), x_BGI)


def test_a_plain_mlp_is_linear_activation_linear_activation() -> None:
    module = MLP(IN, (6, 2), LayerStyle(activation="silu"))
    x_BI = torch.randn(ROWS, IN)
    first, _, second, _ = module
    silu = nn.functional.silu
    torch.testing.assert_close(module(x_BI), silu(second(silu(first(x_BI)))))
    assert module.out_dim == 2


@pytest.mark.parametrize(
    "module", [GroupedMLP(1, IN, (64,), LayerStyle(dropout=0.5)), MLP(IN, (64,), LayerStyle(dropout=0.5))]
)
def test_dropout_acts_after_every_layer_in_training_only(module: nn.Module) -> None:
    x_BGI = torch.randn(200, 1, IN)
    kept = module.eval()(x_BGI)
    assert torch.equal(module(x_BGI), kept)
    dropped = module.train()(x_BGI)
    alive = kept != 0
    assert (dropped[alive] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (dropped[alive] / kept[alive]).mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("hidden", [(6,), (6, 3), (6, 3, 2)])
@pytest.mark.parametrize(("groups", "inputs"), [(3, 1), (3, 3), (1, 1)])
def test_a_bank_of_experts_is_a_loop_over_groups_and_experts(groups: int, inputs: int, hidden: tuple[int, ...]) -> None:
    per_group = 2
    bank = ExpertBank((("one", "other"),) * groups, IN, hidden)
    x_BGR = torch.randn(ROWS, inputs, IN)
    h_BGEH = bank(x_BGR)
    assert h_BGEH.shape == (ROWS, groups, per_group, hidden[-1])
    for b in range(ROWS):
        for g in range(groups):
            first_J = mlp(bank.first, x_BGR[b, g if inputs > 1 else 0], g).view(per_group, hidden[0])
            for e in range(per_group):
                torch.testing.assert_close(h_BGEH[b, g, e], mlp(bank.rest, first_J[e], g * per_group + e))


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_gate_is_a_softmax_of_one_linear_map(inputs: int) -> None:
    gate = Gate(IN, ("click", "like"), (("a", "b", "c"), ("a", "b", "d")))
    x_BGR = torch.randn(ROWS, inputs, IN)
    weights_BTE = gate(x_BGR)
    assert gate.linear.bias_KO is None
    torch.testing.assert_close(weights_BTE.sum(2), torch.ones(ROWS, 2))
    for b in range(ROWS):
        for t in range(2):
            exponentials = linear(gate.linear, x_BGR[b, t if inputs > 1 else 0], t).exp()
            torch.testing.assert_close(weights_BTE[b, t], exponentials / exponentials.sum())


@pytest.mark.parametrize("experts", [(("a", "b"),), (("a", "b"), ("a",))])
def test_a_gate_refuses_names_that_do_not_fit(experts: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(AssertionError):
        Gate(IN, ("click", "like"), experts)


def test_dropped_weights_of_a_gate_are_zero_in_training_only() -> None:
    gate = Gate(IN, ("click",), (tuple("abcdefgh"),), dropout=0.25)
    x_BGR = torch.randn(500, 1, IN)
    dropped_BTE = gate(x_BGR)
    kept_BTE = gate.eval()(x_BGR)
    torch.testing.assert_close(kept_BTE.sum(2), torch.ones(500, 1))
    alive = dropped_BTE != 0
    assert (~alive).float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(dropped_BTE[alive], kept_BTE[alive] / 0.75)
    plain = Gate(IN, ("click",), (tuple("abcdefgh"),))
    assert torch.equal(plain(x_BGR), plain.eval()(x_BGR))


NORMS: list[NormConfig] = [BatchNormConfig(momentum=0.5, eps=1e-2), LayerNormConfig(eps=1e-2)]


def kinds(modules: list[nn.Module]) -> list[type[nn.Module]]:
    return [type(module) for module in modules]


def test_a_style_is_relu_without_a_normalisation_and_silu_after_one() -> None:
    assert kinds(LayerStyle().after_linear(2, 3)) == [nn.ReLU]
    assert kinds(LayerStyle(norm=NORMS[0]).after_linear(2, 3)) == [BatchNorm, nn.SiLU]
    assert kinds(LayerStyle(norm=NORMS[1], dropout=0.1).after_linear(2, 3)) == [GroupedLayerNorm, nn.SiLU, nn.Dropout]


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_a_named_activation_is_taken_with_and_without_a_normalisation(activation: Activation) -> None:
    for style in (LayerStyle(activation=activation), LayerStyle(activation=activation, norm=NORMS[1])):
        assert type(style.after_linear(1, 3)[-1]) is ACTIVATIONS[activation]


def normalised(x_BH: Tensor, norm: NormConfig) -> Tensor:
    """Mean 0 and deviation 1: of every unit over rows, or of every row's vector; scale and shift are 1 and 0 still."""
    axis = 0 if isinstance(norm, BatchNormConfig) else 1
    mean, var = x_BH.mean(axis, keepdim=True), x_BH.var(axis, correction=0, keepdim=True)
    return (x_BH - mean) / (var + 1e-2).sqrt()


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.kind)
@pytest.mark.parametrize("inputs", [1, 3])
def test_each_perceptron_is_normalised_for_itself_after_every_linear_map(inputs: int, norm: NormConfig) -> None:
    module = GroupedMLP(3, IN, (6, 2), LayerStyle(norm=norm))
    x_BGI = 5 * torch.randn(ROWS, inputs, IN)
    h_BKH = module(x_BGI)
    linears = [layer for layer in module.layers if isinstance(layer, GroupedLinear)]
    for k in range(3):
        h_BI = x_BGI[:, k if inputs > 1 else 0]
        for layer in linears:
            h_BI = nn.functional.silu(normalised(torch.stack([linear(layer, x_I, k) for x_I in h_BI]), norm))
        torch.testing.assert_close(h_BKH[:, k], h_BI, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.kind)
@pytest.mark.parametrize("hidden", [(6,), (6, 3)])
def test_each_expert_of_a_bank_is_normalised_for_itself(hidden: tuple[int, ...], norm: NormConfig) -> None:
    groups, per_group = 2, 3
    bank = ExpertBank((("a", "b", "c"),) * groups, IN, hidden, LayerStyle(norm=norm))
    x_BGR = 5 * torch.randn(ROWS, groups, IN)
    h_BGEH = bank(x_BGR)
    first, rest = bank.first.layers[0], [m for m in bank.rest.layers if isinstance(m, GroupedLinear)]
    assert isinstance(first, GroupedLinear)
    for g in range(groups):
        maps_BEH = torch.stack([linear(first, x_R, g) for x_R in x_BGR[:, g]]).view(ROWS, per_group, hidden[0])
        for e in range(per_group):
            h_BH = nn.functional.silu(normalised(maps_BEH[:, e], norm))
            for layer in rest:
                mapped_BH = torch.stack([linear(layer, h_H, g * per_group + e) for h_H in h_BH])
                h_BH = nn.functional.silu(normalised(mapped_BH, norm))
            torch.testing.assert_close(h_BGEH[:, g, e], h_BH, rtol=1e-4, atol=1e-5)


def test_a_plain_mlp_is_normalised_too() -> None:
    module = MLP(IN, (6,), LayerStyle(norm=NORMS[1], activation="tanh"))
    x_BI = torch.randn(ROWS, IN)
    torch.testing.assert_close(module(x_BI), normalised(module[0](x_BI), NORMS[1]).tanh())
