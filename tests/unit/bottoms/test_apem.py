"""Adaptive pattern extraction against loops over its equations, and what each of its switches does."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.bottoms.apem import APEM, APEMConfig, Mixer, Selector
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.features import FeatureLayout, Features
from recsys_mtl.layers import GroupedLinear, GroupedMLP
from recsys_mtl.norms import BatchNormConfig, LayerNormConfig
from recsys_mtl.sequences import MeanConfig
from tests import dense

ROWS, T = 6, len(dense.TASKS)
INPUTS_DIM = dense.LAYOUT.fields_dim + dense.LAYOUT.num_dense + sum(s.dim for s in dense.LAYOUT.sequences)
SWITCHES: list[dict[str, Any]] = [
    {},
    {"excitation": False},
    {"selector": False},
    {"adaptive": False},
    {"keep_inputs": False},
    {"num_layers": 1},
    {"num_layers": 3, "num_heads": 4},
    {"hidden": (6, 5)},
    {"hidden": (6,), "keep_inputs": False},
    {"hidden": (6,), "selector": False},
]
every_switch = pytest.mark.parametrize("switches", SWITCHES, ids=str)


def build(layout: FeatureLayout = dense.LAYOUT, **settings: Any) -> APEM:
    torch.manual_seed(0)
    return APEMConfig(**{"dim": 8, "num_patterns": 4, "dense_tokens": 2, **settings}).build(layout, dense.TASKS)


def selector_of(bottom: APEM) -> Selector:
    assert bottom.selector is not None
    return bottom.selector


def inputs(bottom: APEM, features: Features) -> tuple[Tensor, Tensor]:
    """What a bottom reads, embedded and dense."""
    return torch.cat([features.fields_BX, *bottom.encoder(features)], dim=1), features.dense_BC


def patterns(bottom: APEM, features: Features) -> Tensor:
    return bottom.transformer(bottom.tokens(*inputs(bottom, features)))  # type: ignore[no-any-return]


@torch.no_grad()
def test_every_field_and_sequence_has_a_token_and_numbers_share_some() -> None:
    bottom, features = build(sequences=MeanConfig()), dense.features(ROWS)
    norm = bottom.tokens.norm
    nn.init.normal_(norm.weight_KH)
    nn.init.normal_(norm.bias_KH)
    token_BND = bottom.tokens(*inputs(bottom, features))
    slices = dense.LAYOUT.slices()
    watched, liked = bottom.encoder(features)
    # By width, then in the layout's order: two features have four numbers.
    values = [features.fields_BX[:, slices[name]] for name in ("hour", "item", "user", "author")] + [watched]
    values.insert(2, liked)
    weights: list[Tensor] = []
    for linear, members in zip(bottom.tokens.maps, bottom.tokens.places, strict=True):
        assert isinstance(linear, GroupedLinear)
        weights += [linear.weight_IKO[:, k] for k in range(len(members))]
    assert bottom.tokens.dense is not None
    weights += [weight_DC.T for weight_DC in bottom.tokens.dense.weight.view(2, 8, -1)]
    values += [features.dense_BC] * 2
    assert token_BND.shape == (ROWS, len(values), 8)
    for n, (value_BX, weight_XD) in enumerate(zip(values, weights, strict=True)):
        for b in range(ROWS):
            raw_D = value_BX[b] @ weight_XD
            deviation_D = raw_D - raw_D.mean()
            unit_D = deviation_D / (deviation_D.square().mean() + 1e-5).sqrt()
            torch.testing.assert_close(token_BND[b, n], unit_D * norm.weight_KH[n] + norm.bias_KH[n])


def test_small_embeddings_make_patterns_of_each_impression_too() -> None:
    """Tables start small: a token that was mostly its bias would be read alike from every row."""
    bottom, features = build(sequences=MeanConfig()), dense.features(64)
    small = replace(
        features, fields_BX=features.fields_BX / 20, sequences=tuple(e_ND / 20 for e_ND in features.sequences)
    )
    spread = [patterns(bottom, given).std(0).mean().item() for given in (features, small)]
    assert spread[1] > 0.8 * spread[0] > 0.05


def test_tokens_of_a_layer_have_read_the_patterns_of_the_one_before() -> None:
    bottom = build(num_layers=3)
    token_BND = bottom.tokens(*inputs(bottom, dense.features(ROWS)))
    expected = token_BND
    for layer in range(2):
        expected = bottom.transformer.rewrites[layer](expected, bottom.transformer.patterns[layer](expected))
    torch.testing.assert_close(bottom.transformer(token_BND), bottom.transformer.patterns[2](expected))
    assert len(bottom.transformer.rewrites) == 2


@torch.no_grad()
@pytest.mark.parametrize("adaptive", [True, False])
def test_each_task_selects_by_a_vector_of_its_own(adaptive: bool) -> None:
    bottom = build(adaptive=adaptive)
    selector, pattern_BMD = selector_of(bottom), patterns(bottom, dense.features(ROWS))
    z_BTD, weights_BTM = selector(pattern_BMD), selector.weights(pattern_BMD)
    torch.testing.assert_close(weights_BTM.sum(2), torch.ones(ROWS, T))
    for b in range(ROWS):
        mean_D = sum(pattern_BMD[b, m] for m in range(4)) / 4
        assert isinstance(mean_D, Tensor)
        for t in range(T):
            q_D = selector.indicator_TD[t] + (mlp(selector, mean_D, t) if adaptive else 0)
            exponentials = [math.exp(q_D @ pattern_BMD[b, m] / math.sqrt(8)) for m in range(4)]
            for m in range(4):
                assert weights_BTM[b, t, m].item() == pytest.approx(exponentials[m] / sum(exponentials), rel=1e-4)
            mixed = [weights_BTM[b, t, m] * pattern_BMD[b, m] for m in range(4)]
            torch.testing.assert_close(z_BTD[b, t], torch.stack(mixed).sum(0))


def mlp(selector: Selector, mean_D: Tensor, task: int) -> Tensor:
    """Run one task's MLP on one row."""
    assert selector.adapt is not None
    perceptron, last = selector.adapt
    assert isinstance(perceptron, GroupedMLP)
    first = perceptron.layers[0]
    assert isinstance(first, GroupedLinear)
    assert isinstance(last, GroupedLinear)
    assert first.bias_KO is not None
    assert last.bias_KO is not None
    h_D = torch.relu(mean_D @ first.weight_IKO[:, task] + first.bias_KO[task])
    return h_D @ last.weight_IKO[:, task] + last.bias_KO[task]


def test_what_a_task_selects_stands_beside_the_inputs() -> None:
    bottom, features = build(), dense.features(ROWS)
    x_BGR = bottom(features)
    assert x_BGR.shape == (ROWS, T, bottom.out_dim)
    z_BTD = selector_of(bottom)(patterns(bottom, features))
    for t in range(T):
        assert torch.equal(x_BGR[:, t], torch.cat([*inputs(bottom, features), z_BTD[:, t]], dim=1))


def test_patterns_alone_are_dim_numbers() -> None:
    bottom, features = build(keep_inputs=False), dense.features(ROWS)
    assert bottom.out_dim == 8
    assert torch.equal(bottom(features), selector_of(bottom)(patterns(bottom, features)))


def test_without_a_selector_all_tasks_read_the_mean_pattern() -> None:
    bottom, indifferent = build(selector=False, hidden=(6,)), build(adaptive=False, hidden=(6,))
    nn.init.zeros_(selector_of(indifferent).indicator_TD)
    bottom.load_state_dict({name: w for name, w in indifferent.state_dict().items() if "selector" not in name})
    features = dense.features(ROWS)
    assert bottom(features).shape == (ROWS, 1, 6)
    torch.testing.assert_close(bottom(features).expand(-1, T, -1), indifferent(features))


@pytest.mark.parametrize("style", [{}, {"norm": LayerNormConfig()}, {"norm": BatchNormConfig()}], ids=str)
@pytest.mark.parametrize("keep_inputs", [True, False])
def test_the_mlp_reads_inputs_and_selection_side_by_side(keep_inputs: bool, style: dict[str, Any]) -> None:
    bottom, features = build(hidden=(6, 5), keep_inputs=keep_inputs, **style), dense.features(ROWS)
    mixer = bottom.mixer
    assert isinstance(mixer, Mixer)
    concatenated = nn.Linear(8 + INPUTS_DIM * keep_inputs, 6)
    with torch.no_grad():
        from_inputs = [mixer.from_inputs.weight] if mixer.from_inputs is not None else []
        concatenated.weight.copy_(torch.cat([*from_inputs, mixer.from_selected.weight], dim=1))
        concatenated.bias.copy_(mixer.from_selected.bias)
    z_BTD = selector_of(bottom)(patterns(bottom, features))
    x_BX = torch.cat(inputs(bottom, features), dim=1)
    rows = [torch.cat([x_BX[b], z_BTD[b, t]] if keep_inputs else [z_BTD[b, t]]) for b in range(ROWS) for t in range(T)]
    h_NH = mixer.rest(concatenated(torch.stack(rows)))
    torch.testing.assert_close(bottom(features), h_NH.view(ROWS, T, 5), rtol=1e-4, atol=1e-5)
    assert bottom.out_dim == 5


@every_switch
def test_every_parameter_is_learnt(switches: dict[str, Any]) -> None:
    bottom = build(**switches)
    x_BGR = bottom(dense.features(64))
    assert x_BGR.shape == (64, 1 if switches.get("selector") is False else T, bottom.out_dim)
    parameters = dict(bottom.named_parameters())
    loss = (x_BGR * torch.randn_like(x_BGR)).sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    scale = max(gradient.abs().max() for gradient in gradients)
    # What a softmax or a norm takes away again would have gradients of rounding errors, not of zero.
    assert [n for n, g in zip(parameters, gradients, strict=True) if not g.abs().max() > 1e-6 * scale] == []


@every_switch
@torch.no_grad()
def test_rows_are_independent(switches: dict[str, Any]) -> None:
    bottom, features = build(**switches).eval(), dense.features(ROWS)
    other = replace(features, fields_BX=features.fields_BX.clone(), dense_BC=features.dense_BC.clone())
    other.fields_BX[1:] += 1
    other.dense_BC[1:] -= 1
    torch.testing.assert_close(bottom(other)[0], bottom(features)[0])
    assert (bottom(other)[1:] - bottom(features)[1:]).abs().flatten(1).amax(1).min() > 1e-4


def test_the_dense_inputs_reach_the_patterns() -> None:
    bottom, features = build(), dense.features(ROWS)
    other = replace(features, dense_BC=features.dense_BC + 1)
    assert (patterns(bottom, other) - patterns(bottom, features)).abs().amax((1, 2)).min() > 1e-3


@pytest.mark.parametrize(
    ("layout", "num_tokens"),
    [
        (FeatureLayout(dense.LAYOUT.fields, (), 0), 4),
        (FeatureLayout((), (), 3), 2),
        (FeatureLayout(dense.LAYOUT.fields, dense.LAYOUT.sequences, 0), 6),
    ],
    ids=["fields", "numbers", "no-numbers"],
)
def test_a_data_set_needs_no_sequence_number_or_field(layout: FeatureLayout, num_tokens: int) -> None:
    bottom, features = build(layout), dense.features(ROWS, layout)
    assert bottom.tokens(*inputs(bottom, features)).shape == (ROWS, num_tokens, 8)
    assert bottom(features).shape == (ROWS, T, bottom.out_dim)


def test_embeddings_are_dropped_in_training_for_tokens_and_output_alike() -> None:
    layout = FeatureLayout(dense.LAYOUT.fields, (), 3)
    bottom, features = build(layout, embedding_dropout=0.5), dense.features(300, layout)
    read: list[Tensor] = []
    bottom.tokens.register_forward_pre_hook(lambda _tokens, given: read.extend(given))
    x_BGR = bottom(features)
    assert (read[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(read[1], features.dense_BC)
    assert torch.equal(x_BGR[:, 0, : read[0].shape[1]], read[0])
    bottom.eval()(features)
    assert torch.equal(read[2], features.fields_BX)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^num_heads: 3 does not divide dim, which is 32$"):
        validate(APEMConfig, {"num_heads": 3})
