"""One training process without Ray: a process group of one, and the parts of a run as a worker has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.quality.flops import size_of
from benchmarks.training.exchange import Job
from benchmarks.training.models import generated_run, kuairand_run
from benchmarks.training.stopwatch import Pace
from pipelines.quiet import quiet
from pipelines.run import TrainRun
from pipelines.threads import share_out
from pipelines.worker import WorkerProgram
from recsys_mtl.data.batch import Batch
from recsys_mtl.data.reader import Cursor, Worker
from recsys_mtl.training.step import TrainStep

CPU = torch.device("cpu")
BATCHES = 8
"""Batches in memory, which come again and again."""


@contextmanager
def alone(threads: int) -> Iterator[None]:
    """Be the only worker."""
    quiet()
    share_out(threads)
    store = dist.HashStore()  # type: ignore[attr-defined]  # which torch exports from C
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def run_of(job: Job, batch_size: int | None = None) -> TrainRun:
    """Configure the run that a job is about: a model on generated data, or one of KuaiRand's settings."""
    if "kuairand" in job:
        return kuairand_run(job["data"], job["kuairand"])
    settings = job.get("settings", {})
    return generated_run(job["data"], job["model"], batch_size or job["batch_sizes"][0], **settings)


def program_of(job: Job, batch_size: int | None = None) -> WorkerProgram:
    """Make a worker's parts."""
    return WorkerProgram(run_of(job, batch_size), Worker(), CPU)


def training_step(program: WorkerProgram) -> TrainStep:
    """Make the step of a fresh model that learns."""
    step = program.first_step()
    step.model.train()
    return step


def batches_of(program: WorkerProgram, count: int = BATCHES) -> list[Batch]:
    """Read the first batches of an epoch into memory."""
    epoch = program.reader.epoch(Cursor())
    return [next(epoch) for _ in range(min(count, program.reader.steps))]


def sizes(program: WorkerProgram) -> dict[str, Any]:
    """Count weights and multiply-adds."""
    return asdict(size_of(program.run, program.spec))


def pace_of(job: Job) -> Pace:
    """Return how long to measure."""
    return Pace(**job["pace"])
