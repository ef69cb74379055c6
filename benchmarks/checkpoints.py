"""``python -m benchmarks.checkpoints``: what checkpoints cost a training run, synchronous and asynchronous ones.

The three kinds of runs take turns, so that whatever else the machine does meets all of them; figures are medians.
"""

import json
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
import typer
from torch.multiprocessing.spawn import spawn

from benchmarks.text import machine, markdown_table, number
from pipelines.quiet import quiet
from recsys_mtl.config import validate
from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.raw import RawData
from recsys_mtl.data.reader import ReaderConfig, TrainReader, Worker
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.shards import row_groups
from recsys_mtl.model import ModelConfig
from recsys_mtl.objectives.losses import ObjectiveConfig
from recsys_mtl.storage import locate
from recsys_mtl.training.checkpoint import CheckpointConfig, Checkpoints
from recsys_mtl.training.loop import Trainer, TrainerConfig
from recsys_mtl.training.optim import DenseConfig, SparseConfig
from recsys_mtl.training.progress import Listener
from recsys_mtl.training.sharding import initialise_tables, shard
from recsys_mtl.training.step import TrainStep

KINDS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "synchronous": {"asynchronous": False},
    "asynchronous": {"asynchronous": True},
}
DIM, BATCH_SIZE = 64, 4096
MODEL = {"bottom": {"kind": "shared", "hidden": [128]}, "experts": {"kind": "mmoe"}}


@dataclass(frozen=True)
class Shape:
    """What all measured runs have in common."""

    data: Path
    place: str
    steps: int
    every: int
    repeats: int


def main(
    megabytes: Annotated[int, typer.Option(min=1, help="Size of all tables.")] = 400,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a run.")] = 150,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="Runs behind each median.")] = 3,
    workers: Annotated[str, typer.Option(help="Comma-separated numbers of processes.")] = "1,2",
    place: Annotated[
        str | None, typer.Option(help="Where checkpoints are written, if not to a temporary folder.")
    ] = None,
) -> None:
    """Measure and print a Markdown report."""
    quiet()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        write(home / "data", steps * BATCH_SIZE, megabytes)
        shape = Shape(home / "data", place or str(home / "checkpoints"), steps, every, repeats)
        rows = [row for world in workers.split(",") for row in table_rows(int(world), measure(shape, int(world), home))]
    header = ["checkpoints", "workers", "run, s", "more time"]
    about = f"Tables of {megabytes} MB, {steps} steps of {BATCH_SIZE} rows, a checkpoint every {every} steps"
    typer.echo(f"{about}; medians of {repeats} runs that take turns.\n{machine()}\n\n{markdown_table(header, rows)}")


def write(path: Path, rows: int, megabytes: int) -> None:
    """Make a data set of random ids, whose two tables have that size."""
    buckets = megabytes * 10**6 // (2 * DIM * 4)
    table = {"encoding": {"kind": "hash", "buckets": buckets}, "dim": DIM}
    features = [{"kind": "id", "name": name, "entity": name} for name in ("user", "item")]
    tasks = [{"kind": "binary", "name": name} for name in ("click", "like")]
    tree = {"features": features, "tasks": tasks, "tables": {"user": table, "item": table}, "group": "user"}
    schema = validate(Schema, tree | {"item": "item"})
    counts = [("train", rows), ("valid", 100), ("test", 100)]
    splits = {split: partial(impressions, count) for split, count in counts}
    write_dataset(RawData(schema, splits), path)


def impressions(rows: int) -> Iterator[pa.Table]:
    """Yield random impressions."""
    rng = np.random.default_rng(0)
    ids = {name: rng.integers(0, 2**40, rows) for name in ("user", "item")}
    yield pa.table(ids | {name: rng.integers(0, 2, rows) for name in ("click", "like")})


def measure(shape: Shape, world: int, home: Path) -> dict[str, list[float]]:
    """Return the seconds that runs of each kind took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = home / "seconds.json"
    spawn(_work, (world, f"tcp://127.0.0.1:{port}", shape, out), nprocs=world)  # type: ignore[no-untyped-call]
    return json.loads(out.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _work(rank: int, world: int, address: str, shape: Shape, out: Path) -> None:
    """Be one of the processes that train."""
    quiet()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    run_s(Worker(rank, world), shape, KINDS["none"])  # warms everything up
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(shape.repeats):
        for kind, config in KINDS.items():
            seconds[kind].append(run_s(Worker(rank, world), shape, config))
    if rank == 0:
        out.write_text(json.dumps(seconds), encoding="utf-8")
    dist.destroy_process_group()


def run_s(worker: Worker, shape: Shape, config: dict[str, Any] | None) -> float:
    """Train once, without evaluation; return the seconds until the last checkpoint is whole."""
    saving = CheckpointConfig(every_steps=shape.every if config else None, keep=1, **(config or {}))
    place = locate(shape.place)
    if worker.rank == 0:
        place.remove()
    dist.barrier()
    trainer = make_trainer(worker, shape, saving)
    trainer.checkpoints = Checkpoints(place, saving, settings={}) if config else None
    started = time.perf_counter()
    outcome = trainer.fit()
    assert outcome.failed_saves == 0
    return time.perf_counter() - started


def make_trainer(worker: Worker, shape: Shape, saving: CheckpointConfig) -> Trainer:
    """Build model, step and reader; there is nothing to evaluate."""
    spec = Encoder.load(shape.data).spec
    model = validate(ModelConfig, MODEL).build(spec, spec.tasks, table_device=torch.device("meta"))
    sharded = shard(model, SparseConfig(), torch.device("cpu"))
    initialise_tables(sharded, 0, deviation=0.01)
    step = TrainStep(sharded, ObjectiveConfig().build(spec.tasks), DenseConfig(), shape.steps)
    layout = BatchLayout.of(spec, tuple(task.name for task in spec.tasks))
    groups = row_groups(shape.data, "train")
    reader = TrainReader(groups, layout, ReaderConfig(), batch_size=BATCH_SIZE, seed=0, worker=worker)
    length = TrainerConfig(steps=shape.steps, epochs=2, batch_size=BATCH_SIZE, checkpoint=saving)
    return Trainer(length, step, reader, dict, Listener())


def table_rows(world: int, seconds: dict[str, list[float]]) -> Iterator[list[str]]:
    """Yield a row for each kind of runs, with what it takes more than one without checkpoints."""
    base = statistics.median(seconds["none"])
    for kind, runs in seconds.items():
        more = statistics.median(run - bare for run, bare in zip(runs, seconds["none"], strict=True))
        yield [kind, str(world), number(statistics.median(runs), 1), f"{more / base:+.1%}"]


if __name__ == "__main__":
    typer.run(main)
