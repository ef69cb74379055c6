"""One run: a model of the paper's size on the paper's data, in this process and without tables."""

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import Result
from pipelines.prepare.synthetic_mmoe import label_pearson, prepare
from recsys_mtl.config import validate
from recsys_mtl.data.batch import Batch, BatchLayout
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.raw import SPLITS
from recsys_mtl.data.reader import EvalReader, Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.data.spec import Spec
from recsys_mtl.model import ModelConfig, RankingModel
from recsys_mtl.objectives.losses import ObjectiveConfig, task_losses
from recsys_mtl.tasks import task_names
from recsys_mtl.training.optim import DenseConfig
from recsys_mtl.training.step import TrainStep

TOWERS: dict[str, Any] = {"kind": "towers", "hidden": [8]}
MODELS: dict[str, dict[str, Any]] = {
    "Shared-Bottom": {"bottom": {"kind": "shared", "hidden": [113]}, "experts": {"kind": "direct"}},
    "MMoE": {"experts": {"kind": "mmoe", "num_experts": 8, "hidden": [16]}},
    "PLE": {"experts": {"kind": "ple", "num_levels": 2, "task_experts": 2, "shared_experts": 3, "hidden": [16]}},
}
"""Section 5.1 of the paper: 8 experts of 16 units, towers of 8, and a shared bottom of as many weights, 13,056 without
gates and biases. Two levels of 7 experts bring PLE, which is not in the paper, to the same number."""
NOISE_VARIANCE = 0.01
"""Mean squared error that no model can get below."""


@dataclass(frozen=True)
class Setting:
    """All that decides about a run's outcome. Equal seeds give the models equal data, in equal order."""

    model: str
    correlation: float
    seed: int
    rate: float
    rows: int
    epochs: int
    batch_size: int

    @property
    def name(self) -> str:
        """How the run is called."""
        return f"{self.model}-p{self.correlation:g}-lr{self.rate:g}-seed{self.seed}"

    @property
    def tree(self) -> dict[str, Any]:
        """The setting with the architecture, as plain values."""
        return asdict(self) | {"architecture": MODELS[self.model], "towers": TOWERS}


@dataclass(frozen=True)
class World:
    """The paper's data, in memory."""

    spec: Spec
    splits: dict[str, Batch]
    pearson: float
    """Correlation of the two labels, which is not the cosine of their weights."""

    @classmethod
    def make(cls, rows: int, correlation: float, seed: int) -> "World":
        """Prepare the data as ``recsys-mtl prepare synthetic --correlation`` does, and read it."""
        raw = prepare(rows, correlation=correlation, seed=seed)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "data"
            spec = write_dataset(raw, path)
            splits = {split: whole_split(path, spec, split) for split in SPLITS}
        return cls(spec, splits, label_pearson(raw))


def whole_split(path: Path, spec: Spec, split: str) -> Batch:
    """Read a split as one batch."""
    groups = row_groups(path, split)
    rows = sum(group.rows for group in groups)
    layout = BatchLayout.of(spec, task_names(spec.tasks))
    (batch,) = EvalReader(groups, layout, batch_size=rows, worker=Worker())
    return batch


def learn(setting: Setting, world: World) -> Result:
    """Train one model and measure it after the last step."""
    started = time.perf_counter()
    torch.manual_seed(setting.seed)
    config = validate(ModelConfig, {**MODELS[setting.model], "heads": TOWERS})
    model = config.build(world.spec, world.spec.tasks)
    # The paper's optimiser: Adam with a rate that does not change.
    optim = DenseConfig(lr=setting.rate, decay="none", warmup_steps=0, clip_norm=None)
    step = TrainStep(model, ObjectiveConfig().build(world.spec.tasks), optim, total_steps=1)
    curve = []
    for epoch in range(setting.epochs):
        for batch in shuffled(world.splits["train"], setting, epoch):
            step(batch)
        curve.append(errors(model, world, "valid"))
    return asdict(setting) | {
        "valid": curve[-1],
        "test": errors(model, world, "test"),
        "curve": [sum(pair) / len(pair) for pair in curve],
        "pearson": world.pearson,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": time.perf_counter() - started,
    }


def shuffled(split: Batch, setting: Setting, epoch: int) -> Iterator[Batch]:
    """Yield an epoch's batches in an order of the seed and the epoch; rows that fill no batch are left out."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(setting.seed * 10_007 + epoch))
    for first in range(0, max(len(split) - setting.batch_size, 0) + 1, setting.batch_size):
        rows_B = order[first : first + setting.batch_size]
        dense, labels, weights, groups = (part[rows_B] for part in split.parts()[2:])
        yield Batch(split.pooled, split.events, dense, labels, weights, groups)  # no ids, hence nothing to take of them


def errors(model: RankingModel, world: World, split: str) -> list[float]:
    """Return the mean squared error of each task."""
    batch = world.splits[split]
    model.eval()
    with torch.no_grad():
        losses_BT = task_losses(model(batch), batch.labels_BT, world.spec.tasks)
    model.train()
    return [value if math.isfinite(value) else math.inf for value in losses_BT.mean(0).tolist()]
