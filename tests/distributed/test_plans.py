"""Plans: every way in which tables can be spread learns the same, and a run goes on under another one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.optim.apply_optimizer_in_backward import (
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)
from torch.multiprocessing.spawn import ProcessExitedException
from torchrec.optim import RowWiseAdagrad

from pipelines.run import TrainRun
from pipelines.worker import lasting_settings
from recsys_mtl.config import validate
from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import Cursor, ReaderConfig, TrainReader, Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.model import ModelConfig, RankingModel
from recsys_mtl.objectives.losses import ObjectiveConfig
from recsys_mtl.storage import locate
from recsys_mtl.training import sharding
from recsys_mtl.training.checkpoint import CheckpointConfig, Checkpoints
from recsys_mtl.training.optim import DenseConfig, SparseConfig
from recsys_mtl.training.sharding import gather_weights, initialise_tables, shard, table_parameters
from recsys_mtl.training.sharding_rules import ShardingConfig
from recsys_mtl.training.state import put_back, training_state
from recsys_mtl.training.step import TrainStep
from tests import builders
from tests.distributed import test_checkpoint
from tests.distributed.processes import run_workers

pytestmark = pytest.mark.dist

STEPS = 3
Plan = dict[str, str]
ROWS: Plan = {"item": "row_wise", "author": "row_wise"}
COLUMNS: Plan = {"item": "column_wise", "author": "row_wise", "user": "column_wise", "city": "table_column_wise"}
COPIES: Plan = {"user": "data_parallel", "hour": "data_parallel", "tags": "data_parallel"}
OPTIMIZERS = {"rowwise_adagrad": RowWiseAdagrad, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "data"
    builders.prepared(path)
    return path


def build(data: Path, device: torch.device | None) -> RankingModel:
    torch.manual_seed(0)
    spec = Encoder.load(data).spec
    return validate(ModelConfig, builders.MODEL).build(spec, spec.tasks, table_device=device)


def sharded_step(data: Path, kind: str, plan: Plan) -> TrainStep:
    sparse = validate(SparseConfig, {"kind": kind})
    tables = validate(ShardingConfig, {"tables": plan})
    model = shard(build(data, torch.device("meta")), sparse, torch.device("cpu"), sharding=tables)
    initialise_tables(model, 1, deviation=0.01)
    return make_step(model, data)


def make_step(model: nn.Module, data: Path) -> TrainStep:
    return TrainStep(model, ObjectiveConfig().build(Encoder.load(data).spec.tasks), DenseConfig(warmup_steps=2), 9)


def learn(step: TrainStep, data: Path, worker: Worker, first: int = 0) -> None:
    """Take three steps from one on."""
    layout = BatchLayout.of(Encoder.load(data).spec, builders.TASKS)
    reader = TrainReader(row_groups(data, "train"), layout, ReaderConfig(), batch_size=64, seed=3, worker=worker)
    for _, batch in zip(range(STEPS), reader.epoch(Cursor(0, first)), strict=False):
        step(batch)


def alone(data: Path, kind: str, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """The reference: plain torch modules in one process, with plain optimisers."""
    model = build(data, None)
    initialise_tables(model, 1, deviation=0.01)
    arguments = {"lr": 0.05} | ({} if kind == "sgd" else {"eps": 1e-8})
    apply_optimizer_in_backward(OPTIMIZERS[kind], table_parameters(model), arguments)
    step = make_step(model, data)
    for first in range(0, steps, STEPS):
        learn(step, data, Worker(), first)
    return model.state_dict()


def assert_equal(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-5, msg=name)


def work(worker: Worker, data: Path, cases: list[tuple[str, Plan]]) -> list[dict[str, torch.Tensor]]:
    """Train under each plan in turn; processes are too dear to start for each."""
    found = []
    sharding.BLOCK_NUMBERS = 100  # so that the tables of a test are drawn and gathered by more than one block
    for kind, plan in cases:
        step = sharded_step(data, kind, plan)
        learn(step, data, worker)
        found.append(gather_weights(step.model))
    return found


CASES = [("rowwise_adagrad", ROWS), ("rowwise_adagrad", COPIES), ("adagrad", COLUMNS), ("adagrad", COPIES)]
CASES += [("sgd", COLUMNS | COPIES)]


def test_every_plan_learns_what_one_process_learns(tmp_path: Path, data: Path) -> None:
    found = run_workers(2, tmp_path, work, data, CASES)[0]
    for (kind, _), weights in zip(CASES, found, strict=True):
        assert_equal(weights, alone(data, kind))


def save(worker: Worker, data: Path, kind: str, plan: Plan, folder: Path) -> None:
    step = sharded_step(data, kind, plan)
    learn(step, data, worker)
    checkpoints = Checkpoints(locate(folder), CheckpointConfig(every_steps=1, keep=1), settings={})
    checkpoints.save(STEPS, training_state(step), {})
    assert checkpoints.finish()


def resume(worker: Worker, data: Path, kind: str, plans: list[Plan], folder: Path) -> list[dict[str, torch.Tensor]]:
    """Go on under each of several plans."""
    found = []
    for plan in plans:
        step = sharded_step(data, kind, plan)
        checkpoints = Checkpoints(locate(folder), CheckpointConfig(every_steps=1, keep=1), settings={})
        saved, state = checkpoints.latest(), training_state(step)
        assert saved is not None
        checkpoints.load(saved, state)
        put_back(step, state, saved.step)
        learn(step, data, worker, STEPS)
        found.append(gather_weights(step.model))
    return found


@pytest.mark.parametrize(
    ("kind", "first", "before", "then", "plans"),
    [
        ("adagrad", 2, COLUMNS, 3, [{}, COLUMNS, COPIES]),
        ("rowwise_adagrad", 2, COPIES | ROWS, 1, [{}, COPIES]),
        ("rowwise_adagrad", 1, {}, 3, [ROWS, COPIES | ROWS]),
    ],
)
def test_a_run_goes_on_under_another_plan_with_all_that_its_optimiser_knows(
    tmp_path: Path, data: Path, kind: str, first: int, before: Plan, then: int, plans: list[Plan]
) -> None:
    run_workers(first, tmp_path, save, data, kind, before, tmp_path / "run")
    expected = alone(data, kind, 2 * STEPS)
    for weights in run_workers(then, tmp_path, resume, data, kind, plans, tmp_path / "run")[0]:
        assert_equal(weights, expected)


def test_a_killed_run_goes_on_under_the_plan_of_the_new_command(tmp_path: Path, data: Path) -> None:
    run, folder = test_checkpoint.make_run(data, builders.MODEL, epochs=3), tmp_path / "run"
    undisturbed = run_workers(1, tmp_path, test_checkpoint.work, run, tmp_path / "other", None)[0]
    with pytest.raises(ProcessExitedException):
        run_workers(2, tmp_path, test_checkpoint.work, run, folder, test_checkpoint.KILLED_AT)
    settings = lasting_settings(run, Encoder.load(data).spec)
    saved = Checkpoints(locate(folder), run.trainer.checkpoint, settings=settings).latest()
    assert saved is not None
    assert saved.progress["plan"]["item"]["sharding"] == "table_wise"
    assert saved.progress["plan"]["item"]["parts"][0][1:] == [0, 0, 62, 16]
    tree: dict[str, Any] = run.model_dump(mode="json")
    tree["cluster"]["sharding"] = {"default": "auto", "tables": ROWS | {"user": "data_parallel"}}
    resumed = run_workers(2, tmp_path, test_checkpoint.work, validate(TrainRun, tree), folder, None)[0]
    assert resumed["losses"][20] == pytest.approx(undisturbed["losses"][20], rel=1e-5)
    assert_equal(resumed["weights"], undisturbed["weights"])
