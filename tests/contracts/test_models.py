"""What every model promises, whatever bottom, experts and heads it is made of: a new one is tested by being listed."""

from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from recsys_mtl.bottoms import BottomConfig
from recsys_mtl.data.batch import Batch, BatchLayout, collate
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.spec import Spec
from recsys_mtl.experts import ExpertsConfig
from recsys_mtl.heads import HeadsConfig
from recsys_mtl.layers import Gate
from recsys_mtl.model import ModelConfig, Ranker, RankingModel
from recsys_mtl.sequences import SequenceConfig
from tests import builders, dense

CELLS = list(product(dense.members(BottomConfig), dense.members(ExpertsConfig), dense.members(HeadsConfig)))
EXPERTS = dense.members(ExpertsConfig)
IN_DIM = 9


def kind(member: Any) -> str:
    return str(member.model_fields["kind"].default)


@pytest.fixture(params=CELLS, ids=lambda cell: "-".join(map(kind, cell)))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    bottom, experts, heads = request.param
    return ModelConfig(bottom=bottom(), experts=experts(), heads=heads())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, pa.Table]:
    data = tmp_path_factory.mktemp("data")
    builders.prepared(data)
    return Encoder.load(data).spec, pq.read_table(data / "train")


@pytest.fixture
def spec(prepared: tuple[Spec, pa.Table]) -> Spec:
    return prepared[0]


@pytest.fixture
def rows(prepared: tuple[Spec, pa.Table]) -> pa.Table:
    return prepared[1].slice(0, 64)


@pytest.fixture
def model(config: ModelConfig, spec: Spec) -> RankingModel:
    return build(config, spec, seed=0)


@pytest.fixture
def ranker(config: ModelConfig) -> Ranker:
    torch.manual_seed(0)
    return config.build_ranker(dense.LAYOUT, dense.TASKS).eval()


def build(config: ModelConfig, spec: Spec, *, seed: int) -> RankingModel:
    torch.manual_seed(seed)
    return config.build(spec, spec.tasks)


def batch_of(rows: pa.Table, spec: Spec) -> Batch:
    return collate(rows, BatchLayout.of(spec, builders.TASKS))


@torch.no_grad()
def scores(model: RankingModel, rows: pa.Table, spec: Spec) -> Tensor:
    return model.eval()(batch_of(rows, spec))


def gradients(model: RankingModel, rows: pa.Table, spec: Spec) -> tuple[Tensor, Tensor]:
    """Return the logits of training, and all gradients in a row."""
    torch.manual_seed(0)
    model.zero_grad()
    batch = batch_of(rows, spec)
    logits_BT = model.train()(batch)
    loss = binary_cross_entropy_with_logits(logits_BT, batch.labels_BT.nan_to_num(0).clamp(0, 1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None or p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    return logits_BT.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_learning_in_bfloat16_goes_where_float32_goes(
    config: ModelConfig, model: RankingModel, rows: pa.Table, spec: Spec
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exact_BT, exact = gradients(model, rows, spec)
    model.load_state_dict(before)
    model.ranker.learns_in_bfloat16 = True
    close_BT, close = gradients(model, rows, spec)
    assert close_BT.dtype == torch.float32
    has_products = (kind(type(config.bottom)), kind(type(config.experts))) != ("shared", "direct")
    assert torch.equal(close_BT, exact_BT) != has_products
    torch.testing.assert_close(close_BT, exact_BT, rtol=0.05, atol=0.05)
    assert cosine_similarity(close, exact, dim=0) > 0.98
    model.load_state_dict(before)
    scored_BT = scores(model, rows, spec)
    model.ranker.learns_in_bfloat16 = False
    assert torch.equal(scored_BT, scores(model, rows, spec))


def test_one_finite_output_per_row_and_task(model: RankingModel, rows: pa.Table, spec: Spec) -> None:
    logits_BT = scores(model, rows, spec)
    assert logits_BT.shape == (rows.num_rows, len(builders.TASKS))
    assert logits_BT.isfinite().all()
    assert logits_BT.std(0).min() > 0


def test_every_parameter_is_learnt_tables_too(model: RankingModel, rows: pa.Table, spec: Spec) -> None:
    torch.manual_seed(1)
    logits_BT = model.train()(batch_of(rows, spec))
    parameters = dict(model.named_parameters())
    loss = (logits_BT * torch.randn_like(logits_BT)).sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    still = [name for name, g in zip(parameters, gradients, strict=True) if not g.abs().sum() > 0]
    assert still == []
    assert {table for table in spec.rows if not any(f".{table}." in name for name in parameters)} == set()


def test_a_row_scores_the_same_alone(model: RankingModel, rows: pa.Table, spec: Spec) -> None:
    together_BT = scores(model, rows, spec)
    for row in range(8):
        torch.testing.assert_close(scores(model, rows.slice(row, 1), spec), together_BT[row : row + 1])


def test_permuting_rows_permutes_scores(model: RankingModel, rows: pa.Table, spec: Spec) -> None:
    order = torch.randperm(rows.num_rows, generator=torch.Generator().manual_seed(2))
    shuffled = rows.take(pa.array(order.numpy()))
    torch.testing.assert_close(scores(model, shuffled, spec), scores(model, rows, spec)[order])


def test_permuting_tasks_with_their_weights_permutes_outputs(config: ModelConfig, ranker: Ranker) -> None:
    order = [3, 0, 6, 5, 1, 4, 2]
    other = config.build_ranker(dense.LAYOUT, tuple(dense.TASKS[i] for i in order)).eval()
    copy_by_task(ranker, other, torch.tensor(order))
    features = dense.features(12)
    torch.testing.assert_close(other(features), ranker(features)[:, order])


@torch.no_grad()
def copy_by_task(source: nn.Module, target: nn.Module, order: Tensor) -> None:
    """Give the tasks of ``target``, which stand in another order, the weights that they have in ``source``."""
    gates = {f"{name}.linear.weight_IKO": gate for name, gate in target.named_modules() if isinstance(gate, Gate)}
    for name, weight in source.named_parameters():
        mine = target.get_parameter(name)
        mine.copy_(by_names(weight, source, gates[name], name) if name in gates else by_blocks(weight, order))


def by_blocks(weight: Tensor, order: Tensor) -> Tensor:
    """Permute the one axis that tasks have, in which each of them has a block; other weights belong to all tasks."""
    axes = [axis for axis, size in enumerate(weight.shape) if size % len(order) == 0]
    assert len(axes) <= 1
    for axis in axes:
        blocks = torch.arange(weight.shape[axis]).view(len(order), -1)
        weight = weight.index_select(axis, blocks[order].flatten())
    return weight


def by_names(weight_IKO: Tensor, source: nn.Module, gate: Gate, name: str) -> Tensor:
    """Bring a gate's weights into the order of the readers and experts of ``gate``."""
    theirs = source.get_submodule(name.removesuffix(".linear.weight_IKO"))
    assert isinstance(theirs, Gate)
    readers = [theirs.readers.index(reader) for reader in gate.readers]
    columns = [
        weight_IKO[:, k, [theirs.experts[k].index(expert) for expert in experts]]
        for k, experts in zip(readers, gate.experts, strict=True)
    ]
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("experts", EXPERTS, ids=kind)
def test_a_shared_representation_equals_equal_representations(experts: Any) -> None:
    torch.manual_seed(0)
    layer = experts().build(IN_DIM, dense.TASKS)
    x_B1R = torch.randn(6, 1, IN_DIM)
    h_BTH = layer(x_B1R)
    assert h_BTH.shape == (6, len(dense.TASKS), layer.out_dim)
    torch.testing.assert_close(layer(x_B1R.repeat(1, len(dense.TASKS), 1)), h_BTH)


@pytest.mark.parametrize("experts", EXPERTS, ids=kind)
def test_representations_of_their_own_are_told_apart(experts: Any) -> None:
    torch.manual_seed(0)
    layer = experts().build(IN_DIM, dense.TASKS)
    x_BTR = torch.randn(6, len(dense.TASKS), IN_DIM)
    changed = x_BTR.clone()
    changed[:, 2] += 1
    assert ((layer(changed) - layer(x_BTR))[:, 2].abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("experts", EXPERTS, ids=kind)
@pytest.mark.parametrize("bottom", dense.members(BottomConfig), ids=kind)
def test_one_task_is_enough(bottom: Any, experts: Any) -> None:
    ranker = ModelConfig(bottom=bottom(), experts=experts()).build_ranker(dense.LAYOUT, dense.events("click"))
    assert ranker(dense.features(5)).shape == (5, 1)


class Flat(nn.Module):
    """A ranker that takes plain tensors, which is what an exported program is called with."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.ranker(dense.unflat(tensors))


def test_the_exported_dense_part_equals_eager_at_another_batch_size(ranker: Ranker) -> None:
    example, other = dense.flat(dense.features(5)), dense.flat(dense.features(11, seed=3))
    rows, split = Dim("rows"), 2 + len(dense.LAYOUT.sequences)
    names = [rows, rows, *(Dim(f"events{s}") for s in range(split - 2)), *(rows for _ in example[split:])]
    batched = tuple({0: name} for name in names)
    with torch.no_grad():
        program = torch.export.export(Flat(ranker), example, dynamic_shapes=(batched,))
        torch.testing.assert_close(program.module()(*other), ranker(dense.unflat(other)))


def test_saved_and_loaded_weights_give_the_same_scores(
    config: ModelConfig, model: RankingModel, rows: pa.Table, spec: Spec, tmp_path: Path
) -> None:
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = build(config, spec, seed=99)
    assert not torch.equal(scores(other, rows, spec), scores(model, rows, spec))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(scores(other, rows, spec), scores(model, rows, spec))


def test_the_same_seed_gives_the_same_weights(config: ModelConfig, model: RankingModel, spec: Spec) -> None:
    again, another = build(config, spec, seed=0).state_dict(), build(config, spec, seed=1).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in model.state_dict().items())
    # What normalises starts as a constant, whatever the seed.
    drawn = {name: weight for name, weight in model.state_dict().items() if weight.unique().numel() > 1}
    assert set(drawn) >= {name for name, _ in model.named_parameters() if "weight_IKO" in name}
    assert not any(torch.equal(another[name], weight) for name, weight in drawn.items())


def test_a_configuration_survives_yaml(config: ModelConfig) -> None:
    text = yaml.safe_dump(config.model_dump(mode="json"))
    assert ModelConfig.model_validate(yaml.safe_load(text)) == config


@pytest.mark.parametrize("sequences", dense.members(SequenceConfig), ids=kind)
@pytest.mark.parametrize("bottom", dense.members(BottomConfig), ids=kind)
def test_every_bottom_takes_every_sequence_encoder(bottom: Any, sequences: Any) -> None:
    pooled = {"interests": False} if "interests" in bottom.model_fields else {}  # else DTRN encodes them itself
    layer = bottom(sequences=sequences(), **pooled).build(dense.LAYOUT, dense.TASKS)
    x_BGR = layer(dense.features(5))
    assert x_BGR.shape[::2] == (5, layer.out_dim)
    assert x_BGR.shape[1] in {1, len(dense.TASKS)}
    assert x_BGR.isfinite().all()
