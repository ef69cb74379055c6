"""torch-rechub: ``MTLTrainer`` over the loaders of ``DataGenerator``.

Its perceptrons normalise every layer by batch statistics, which cannot be turned off. Weight decay, which its trainer
has by default, is off, as on all sides.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.multi_task import MMOE, PLE
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator

from benchmarks.training.exchange import Job, answer
from benchmarks.training.peers.data import Inputs, field_names, pace_of, sizes, table_rows, task_names
from benchmarks.training.stopwatch import Timed


def step(job: Job) -> dict[str, Any]:
    """Time the trainer on batches that lie in memory, at every batch size."""
    torch.set_num_threads(job["threads"])
    inputs, trainer = Inputs.read(job), make_trainer(job)
    rates = [learn(trainer, inputs.batches(size), size, job) for size in job["batch_sizes"]]
    return {"rates": rates, **sizes(trainer.model)}


def epoch(job: Job) -> dict[str, Any]:
    """Time the trainer over the library's own loader, from Parquet files."""
    torch.set_num_threads(job["threads"])
    inputs, trainer = Inputs.read(job), make_trainer(job)
    (size,) = job["batch_sizes"]
    few = ({name: column[:size] for name, column in inputs.ids.items()}, inputs.labels_NT[:size])
    loader, _, _ = DataGenerator(inputs.ids, inputs.labels_NT).generate_dataloader(
        *few, *few, batch_size=size, num_workers=job["loaders"]
    )
    return {"rates": [learn(trainer, loader, size, job)], "read_s": inputs.seconds, **sizes(trainer.model)}


def learn(trainer: Any, batches: Iterable[Any], batch_size: int, job: Job) -> dict[str, Any]:
    """Let the trainer pass over batches."""
    timed = Timed(batches, pace_of(job))
    trainer.train_one_epoch(timed)
    return timed.measured(batch_size)


def make_trainer(job: Job) -> Any:
    """Build model and trainer."""
    kinds = ["classification"] * len(task_names(job))
    fields = [SparseFeature(name, table_rows(job), embed_dim=job["shape"]["dim"]) for name in field_names(job)]
    experts, towers = job["model"]["experts"], [{"dims": job["model"]["heads"]["hidden"]} for _ in kinds]
    widths = {"dims": experts["hidden"]}
    if experts["kind"] == "mmoe":
        model = MMOE(fields, kinds, experts["num_experts"], widths, towers)
    else:
        counts = (experts["num_levels"], experts["task_experts"], experts["shared_experts"])
        model = PLE(fields, kinds, *counts, widths, towers)
    return MTLTrainer(model, kinds, optimizer_params={"lr": 1e-3, "weight_decay": 0.0}, n_epoch=1)


if __name__ == "__main__":
    answer({"step": step, "epoch": epoch})
