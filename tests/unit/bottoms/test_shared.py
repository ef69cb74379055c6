"""The shared bottom: everything side by side, then an MLP."""

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.bottoms.shared import SharedBottom, SharedConfig
from recsys_mtl.features import FeatureLayout
from recsys_mtl.sequences import AttentionConfig, MeanConfig
from tests import dense


def build(config: SharedConfig, layout: FeatureLayout = dense.LAYOUT) -> SharedBottom:
    torch.manual_seed(0)
    return config.build(layout, dense.TASKS)


@pytest.mark.parametrize("sequences", [MeanConfig(), AttentionConfig()])
def test_inputs_stand_side_by_side(sequences: MeanConfig | AttentionConfig) -> None:
    bottom = build(SharedConfig(sequences=sequences))
    features = dense.features(4)
    x_BGR = bottom(features)
    assert x_BGR.shape == (4, 1, bottom.out_dim)
    for b in range(4):
        pooled = [sequence_BD[b] for sequence_BD in bottom.encoder(features)]
        assert torch.equal(x_BGR[b, 0], torch.cat([features.fields_BX[b], *pooled, features.dense_BC[b]]))


def test_hidden_layers_follow() -> None:
    bottom = build(SharedConfig(hidden=(8, 6)))
    features = dense.features(4)
    first, second = (layer for layer in bottom.mlp if isinstance(layer, nn.Linear))
    x_BR = build(SharedConfig())(features).squeeze(1)
    torch.testing.assert_close(bottom(features).squeeze(1), second(first(x_BR).relu()).relu())
    assert bottom.out_dim == 6


def test_it_is_the_same_for_any_tasks() -> None:
    torch.manual_seed(0)
    one = SharedConfig(hidden=(8,)).build(dense.LAYOUT, dense.events("click"))
    assert torch.equal(one(dense.features(4)), build(SharedConfig(hidden=(8,)))(dense.features(4)))


@pytest.mark.parametrize(
    "layout",
    [
        FeatureLayout(dense.LAYOUT.fields, (), 0),
        FeatureLayout((), (), 3),
        FeatureLayout(dense.LAYOUT.fields, dense.LAYOUT.sequences, 0),
    ],
    ids=["fields", "numbers", "no-numbers"],
)
def test_a_data_set_needs_no_sequence_number_or_field(layout: FeatureLayout) -> None:
    bottom = build(SharedConfig(), layout)
    x_BGR = bottom(dense.features(4, layout))
    width = layout.fields_dim + layout.num_dense + sum(sequence.dim for sequence in layout.sequences)
    assert x_BGR.shape == (4, 1, width)
    assert bottom.out_dim == width


def test_embeddings_and_hidden_layers_are_dropped_in_training_only() -> None:
    layout = FeatureLayout(dense.LAYOUT.fields, (), 3)
    bottom, features = (
        build(SharedConfig(hidden=(64,), dropout=0.5, embedding_dropout=0.5), layout),
        dense.features(300, layout),
    )
    read: list[Tensor] = []
    bottom.mlp.register_forward_pre_hook(lambda _mlp, inputs: read.append(inputs[0]))
    written = bottom(features)
    kept = bottom.eval()(features)
    assert (read[0][:, : layout.fields_dim] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(read[0][:, layout.fields_dim :], features.dense_BC)
    assert not (read[1] == 0).any()
    assert (written[kept != 0] == 0).float().mean().item() > 0.45
    assert torch.equal(bottom(features), kept)
