"""The task-specific bottom: interests, refinement, and what is left when either is off."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.bottoms.dtrn import DTRN, DTRNConfig
from recsys_mtl.bottoms.shared import SharedConfig
from recsys_mtl.features import FeatureLayout, Features
from recsys_mtl.interests import InterestsConfig
from recsys_mtl.sequences import AttentionConfig, MeanConfig
from tests import dense

ROWS, TASKS = 5, len(dense.TASKS)
NO_SEQUENCES = replace(dense.LAYOUT, sequences=())


def build(config: DTRNConfig, layout: FeatureLayout = dense.LAYOUT) -> DTRN:
    torch.manual_seed(0)
    return config.build(layout, dense.TASKS)


def inputs(bottom: DTRN, features: Features) -> Tensor:
    """What stands side by side, of each row and task ``z_BTR``, put together row by row."""
    rows = []
    for b in range(len(features.dense_BC)):
        fields, numbers = features.fields_BX[b], features.dense_BC[b]
        if bottom.interests is not None:
            r_TSD = bottom.interests(features)[b]
            rows.append([torch.cat([fields, *r_SD, numbers]) for r_SD in r_TSD])
        else:
            assert bottom.encoder is not None
            pooled = [pooled_BD[b] for pooled_BD in bottom.encoder(features)]
            rows.append([torch.cat([fields, *pooled, numbers])] * TASKS)
    return torch.stack([torch.stack(row) for row in rows])


def refined(bottom: DTRN, task: int, z_R: Tensor, dims: list[int]) -> Tensor:
    """Weigh the inputs of one row and task, unit by unit."""
    assert bottom.refinement is not None
    squeeze, excite = bottom.refinement.squeeze, bottom.refinement.excite
    assert squeeze.bias_KO is not None
    assert excite.bias_KO is not None
    hidden = (z_R @ squeeze.weight_IKO[:, task] + squeeze.bias_KO[task]).relu()
    weight_U = 2 / (1 + (-(hidden @ excite.weight_IKO[:, task] + excite.bias_KO[task])).exp())
    return torch.cat([weight * unit for weight, unit in zip(weight_U, torch.split(z_R, dims), strict=True)])


@torch.no_grad()
@pytest.mark.parametrize(("interests", "interest_dims"), [(True, [24, 24]), (False, [12, 4])])
def test_every_unit_is_weighted_for_every_task(interests: bool, interest_dims: list[int]) -> None:
    bottom, features = build(DTRNConfig(interests=interests)), dense.features(ROWS)
    z_BTR = inputs(bottom, features)
    x_BTR = bottom(features)
    assert x_BTR.shape == (ROWS, TASKS, bottom.out_dim)
    dims = [*(field.dim for field in dense.LAYOUT.fields), *interest_dims, 1, 1, 1]
    for b in range(ROWS):
        for t in range(TASKS):
            torch.testing.assert_close(x_BTR[b, t], refined(bottom, t, z_BTR[b, t], dims))


@pytest.mark.parametrize("interests", [True, False])
def test_without_a_last_layer_refinement_changes_nothing(interests: bool) -> None:
    bottom, features = build(DTRNConfig(interests=interests)), dense.features(ROWS)
    assert bottom.refinement is not None
    for parameter in bottom.refinement.excite.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(bottom(features), inputs(bottom, features))


def test_without_refinement_inputs_stand_as_they_are() -> None:
    bottom, features = build(DTRNConfig(refinement=False)), dense.features(ROWS)
    assert torch.equal(bottom(features), inputs(bottom, features))


@pytest.mark.parametrize("sequences", [MeanConfig(), AttentionConfig()])
def test_without_both_it_is_the_shared_bottom(sequences: MeanConfig | AttentionConfig) -> None:
    bottom = build(DTRNConfig(interests=False, refinement=False, sequences=sequences, hidden=(8,)))
    torch.manual_seed(0)
    shared = SharedConfig(sequences=sequences, hidden=(8,)).build(dense.LAYOUT, dense.TASKS)
    features = dense.features(ROWS)
    assert torch.equal(bottom(features), shared(features))


@pytest.mark.parametrize("layout", [NO_SEQUENCES, FeatureLayout((), (), 3)], ids=["fields", "numbers"])
def test_a_data_set_needs_no_sequence_or_field(layout: FeatureLayout) -> None:
    bottom, features = build(DTRNConfig(), layout), dense.features(ROWS, layout)
    x_BTR = bottom(features)
    assert x_BTR.shape == (ROWS, TASKS, layout.fields_dim + 3)
    assert (x_BTR[:, 0] != x_BTR[:, 1]).all()
    assert bottom.out_dim == layout.fields_dim + 3


def test_a_pooling_that_would_have_no_effect_is_refused() -> None:
    assert DTRNConfig(sequences=AttentionConfig()).interests, "the default, as a resolved configuration holds it"
    with pytest.raises(ValueError, match="sequences has no effect while interests is on"):
        DTRNConfig(sequences=MeanConfig())


def test_without_sequences_only_refinement_tells_tasks_apart() -> None:
    bottom = build(DTRNConfig(refinement=False), NO_SEQUENCES)
    assert bottom(dense.features(ROWS, NO_SEQUENCES)).shape == (ROWS, 1, dense.LAYOUT.fields_dim + 3)


def test_hidden_layers_are_the_same_for_all_tasks() -> None:
    bottom, features = build(DTRNConfig(hidden=(8, 6))), dense.features(ROWS)
    first, second = (layer for layer in bottom.mlp if isinstance(layer, nn.Linear))
    x_BTR = build(DTRNConfig())(features)
    assert bottom.out_dim == 6
    for t in range(TASKS):
        torch.testing.assert_close(bottom(features)[:, t], second(first(x_BTR[:, t]).relu()).relu())


@pytest.mark.parametrize("config", [DTRNConfig(), DTRNConfig(num_layers=2, hidden=(8,))], ids=["default", "deep"])
def test_everything_learns_from_the_first_step_the_hyper_network_too(config: DTRNConfig) -> None:
    bottom = build(config)
    x_BTR = bottom(dense.features(20))
    parameters = dict(bottom.named_parameters())
    loss = (x_BTR * torch.randn_like(x_BTR)).sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    assert [name for name, g in zip(parameters, gradients, strict=True) if not g.abs().sum() > 0] == []
    assert {"interests.hyper.task_TH", "interests.hyper.behaviour_SH"} <= set(parameters)


def test_embedded_inputs_are_dropped_in_training_only() -> None:
    bottom, features = build(DTRNConfig(refinement=False, embedding_dropout=0.5)), dense.features(300)
    kept = bottom.eval()(features)
    x_BTR = bottom.train()(features)
    embedded = bottom.out_dim - 3
    assert torch.equal(x_BTR[..., embedded:], kept[..., embedded:])
    dropped = x_BTR[..., :embedded] == 0
    assert dropped[kept[..., :embedded] != 0].float().mean().item() == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(x_BTR[..., :embedded][~dropped], 2 * kept[..., :embedded][~dropped])


def test_sizes_of_the_transformer_are_settings_of_the_bottom() -> None:
    assert set(InterestsConfig.model_fields) < set(DTRNConfig.model_fields)
    bottom = build(DTRNConfig(dim=10, num_heads=5, refinement=False))
    assert bottom.out_dim == dense.LAYOUT.fields_dim + 2 * 10 + 3
