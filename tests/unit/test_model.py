"""The model as a whole: how its stages meet, and what it refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.bottoms.base import Bottom
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.spec import make_spec
from recsys_mtl.experts.base import ExpertLayer
from recsys_mtl.features import Features
from recsys_mtl.heads.base import Heads
from recsys_mtl.model import ModelConfig, Ranker
from tests import dense

TASKS = ("click", "like")


def spec(buckets: int = 10, **sequence: Any) -> Any:
    features: list[dict[str, Any]] = [{"kind": "id", "name": "item", "entity": "item"}]
    features += [{"kind": "sequence", "name": "history", "entity": "user", "columns": [sequence]}] if sequence else []
    tables = {"item": {"encoding": {"kind": "hash", "buckets": buckets}}}
    tables |= {sequence["table"]: {"encoding": {"kind": "hash", "buckets": buckets}}} if sequence else {}
    tree = {
        "features": features,
        "tables": tables,
        "tasks": [{"kind": "binary", "name": t} for t in TASKS],
        "group": "u",
    }
    return make_spec(validate(Schema, tree), {}, {})


class Widths(Bottom):
    out_dim = 3

    def forward(self, features: Features) -> Tensor:
        return features.dense_BC.unsqueeze(1)


class Twice(ExpertLayer):
    out_dim = 3

    def forward(self, x_BGR: Tensor) -> Tensor:
        return 2 * x_BGR.expand(-1, 2, -1)


class Sums(Heads):
    def forward(self, h_BTH: Tensor) -> Tensor:
        return h_BTH.sum(2)


def test_a_ranker_is_bottom_then_experts_then_heads() -> None:
    features = dense.features(4)
    sum_B = 2 * features.dense_BC.sum(1)
    torch.testing.assert_close(
        Ranker(nn.Identity(), Widths(), Twice(), Sums())(features), torch.stack([sum_B, sum_B], dim=1)
    )


def test_initial_weights_of_the_dense_part_do_not_depend_on_the_tables() -> None:
    weights = []
    for buckets in (10, 1000):
        torch.manual_seed(0)
        weights.append(ModelConfig().build(spec(buckets), dense.events(*TASKS)).ranker.state_dict())
    assert all(torch.equal(weights[1][name], weight) for name, weight in weights[0].items())


def test_tables_alone_are_made_without_memory() -> None:
    model = ModelConfig().build(spec(), dense.events(*TASKS), table_device=torch.device("meta"))
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.is_meta} == {"embeddings"}
    assert not any(p.is_meta for p in model.ranker.parameters())


def test_target_attention_without_a_target_is_refused_by_name() -> None:
    lone = spec(name="queries", table="query")
    with pytest.raises(ConfigError, match=r"model\.bottom\.sequences\.kind: .* no column of 'history'"):
        ModelConfig().build(lone, dense.events(*TASKS))
    mean = validate(ModelConfig, {"bottom": {"kind": "shared", "sequences": {"kind": "mean"}}})
    assert isinstance(mean.build(lone, dense.events(*TASKS)), nn.Module)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"experts": {"kind": "moe"}}, r"experts\.kind: .*'mmoe'"),
        ({"experts": {"kind": "ple", "num_experts": 3}}, r"experts\.num_experts: unknown field"),
        ({"experts": {"kind": "mmoe", "hidden": []}}, r"experts\.hidden: .*at least 1"),
        ({"experts": {"kind": "ple", "shared_experts": 0}}, r"experts\.shared_experts: .*greater than 0"),
        ({"heads": {"kind": "towers", "dropout": 1}}, r"heads\.dropout: .*less than 1"),
        (
            {"bottom": {"kind": "shared", "sequences": {"kind": "attention", "activation": "dice"}}},
            r"activation: .*'relu'",
        ),
    ],
)
def test_wrong_configurations_are_refused_with_their_path(tree: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ModelConfig, tree)
