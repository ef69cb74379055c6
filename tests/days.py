"""Days for tests: a small base, a trained model of it, and days with values that the base does not have."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipelines.bundling import make_bundle
from pipelines.run import TrainRun
from pipelines.worker import RunListener, WorkerProgram
from recsys_mtl.config import validate
from recsys_mtl.data.day import RawDay, write_day
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import Worker
from recsys_mtl.training.moments import MOMENTS_FOLDER, save_moments
from recsys_mtl.training.select import Metrics
from tests import builders

FIRST = date(2022, 4, 22)


def write_days(
    directory: Path, days: int = 1, *, rows: int = 200, base_rows: int = 60, hold_out: float = 0.0, wrong: int = 0
) -> list[Path]:
    """Write a base of few rows, so that each day brings new users and videos, and days that grow one by one.

    Clicks of day number ``wrong``, counted from 1, are the opposite of what they should be.
    """
    builders.prepared(directory / "base", rows=base_rows)
    paths, before = [], directory / "base"
    for number in range(days):
        day, is_wrong = FIRST.replace(day=FIRST.day + number), number + 1 == wrong
        paths.append(add_day(directory, day, before, seed=50 + number, rows=rows, hold_out=hold_out, wrong=is_wrong))
        before = paths[-1]
    return paths


def add_day(
    directory: Path, day: date, before: Path, *, seed: int, rows: int = 200, hold_out: float = 0.0, wrong: bool = False
) -> Path:
    table = builders.raw_table(rows, seed)
    if wrong:
        opposite = pc.subtract(pa.scalar(1, pa.int8()), table["click"])
        table = table.set_column(table.column_names.index("click"), "click", opposite)
    raw = RawDay(builders.schema(), day, lambda: iter([table]))
    write_day(raw, directory / day.isoformat(), base=Encoder.load(before), hold_out=hold_out)
    return directory / day.isoformat()


def make_run(data: Path, **changes: Any) -> TrainRun:
    tree: dict[str, Any] = {
        "data": {"path": str(data)},
        "model": builders.MODEL,
        "trainer": {"batch_size": 32, "eval_batch_size": 50},
        "optim": {"dense": {"lr": 0.01, "warmup_steps": 0, "decay": "none"}},
        "health": {"enabled": False},
        "run_name": "test",
    }
    return validate(TrainRun, {**tree, **changes})


class Ear(RunListener):
    """A listener that writes down how good a model is on rows that it is about to learn."""

    def __init__(self) -> None:
        self.first_look: Metrics = {}
        self.evaluations = 0

    def on_first_look(self, metrics: Metrics) -> None:
        self.first_look = metrics

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:  # noqa: ARG002  a listener's signature
        self.evaluations += 1


def train_bundle(worker: Worker, run: TrainRun, home: Path) -> Ear:
    """Train as a Ray worker does, and leave bundle and moments as a run leaves them."""
    ear = Ear()
    trained = WorkerProgram(run, worker, torch.device("cpu")).train(ear)
    if worker.rank == 0:
        make_bundle(run, trained, home / "bundle", run_id="none")
        save_moments(trained.moments, home / MOMENTS_FOLDER)
    return ear


def metrics_of(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "metrics.json").read_text())
    return found
