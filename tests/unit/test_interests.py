"""Task-specific interests against the equations for one row, one task and one behaviour at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from recsys_mtl.features import FeatureLayout, Features, Sequence, SequenceColumn
from recsys_mtl.interests import Block, InterestsConfig, Query, TaskInterests
from tests import dense

ROWS, TASKS, DIM = 7, 3, 8
LONE = Sequence("searched", (SequenceColumn(3, None), SequenceColumn(2, None)), 5)
LAYOUT = replace(dense.LAYOUT, sequences=(*dense.LAYOUT.sequences, LONE))
CONFIG = InterestsConfig(dim=DIM, num_layers=2, num_heads=2, max_events=4, hyper_dim=3)


def build(config: InterestsConfig = CONFIG, layout: FeatureLayout = LAYOUT) -> TaskInterests:
    """Make a module whose norms are far from plain ones."""
    torch.manual_seed(0)
    interests = TaskInterests(config, layout, TASKS)
    nn.init.normal_(interests.hyper.last.weight, std=0.5)
    nn.init.normal_(interests.position_LD)
    return interests


def features(rows: int = ROWS) -> Features:
    return dense.features(rows, LAYOUT)


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return nn.functional.linear(x, layer.weight, layer.bias)


def norm(h_D: Tensor, scale_D: Tensor, shift_D: Tensor) -> Tensor:
    deviation = ((h_D - h_D.mean()).square().mean() + 1e-5).sqrt()
    return (1 + scale_D) * (h_D - h_D.mean()) / deviation + shift_D


def softmax(scores: list[Tensor]) -> list[Tensor]:
    total = torch.stack([score.exp() for score in scores]).sum()
    return [score.exp() / total for score in scores]


def weighted(weights: list[Tensor], values: list[Tensor]) -> Tensor:
    return torch.stack([w * v for w, v in zip(weights, values, strict=True)]).sum(0)


class Equations:
    """One interest: what a task reads of a row's events of one behaviour."""

    def __init__(self, interests: TaskInterests, task: int, behaviour: int) -> None:
        self.interests, self.behaviour = interests, behaviour
        hyper = interests.hyper
        pair = torch.cat([hyper.task_TH[task], hyper.behaviour_SH[behaviour]])
        # By block, then by norm: attention's, the feed-forward network's; then scale and shift.
        self.norms = linear(hyper.last, linear(hyper.first, pair).relu()).view(len(interests.blocks), 2, 2, -1)

    def events(self, features: Features, row: int) -> list[Tensor]:
        """Project the most recent events and add their positions."""
        e_LD = dense.histories(features)[self.behaviour][row]
        project = self.interests.projections[self.behaviour]
        count = min(len(e_LD), self.interests.max_events)
        return [linear(project, e_LD[-1 - k]) + self.interests.position_LD[k] for k in range(count)]

    def block(self, index: int, h: list[Tensor]) -> list[Tensor]:
        """Run one block of the Transformer."""
        block = self.interests.blocks[index]
        assert isinstance(block, Block)
        drawn = self.attention(block, [norm(h_D, *self.norms[index, 0]) for h_D in h])
        h = [h_D + linear(block.out, y_D) for h_D, y_D in zip(h, drawn, strict=True)]
        inputs = [norm(h_D, *self.norms[index, 1]) for h_D in h]
        return [
            h_D + linear(block.ffn[2], linear(block.ffn[0], x_D).relu()) for h_D, x_D in zip(h, inputs, strict=True)
        ]

    def attention(self, block: Block, x: list[Tensor]) -> list[Tensor]:
        """Let every event draw from all of the history, in heads."""
        q, k, v = zip(*(torch.split(linear(block.qkv, x_D), DIM) for x_D in x), strict=True)
        width = DIM // block.num_heads
        heads = []
        for part in (slice(head * width, (head + 1) * width) for head in range(block.num_heads)):
            scores = [[q_D[part] @ k_D[part] / math.sqrt(width) for k_D in k] for q_D in q]
            heads.append([weighted(softmax(row), [v_D[part] for v_D in v]) for row in scores])
        return [torch.cat(parts) for parts in zip(*heads, strict=True)]

    def interest(self, features: Features, row: int) -> Tensor:
        """Weigh the encoded events by their fit to the candidate."""
        h = self.events(features, row)
        if not h:
            return torch.zeros(DIM)
        for index in range(len(self.interests.blocks)):
            h = self.block(index, h)
        targets = [c.target for c in LAYOUT.sequences[self.behaviour].columns if c.target is not None]
        if not targets:
            return torch.stack(h).mean(0)
        fields = torch.cat([features.fields_BX[row, LAYOUT.slices()[target]] for target in targets])
        query = self.interests.queries[self.behaviour]
        assert isinstance(query, Query)
        assert query.linear is not None
        q_D = linear(query.linear, fields)
        return weighted(softmax([q_D @ h_D / math.sqrt(DIM) for h_D in h]), h)


@torch.no_grad()
def test_interests_are_the_equations() -> None:
    interests, batch = build(), features()
    r_BTSD = interests(batch)
    assert r_BTSD.shape == (ROWS, TASKS, 3, DIM)
    for t in range(TASKS):
        for s in range(3):
            equations = Equations(interests, t, s)
            expected = torch.stack([equations.interest(batch, b) for b in range(ROWS)])
            torch.testing.assert_close(r_BTSD[:, t, s], expected, rtol=1e-4, atol=1e-5)


def test_a_behaviour_without_events_is_zero_and_has_finite_gradients() -> None:
    interests, batch = build(), features()
    r_BTSD = interests(batch)
    empty_BS = torch.stack(batch.lengths, dim=1) == 0
    assert empty_BS.any()
    assert torch.equal((r_BTSD == 0).all(3).all(1), empty_BS)
    r_BTSD = interests(dense.with_histories(batch, [[e_LD[:0] for e_LD in rows] for rows in dense.histories(batch)]))
    assert torch.equal(r_BTSD, torch.zeros(ROWS, TASKS, 3, DIM))
    assert all((g == 0).all() for g in torch.autograd.grad(r_BTSD.sum(), list(interests.parameters())))


def test_only_the_most_recent_events_matter() -> None:
    interests, batch = build(), features()
    assert (batch.lengths[0] > CONFIG.max_events).any()
    unread = changed(batch, lambda e_LD: torch.cat([e_LD[: -CONFIG.max_events] + 1, e_LD[-CONFIG.max_events :]]))
    assert torch.equal(interests(unread), interests(batch))
    latest = changed(batch, lambda e_LD: torch.cat([e_LD[:-1], e_LD[-1:] + 1]))
    some_BS = torch.stack(batch.lengths, dim=1) > 0
    assert torch.equal((interests(latest) != interests(batch)).any(3).any(1), some_BS)


def test_order_matters_through_positions_alone() -> None:
    interests, batch = build(CONFIG.model_copy(update={"max_events": 6})), features()
    backward = changed(batch, lambda e_LD: e_LD.flip(0))
    several_BS = torch.stack(batch.lengths, dim=1) > 1
    changed_BS = ((interests(backward) - interests(batch)).abs() > 1e-4).any(3).any(1)
    assert torch.equal(changed_BS, several_BS)
    nn.init.zeros_(interests.position_LD)
    torch.testing.assert_close(interests(backward), interests(batch))


def test_a_row_does_not_see_the_others() -> None:
    interests, batch = build(), features(40)
    r_BTSD = interests(batch)
    for b in range(8):
        alone = Features(
            batch.fields_BX[b : b + 1],
            batch.dense_BC[b : b + 1],
            tuple(rows[b] for rows in dense.histories(batch)),
            tuple(length_B[b : b + 1] for length_B in batch.lengths),
        )
        torch.testing.assert_close(interests(alone), r_BTSD[b : b + 1])


def test_where_every_place_is_computed_results_and_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    interests, batch = build(), features(20)
    target = torch.randn(20, TASKS, 3, DIM)

    def outcome() -> list[Tensor]:
        r_BTSD = interests(batch)
        return [r_BTSD, *torch.autograd.grad((r_BTSD * target).sum(), list(interests.parameters()))]

    packed = outcome()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for every, some in zip(outcome(), packed, strict=True):
        torch.testing.assert_close(every, some, rtol=1e-4, atol=1e-5)


def test_a_tasks_embedding_is_its_own() -> None:
    interests, batch = build(), features()
    before = interests(batch)
    with torch.no_grad():
        interests.hyper.task_TH[1] += 1
    changed_T = ((interests(batch) - before).abs() > 1e-4).flatten(2).any(2).any(0)
    assert changed_T.tolist() == [False, True, False]


def test_the_candidate_decides_which_event_counts() -> None:
    interests, batch = build(), features()
    other = replace(batch, fields_BX=batch.fields_BX + 1)
    changed_BS = ((interests(other) - interests(batch)).abs() > 1e-4).any(3).any(1)
    several_BS = torch.stack(batch.lengths, dim=1) > 1
    several_BS[:, 2] = False  # none of its columns has a counterpart
    assert torch.equal(changed_BS, several_BS)


def test_norms_are_nearly_plain_at_first() -> None:
    torch.manual_seed(0)
    norms = TaskInterests(InterestsConfig(), LAYOUT, TASKS).hyper()
    assert norms.shape == (1, 2, 2, 3, TASKS, InterestsConfig().dim)
    assert 0 < norms.abs().max() < 0.5


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="dim must be a multiple of num_heads, 5; it is 24"):
        InterestsConfig(num_heads=5)


def changed(batch: Features, change: Callable[[Tensor], Tensor]) -> Features:
    """Change the events of every history."""
    return dense.with_histories(batch, [[change(e_LD) for e_LD in rows] for rows in dense.histories(batch)])
