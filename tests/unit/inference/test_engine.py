"""The engine against the modules that a model was trained with: equal scores, whatever the model is made of."""

from itertools import product
from typing import Any

import pyarrow as pa
import pytest
import torch

from recsys_mtl.bottoms import BottomConfig
from recsys_mtl.config import validate
from recsys_mtl.data.batch import BatchLayout, collate
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.spec import Spec
from recsys_mtl.experts import ExpertsConfig
from recsys_mtl.heads import HeadsConfig
from recsys_mtl.inference import Encoded, Engine
from recsys_mtl.inference.split import Picked
from recsys_mtl.model import ModelConfig, RankingModel
from recsys_mtl.norms import BatchNorm
from tests import builders, dense
from tests.serving.world import one_user

CELLS = list(product(dense.members(BottomConfig), dense.members(ExpertsConfig), dense.members(HeadsConfig)))
VARIANTS: dict[str, dict[str, Any]] = {
    "a mixing layer": {"bottom": {"hidden": [16]}, "experts": {"kind": "mmoe"}},
    "a mixing layer without bias": {"bottom": {"hidden": [16, 8], "norm": {"kind": "batch"}}},
    "means of histories": {"bottom": {"sequences": {"kind": "mean"}}, "experts": {"kind": "mmoe"}},
    "means and a mixing layer": {"bottom": {"sequences": {"kind": "mean"}, "hidden": [16]}},
    "intensities of histories": {"bottom": {"sequences": {"kind": "attention", "normalise": False, "hidden": [8, 4]}}},
    "normalised experts": {"experts": {"kind": "mmoe", "hidden": [16, 8], "norm": {"kind": "batch"}}},
    "one level": {"experts": {"kind": "ple", "num_levels": 1, "norm": {"kind": "layer"}}},
    "no feature gates": {"experts": {"kind": "home", "feature_gates": ["task"]}},
    "no gates past the main ones": {"experts": {"kind": "home", "feature_gates": [], "self_gates": []}},
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    data = tmp_path_factory.mktemp("inference") / "data"
    builders.prepared(data)
    return Encoder.load(data)


def built(config: ModelConfig, spec: Spec) -> RankingModel:
    torch.manual_seed(3)
    model = config.build(spec, spec.tasks)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            weight.mul_(2.0) if weight.is_floating_point() else None
            if name.endswith(("running_var_J", "running_mean_J")):
                weight.copy_(0.5 + torch.rand_like(weight))
    return model.eval()


def engine_of(model: RankingModel, spec: Spec) -> Engine:
    return Engine(model.ranker, model.embeddings.state_dict(), spec, spec.tasks)


def assert_equal(config: ModelConfig, encoder: Encoder, raw: pa.Table) -> Engine:
    model, table = built(config, encoder.spec), encoder.encode(raw)
    engine = engine_of(model, encoder.spec)
    with torch.inference_mode():
        expected_BT = model(collate(table, BatchLayout.of(encoder.spec, ())))
        head, items = Encoded.of(table.slice(0, 1), engine.inputs.head), Encoded.of(table, engine.inputs.items)
        actual_BT = engine.dense.above(engine.dense.below(engine.inputs.embed(head, items)))
    torch.testing.assert_close(actual_BT, expected_BT, rtol=2e-5, atol=2e-5)
    assert len(expected_BT) == 1 or expected_BT.std(0).min() > 1e-4  # candidates differ, in every task
    return engine


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(m.model_fields["kind"].default for m in cell))
def test_a_request_scores_as_its_rows_do_in_training(cell: Any, encoder: Encoder) -> None:
    bottom, experts, heads = cell
    assert_equal(ModelConfig(bottom=bottom(), experts=experts(), heads=heads()), encoder, one_user(20))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(m.model_fields["kind"].default for m in cell))
def test_requests_scored_together_score_as_alone(cell: Any, encoder: Encoder) -> None:
    bottom, experts, heads = cell
    config = ModelConfig(bottom=bottom(), experts=experts(), heads=heads())
    engine = engine_of(built(config, encoder.spec), encoder.spec)
    requests = []
    for rows, user in ((1, 8), (7, 3), (2, 15)):  # with no event, with three, and with more than are kept
        table = encoder.encode(one_user(rows, seed=user))
        head, items = Encoded.of(table.slice(0, 1), engine.inputs.head), Encoded.of(table, engine.inputs.items)
        requests.append((head, items))
    alone = [engine.score(*request) for request in requests]
    torch.testing.assert_close(engine.score_together(requests), tuple(alone), rtol=1e-5, atol=1e-6)
    assert len({float(scores_BT[0, 0]) for scores_BT in alone}) == 3


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_kind_of_first_layer_is_split(variant: dict[str, Any], encoder: Encoder) -> None:
    tree = {"experts": {"kind": "direct"}} | variant | {"bottom": {"kind": "shared"} | variant.get("bottom", {})}
    assert_equal(validate(ModelConfig, tree), encoder, one_user(20))


@pytest.mark.parametrize("user", [8, 3, 15])  # histories of no event, of three, and of more than are kept
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_histories_and_requests_of_any_length(user: int, rows: int, encoder: Encoder) -> None:
    for bottom in dense.members(BottomConfig):
        assert_equal(
            validate(ModelConfig, {"bottom": {"kind": bottom.model_fields["kind"].default}}),
            encoder,
            one_user(rows, seed=user),
        )


def test_experts_and_gates_of_one_input_become_one_product(encoder: Encoder) -> None:
    for kind, number in (("mmoe", 2), ("ple", 4)):
        config = validate(ModelConfig, {"bottom": {"kind": "shared"}, "experts": {"kind": kind}})
        engine = engine_of(built(config, encoder.spec), encoder.spec)
        assert sum(isinstance(module, Picked) for module in engine.dense.ranker.modules()) == number  # type: ignore[attr-defined]


@pytest.mark.parametrize("bottom", ["shared", "dtrn"])
def test_batch_normalisation_becomes_part_of_the_maps_before_it(bottom: str, encoder: Encoder) -> None:
    tree = {
        "bottom": {"kind": bottom},
        "experts": {"kind": "home"},
        "heads": {"kind": "towers", "norm": {"kind": "batch"}},
    }
    model = built(validate(ModelConfig, tree), encoder.spec)
    ranker = engine_of(model, encoder.spec).dense.ranker  # type: ignore[attr-defined]
    norms, left = ([m for m in root.modules() if isinstance(m, BatchNorm)] for root in (model.ranker, ranker))
    assert (len(norms) >= 6, left) == (True, [])


def test_the_model_itself_stays_as_it_was(encoder: Encoder) -> None:
    config = validate(ModelConfig, {"bottom": {"kind": "shared"}, "experts": {"kind": "mmoe"}})
    model = built(config, encoder.spec)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    engine_of(model, encoder.spec)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert not any(isinstance(module, Picked) for module in model.modules())
