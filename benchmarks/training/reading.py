"""How fast files are read: scanned by Arrow alone, and as shuffled batches; and how fast they are written."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from benchmarks.training.exchange import Job
from benchmarks.training.session import alone, program_of
from benchmarks.training.turns import in_turn
from pipelines.prepare.synthetic import prepare
from pipelines.worker import WorkerProgram
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.reader import Cursor


def reading(job: Job) -> dict[str, Any]:
    """Time a pass over the training files in three ways, and the preparation of some rows."""
    with alone(job["threads"]), tempfile.TemporaryDirectory() as directory:
        program = program_of(job)
        prepared = job["prepared_rows"]
        works = {
            "scan": lambda: scan(program, job["threads"]),
            "read": lambda: read(program),
            "prepare": lambda: write_dataset(prepare(prepared), Path(directory) / "data"),
        }
        seconds = in_turn(works, turns=job["turns"], seconds=job["seconds"])
        rows = program.reader.rows
        return {"seconds": seconds, "amounts": {"scan": rows, "read": rows, "prepare": prepared}}


def scan(program: WorkerProgram, threads: int) -> None:
    """Decode all columns that training needs, and drop them."""
    pa.set_cpu_count(threads)
    paths = sorted({str(group.path) for group in program.reader.groups})
    for _ in ds.dataset(paths).to_batches(columns=program.layout.columns, use_threads=threads > 1):
        pass


def read(program: WorkerProgram) -> None:
    """Read, shuffle and collate one epoch, as the only worker."""
    for _ in program.reader.epoch(Cursor()):
        pass
