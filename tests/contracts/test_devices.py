"""Every model learns on a GPU what it learns on a CPU. The GPU is one that is not there: see `tests.elsewhere`."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from recsys_mtl.bottoms import BottomConfig
from recsys_mtl.experts import ExpertsConfig
from recsys_mtl.features import Features
from recsys_mtl.heads import HeadsConfig
from recsys_mtl.model import ModelConfig, Ranker
from recsys_mtl.objectives.losses import ObjectiveConfig
from recsys_mtl.training.optim import DenseConfig
from recsys_mtl.training.state import training_state
from recsys_mtl.training.step import TrainStep
from tests import dense
from tests.elsewhere import CPU, Elsewhere, gpu, numbers

CELLS = list(product(dense.members(BottomConfig), dense.members(ExpertsConfig), dense.members(HeadsConfig)))
ROWS = 32


@pytest.fixture(params=CELLS, ids=lambda cell: "-".join(str(member.model_fields["kind"].default) for member in cell))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    bottom, experts, heads = request.param
    return ModelConfig(bottom=bottom(), experts=experts(), heads=heads())


@dataclass
class Impressions:
    """A batch whose ids have been looked up."""

    features: Features
    labels_BT: Tensor
    weights_B: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> "Impressions":
        def moved(x: Any) -> Any:
            return tuple(map(moved, x)) if isinstance(x, tuple) else x.to(device, non_blocking=non_blocking)

        features = Features(**{name: moved(value) for name, value in vars(self.features).items()})
        return Impressions(features, moved(self.labels_BT), moved(self.weights_B))

    def __len__(self) -> int:
        return len(self.weights_B)


class Dense(nn.Module):
    """A model without tables."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, batch: Impressions) -> Tensor:
        return self.ranker(batch.features)


def batches() -> Iterator[Any]:
    for seed in range(2):
        draws = torch.Generator().manual_seed(seed)
        labels_BT = torch.randint(0, 2, (ROWS, len(dense.TASKS)), generator=draws).float()
        labels_BT[torch.rand(labels_BT.shape, generator=draws) < 0.2] = torch.nan
        yield Impressions(dense.features(ROWS, seed=seed), labels_BT, torch.rand(ROWS, generator=draws))


def learn(config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """Take two steps; return all that they leave, and how the last rows are scored then."""
    torch.manual_seed(0)
    model = Dense(config.build_ranker(dense.LAYOUT, dense.TASKS)).to(device)
    objective = ObjectiveConfig().build(dense.TASKS).to(device)
    step = TrainStep(model, objective, DenseConfig(warmup_steps=0), 9)
    fresh = training_state(step)
    assert {moment.device for moment in leaves(fresh["dense"])} == {device}
    first, batch = batches()
    step(first)
    result = step(batch)
    logits_BT = model.eval()(batch.to(device))
    return {"sums": result.sums_K, "divisors": result.divisors_K, "logits": logits_BT, **training_state(step)}


def leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def test_every_model_learns_there_what_it_learns_here(config: ModelConfig) -> None:
    here = learn(config, CPU)
    with gpu() as device:
        there = learn(config, device)
        assert all(isinstance(value, Elsewhere) for value in leaves(there))
    for expected, found in zip(leaves(here), leaves(numbers(there)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)  # Adam makes much of little


def test_a_tensor_in_main_memory_is_noticed() -> None:
    with gpu() as device, pytest.raises(RuntimeError, match=r"a tensor \(3,\) in main memory"):
        torch.ones(3, device=device) + torch.ones(3)
