"""Sequence encoders against loops over rows and events."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.config import ConfigError
from recsys_mtl.features import FeatureLayout, Features, Sequence, SequenceColumn
from recsys_mtl.layers import Activation
from recsys_mtl.sequences import ActivationUnit, AttentionConfig, AttentionEncoder, MeanConfig
from tests import dense

ROWS = 6
WATCHED, LIKED = dense.LAYOUT.sequences
FUNCTIONS = {"relu": torch.relu, "silu": nn.functional.silu, "tanh": torch.tanh}


def build(config: AttentionConfig, layout: FeatureLayout = dense.LAYOUT) -> AttentionEncoder:
    torch.manual_seed(0)
    return config.build(layout)


def test_the_mean_is_over_a_rows_events() -> None:
    features = dense.features(ROWS)
    pooled = MeanConfig().build(dense.LAYOUT)(features)
    assert len(pooled) == 2
    for mean_BD, rows in zip(pooled, dense.histories(features), strict=True):
        for mean_D, e_LD in zip(mean_BD, rows, strict=True):
            expected = torch.stack(list(e_LD)).mean(0) if len(e_LD) else torch.zeros_like(mean_D)
            torch.testing.assert_close(mean_D, expected)


class PaperUnit:
    """DIN's activation unit as written: an MLP over [q, k, q - k, q * k], with weights that are drawn here.

    A column without a counterpart in the candidate is part of k alone.
    """

    def __init__(self, config: AttentionConfig, sequence: Sequence) -> None:
        self.config = config
        self.matched = torch.tensor(
            [column.target is not None for column in sequence.columns for _ in range(column.dim)]
        )
        num_matched, width = int(self.matched.sum()), config.hidden[0]
        shapes = {"q": num_matched, "k": sequence.dim, "difference": num_matched, "product": num_matched}
        self.weights = {part: torch.randn(width, dim) for part, dim in shapes.items()}
        self.bias = torch.randn(width)

    def give_to(self, unit: ActivationUnit) -> None:
        """Set the weights of ``unit`` so that it is the same function."""
        event_HD = self.weights["k"].clone()
        event_HD[:, self.matched] -= self.weights["difference"]
        with torch.no_grad():
            unit.from_query.weight.copy_(self.weights["q"] + self.weights["difference"])
            unit.from_query.bias.copy_(self.bias)
            unit.from_event.weight.copy_(event_HD)
            unit.from_product.weight.copy_(self.weights["product"])
        self.unit = unit

    def score(self, q_Q: Tensor, k_D: Tensor) -> Tensor:
        """Weigh one event."""
        k_Q = k_D[self.matched]
        inputs = {"q": q_Q, "k": k_D, "difference": q_Q - k_Q, "product": q_Q * k_Q}
        hidden = torch.stack([self.weights[part] @ value for part, value in inputs.items()]).sum(0) + self.bias
        activation = FUNCTIONS[self.config.activation]
        hidden = activation(hidden)
        for layer in (layer for layer in self.unit.rest if isinstance(layer, nn.Linear)):
            hidden = activation(layer(hidden))
        return torch.as_tensor(self.unit.score(hidden)).squeeze()

    def pool(self, q_Q: Tensor, events: list[Tensor]) -> Tensor:
        """Sum the events of one row by their weights."""
        scores = [self.score(q_Q, k_D) for k_D in events]
        if self.config.normalise:
            total = sum(math.exp(score) for score in scores)
            return torch.stack([math.exp(score) / total * k_D for score, k_D in zip(scores, events, strict=True)]).sum(
                0
            )
        return torch.stack([score * k_D for score, k_D in zip(scores, events, strict=True)]).sum(0)


@torch.no_grad()
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("hidden", "activation"), [((5,), "relu"), ((5, 4), "silu"), ((5,), "tanh")])
def test_attention_is_dins_unit(hidden: tuple[int, ...], activation: Activation, normalise: bool) -> None:
    config = AttentionConfig(hidden=hidden, activation=activation, normalise=normalise)
    encoder, features, slices = build(config), dense.features(ROWS), dense.LAYOUT.slices()
    papers = [PaperUnit(config, sequence) for sequence in dense.LAYOUT.sequences]
    for paper, unit in zip(papers, encoder.units, strict=True):
        assert isinstance(unit, ActivationUnit)
        paper.give_to(unit)
    for s, (sequence, pooled_BD) in enumerate(zip(dense.LAYOUT.sequences, encoder(features), strict=True)):
        targets = [column.target for column in sequence.columns if column.target is not None]
        for b in range(ROWS):
            q_Q = torch.cat([features.fields_BX[b, slices[target]] for target in targets])
            events = list(dense.histories(features)[s][b])
            expected = papers[s].pool(q_Q, events) if events else torch.zeros(sequence.dim)
            torch.testing.assert_close(pooled_BD[b], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [MeanConfig(), AttentionConfig(), AttentionConfig(normalise=False)])
def test_a_compiled_program_has_the_same_results_and_gradients(
    config: MeanConfig | AttentionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder, features = config.build(dense.LAYOUT), dense.features(ROWS)
    inputs = [features.fields_BX, *features.sequences]
    targets = [torch.randn(ROWS, sequence.dim) for sequence in dense.LAYOUT.sequences]

    def outcome() -> list[Tensor]:
        given = [x.clone().requires_grad_() for x in inputs]
        pooled = encoder(replace(features, fields_BX=given[0], sequences=tuple(given[1:])))
        loss = torch.stack([(y_BD * t_BD).sum() for y_BD, t_BD in zip(pooled, targets, strict=True)]).sum()
        learnt = [*given, *encoder.parameters()]
        return [*pooled, *torch.autograd.grad(loss, learnt, materialize_grads=True)]

    by_length = outcome()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for every, some in zip(outcome(), by_length, strict=True):
        torch.testing.assert_close(every, some, rtol=1e-4, atol=1e-5)


def test_the_candidate_decides_which_event_counts() -> None:
    encoder, features = build(AttentionConfig()), dense.features(ROWS)
    other = replace(features, fields_BX=features.fields_BX + 1)
    for s, (here_BD, there_BD) in enumerate(zip(encoder(features), encoder(other), strict=True)):
        several_B = features.lengths[s] > 1
        assert ((here_BD - there_BD)[several_B].abs().amax(1) > 1e-4).all()
        torch.testing.assert_close(here_BD[~several_B], there_BD[~several_B])


@pytest.mark.parametrize("normalise", [True, False])
def test_rows_without_events_have_finite_gradients(normalise: bool) -> None:
    encoder, features = build(AttentionConfig(normalise=normalise)), dense.features(ROWS)
    pooled = encoder(
        dense.with_histories(features, [[e_LD[:0] for e_LD in rows] for rows in dense.histories(features)])
    )
    assert all(torch.equal(pooled_BD, torch.zeros_like(pooled_BD)) for pooled_BD in pooled)
    loss = torch.stack([pooled_BD.sum() for pooled_BD in pooled]).sum()
    assert all(
        g.isfinite().all() for g in torch.autograd.grad(loss, list(encoder.parameters()), materialize_grads=True)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_a_softmax_of_empty_rows_too(dtype: torch.dtype) -> None:
    encoder, features = build(AttentionConfig()).to(dtype), dense.features(ROWS)
    half = Features(
        features.fields_BX.to(dtype),
        features.dense_BC.to(dtype),
        tuple(e_ND.to(dtype) for e_ND in features.sequences),
        features.lengths,
    )
    assert all(pooled_BD.isfinite().all() for pooled_BD in encoder(half))


def test_a_sequence_without_any_target_is_refused() -> None:
    lone = Sequence("searched", (SequenceColumn(4, None),), 6)
    with pytest.raises(ConfigError, match=r"sequences\.kind: .* no column of 'searched' has; use mean"):
        AttentionConfig().build(replace(dense.LAYOUT, sequences=(WATCHED, lone)))


def test_only_unnormalised_weights_have_a_bias() -> None:
    """A softmax does not see it, so it would never be learnt."""
    for normalise in (True, False):
        (unit, _) = build(AttentionConfig(normalise=normalise)).units
        assert isinstance(unit, ActivationUnit)
        assert (unit.score.bias is None) is normalise


def test_no_sequences_is_no_work() -> None:
    layout = FeatureLayout(dense.LAYOUT.fields, (), 0)
    features = dense.features(ROWS, layout)
    assert AttentionConfig().build(layout)(features) == MeanConfig().build(layout)(features) == []
