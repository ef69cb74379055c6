"""This library in a process of its own: steps on batches in memory, and whole epochs from Parquet files."""

import time
from typing import Any

from benchmarks.training.exchange import Job, answer
from benchmarks.training.parts import parts
from benchmarks.training.profiling import profile
from benchmarks.training.reading import reading
from benchmarks.training.session import alone, batches_of, pace_of, program_of, sizes, training_step
from benchmarks.training.stopwatch import Timed
from recsys_mtl.training.loop import Trainer
from recsys_mtl.training.progress import Listener


def step(job: Job) -> dict[str, Any]:
    """Time training steps on batches that lie in memory, at every batch size."""
    with alone(job["threads"]):
        program = program_of(job)
        started = time.perf_counter()
        learn = training_step(program)
        build_s = time.perf_counter() - started
        rates = []
        for size in job["batch_sizes"]:
            timed = Timed(batches_of(program_of(job, size)), pace_of(job))
            for batch in timed:
                learn(batch)
            rates.append(timed.measured(size))
        return {"rates": rates, "build_s": build_s, **sizes(program)}


def epoch(job: Job) -> dict[str, Any]:
    """Train one epoch from Parquet files, as a worker does, without evaluation."""
    with alone(job["threads"]):
        program = program_of(job)
        trainer = Trainer(
            program.run.trainer, training_step(program), program.reader, evaluate=None, listener=Listener()
        )
        seen = trainer.fit()
        (size,) = job["batch_sizes"]
        rate = {
            "batch_size": size,
            "steps": seen.steps,
            "seconds": seen.seconds,
            "rows_per_s": seen.rows / seen.seconds,
        }
        return {"rates": [rate], "waited": seen.waited_s / seen.seconds, **sizes(program)}


if __name__ == "__main__":
    answer({"step": step, "epoch": epoch, "parts": parts, "reading": reading, "profile": profile})
