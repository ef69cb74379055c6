"""Batches without a finite loss, and row groups that cannot be read: left out alike by all workers, and counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from pipelines.run import TrainRun
from pipelines.worker import WorkerProgram
from recsys_mtl.config import validate
from recsys_mtl.data.reader import Worker
from recsys_mtl.storage import locate
from recsys_mtl.training.shelf import MARK
from tests import builders
from tests.distributed.processes import run_workers
from tests.distributed.test_checkpoint import KILLED_AT, RANDOM, Diary
from tests.unit.data.test_damage import damage

pytestmark = [pytest.mark.dist, pytest.mark.slow]

DAMAGED, POISONED = 4, 9
"""Row groups of 60 rows, of 14."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training split with an infinite number, and a row group that cannot be read."""
    path = tmp_path_factory.mktemp("faults") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys_mtl.data.shard_writer.ROW_GROUP_ROWS", 60)
        builders.prepared(path, rows=800)
    poison(path / "train" / "part-00000.parquet", row=POISONED * 60 + 7)
    damage(path / "train" / "part-00000.parquet", DAMAGED)
    return path


def poison(path: Path, *, row: int) -> None:
    table = pq.read_table(path)
    column = table.column_names.index("quality")
    values = table["quality"].to_numpy().copy()
    values[row] = np.inf
    table = table.set_column(column, table.schema.field(column), pa.array(values))
    pq.write_table(table, path, row_group_size=60, write_page_checksum=True)


class Witness(Diary):
    """Keeps the records of batches that are not finite."""

    def __init__(self, kill_at: int | None) -> None:
        super().__init__(kill_at)
        self.records: list[Any] = []

    def on_not_finite(self, record: Any) -> None:
        self.records.append(record)


def work(worker: Worker, run: TrainRun, folder: Path, kill_at: int | None) -> dict[str, Any]:
    witness = Witness(kill_at if worker.rank == worker.world - 1 else None)
    trained = WorkerProgram(run, worker, torch.device("cpu"), checkpoint_dir=locate(folder)).train(witness)
    outcome = trained.outcome
    counts = {"steps": outcome.steps, "left_out": outcome.left_out, "damaged": outcome.damaged}
    return {"outcome": counts, "weights": dict(trained.weights), "losses": witness.losses, "records": witness.records}


def make_run(data: Path, *, damaged: int = 1, not_finite: int = 2) -> TrainRun:
    tree: dict[str, Any] = {
        "data": {"path": str(data), "reader": {"skip_damaged": damaged}},
        "model": RANDOM,
        "trainer": {"batch_size": 64, "epochs": 2, "eval_every": 13, "checkpoint": {"every_steps": 4}},
        "optim": {"dense": {"lr": 0.01, "warmup_steps": 3}},
        "health": {"enabled": False},
    }
    tree["trainer"]["skip_not_finite"] = not_finite
    return validate(TrainRun, tree)


def test_what_is_left_out_is_the_same_for_any_workers_and_after_a_kill(tmp_path: Path, data: Path) -> None:
    run = make_run(data)
    whole, other = run_workers(2, tmp_path, work, run, tmp_path / "whole", None)
    damaged = {f"part-00000.parquet row group {DAMAGED}": 120}
    left_out = {"not_finite_batches": 2, "damaged_row_groups": 1, "damaged_rows": 120}
    assert whole["outcome"] == other["outcome"] == {"steps": 26, "left_out": left_out, "damaged": damaged}
    assert all(weight.isfinite().all() for weight in whole["weights"].values())
    assert whole["records"] == other["records"]
    for record in whole["records"]:
        holders = {p["worker"] for p in record["places"] if p["row_group"] == POISONED and 7 in p["rows"]}
        assert len(holders) == 1
        assert holders <= set(record["workers"])  # statistics over all rows make others not finite, too
    with pytest.raises(ProcessExitedException):
        run_workers(2, tmp_path, work, run, tmp_path / "run", KILLED_AT)
    (resumed, _) = run_workers(2, tmp_path, work, run, tmp_path / "run", None)
    assert resumed["outcome"] == whole["outcome"]
    assert resumed["losses"] == pytest.approx(whole["losses"], rel=1e-6)
    assert all(torch.equal(resumed["weights"][name], weight) for name, weight in whole["weights"].items())
    (alone,) = run_workers(1, tmp_path, work, run, tmp_path / "alone", None)
    assert alone["outcome"] == whole["outcome"]
    assert alone["losses"].keys() == whole["losses"].keys()


def test_a_run_that_ended_for_a_batch_goes_on_without_it(tmp_path: Path, data: Path) -> None:
    problem = r"step \d+ \(batch \d+ of epoch 2\): the loss of .* not_finite/step-0000\d\d\.json among the run's files"
    with pytest.raises(ProcessRaisedException, match=problem):
        run_workers(1, tmp_path, work, make_run(data, not_finite=1), tmp_path / "run", None)
    assert list((tmp_path / "run").glob(f"*/{MARK}"))
    (resumed,) = run_workers(1, tmp_path, work, make_run(data), tmp_path / "run", None)
    assert resumed["outcome"]["left_out"]["not_finite_batches"] == 2
    assert len(resumed["records"]) == 1


def test_one_row_group_too_many_ends_the_run_on_all_workers(tmp_path: Path, data: Path) -> None:
    run = make_run(data)
    (tmp_path / "data").mkdir()
    for entry in data.iterdir():
        (tmp_path / "data" / entry.name).symlink_to(entry)
    (tmp_path / "data" / "train").unlink()
    (tmp_path / "data" / "train").mkdir()
    shard = tmp_path / "data" / "train" / "part-00000.parquet"
    shard.write_bytes((data / "train" / "part-00000.parquet").read_bytes())
    damage(shard, 11)
    run = run.model_copy(update={"data": run.data.model_copy(update={"path": str(tmp_path / "data")})})
    problem = r"2 row groups cannot be read, 1 may be left out \(data\.reader\.skip_damaged\)"
    with pytest.raises(ProcessRaisedException, match=problem):
        run_workers(2, tmp_path, work, run, tmp_path / "run", None)
