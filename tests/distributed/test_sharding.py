"""Sharded training equals unsharded training: same losses, same weights, same scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.optim.apply_optimizer_in_backward import (
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)

from recsys_mtl.config import read_yaml, validate
from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import Cursor, EvalReader, ReaderConfig, TrainReader, Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.model import ModelConfig, RankingModel
from recsys_mtl.objectives.losses import ObjectiveConfig
from recsys_mtl.training.evaluate import evaluate
from recsys_mtl.training.optim import DenseConfig, SparseConfig
from recsys_mtl.training.sharding import gather_weights, initialise_tables, shard, table_parameters
from recsys_mtl.training.step import TrainStep, all_sum
from tests import builders
from tests.distributed.processes import run_workers

STEPS = 6
PRESETS = sorted((Path(__file__).parents[2] / "pipelines" / "configs" / "models").glob("*.yaml"))


def model_config(preset: Path) -> ModelConfig:
    tree: dict[str, Any] = read_yaml(preset)["model"]
    tree["experts"].pop("gate_dropout", None)  # what is dropped differs between workers
    return validate(ModelConfig, tree)


def build(data: Path, preset: Path, device: torch.device | None) -> RankingModel:
    torch.manual_seed(0)
    spec = Encoder.load(data).spec
    return model_config(preset).build(spec, spec.tasks, table_device=device)


def learn(model: torch.nn.Module, data: Path, worker: Worker) -> list[float]:
    """Train a few steps; return the losses over all workers."""
    spec = Encoder.load(data).spec
    objective = ObjectiveConfig().build(spec.tasks)
    step = TrainStep(model, objective, DenseConfig(warmup_steps=2), STEPS)
    layout = BatchLayout.of(spec, builders.TASKS)
    reader = TrainReader(row_groups(data, "train"), layout, ReaderConfig(), batch_size=64, seed=3, worker=worker)
    losses = []
    for _, batch in zip(range(STEPS), reader.epoch(Cursor()), strict=False):
        result = step(batch)
        losses.append(objective.combine(all_sum(result.sums_K), result.divisors_K).item())
    return losses


def work(worker: Worker, data: Path, preset: Path) -> dict[str, Any]:
    sharded = shard(build(data, preset, torch.device("meta")), SparseConfig(), torch.device("cpu"))
    initialise_tables(sharded, seed=1, deviation=0.01)
    losses = learn(sharded, data, worker)
    spec = Encoder.load(data).spec
    layout = BatchLayout.of(spec, builders.TASKS)
    reader = EvalReader(row_groups(data, "valid"), layout, batch_size=37, worker=worker)
    metrics = evaluate(sharded, reader, spec.tasks, torch.device("cpu")).compute()
    return {"losses": losses, "metrics": metrics, "weights": gather_weights(sharded)}


def unsharded(data: Path, preset: Path) -> dict[str, Any]:
    """The reference: plain torch modules in one process, with the same optimisers."""
    model = build(data, preset, None)
    initialise_tables(model, seed=1, deviation=0.01)
    optimizer, arguments = SparseConfig().optimizer
    apply_optimizer_in_backward(optimizer, table_parameters(model), arguments)
    losses = learn(model, data, Worker())
    spec = Encoder.load(data).spec
    reader = EvalReader(row_groups(data, "valid"), BatchLayout.of(spec, builders.TASKS), batch_size=64, worker=Worker())
    metrics = evaluate(model, reader, spec.tasks, torch.device("cpu")).compute()
    return {"losses": losses, "metrics": metrics, "weights": model.state_dict()}


@pytest.mark.dist
@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_two_workers_learn_what_one_process_learns(tmp_path: Path, preset: Path) -> None:
    data = tmp_path / "data"
    builders.prepared(data)
    first, second = run_workers(2, tmp_path, work, data, preset)
    alone = unsharded(data, preset)
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert first["weights"].keys() == alone["weights"].keys()
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-4, atol=1e-5, msg=name)
    assert second["weights"] == {}
    for task in builders.TASKS:
        assert first["metrics"][task] == pytest.approx(alone["metrics"][task], rel=1e-4, nan_ok=True)
        assert first["metrics"][task] == pytest.approx(second["metrics"][task], nan_ok=True)
