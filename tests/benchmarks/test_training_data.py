"""Generated data sets, and the measurements that are made on them."""

import itertools
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.training.exchange import Job
from benchmarks.training.models import MODELS, SMALL, generated_run
from benchmarks.training.ours import epoch, step
from benchmarks.training.parts import parts, table_bytes
from benchmarks.training.peers.data import field_names, task_names
from benchmarks.training.profiling import profile
from benchmarks.training.reading import reading
from benchmarks.training.session import CPU, batches_of, program_of
from benchmarks.training.shapes import HISTORY, Shape, bucket_of_ids, encode, generated, raw_rows, write, zipf
from benchmarks.training.stopwatch import Pace
from pipelines.worker import WorkerProgram
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import Cursor, Worker
from recsys_mtl.data.spec import make_spec

SHAPE = Shape(rows=300, vocabulary=50, fields=4, tasks=3, dim=8)
AT_ONCE = Pace(warm_up_steps=1, warm_up_s=0.0, fewest=2, seconds=0.0)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    data = generated(SHAPE, tmp_path_factory.mktemp("shapes"))
    fields = {"data": str(data), "model": MODELS["MMoE"], "shape": asdict(SHAPE), "batch_sizes": [64], "threads": 1}
    measured = {"turns": 2, "seconds": 0.0, "low": True, "stream_floats": 1000, "prepared_rows": 1000}
    return fields | {"pace": asdict(AT_ONCE)} | measured


@pytest.mark.parametrize("events", [0, 5])
def test_ids_are_encoded_as_the_library_encodes_them(events: int) -> None:
    shape = replace(SHAPE, events=events)
    raw = raw_rows(shape, 200, seed=(0, 0))
    expected = Encoder(make_spec(shape.schema, {}, {}), {}).encode(raw)
    found = encode(raw, shape, bucket_of_ids(shape.vocabulary))
    assert found.select(expected.column_names).equals(expected)
    assert (HISTORY in found.column_names) == bool(events)


def test_a_data_set_is_read_as_any_other(job: Job) -> None:
    program = WorkerProgram(generated_run(job["data"], SMALL, 64), Worker(), CPU)
    batches = list(program.reader.epoch(Cursor()))
    assert sum(len(batch) for batch in batches) == SHAPE.rows
    assert set(program.spec.rows.values()) == {SHAPE.vocabulary + 2}
    assert field_names(job) == SHAPE.field_names
    assert task_names(job) == SHAPE.task_names
    ids = batches[0].pooled.values()
    assert ids.min() >= 2
    assert ids.max() < SHAPE.vocabulary + 2


def test_the_same_shape_is_the_same_data(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(SHAPE, tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert {str(name).split("/")[0] for name in files} >= {"train", "valid", "test", "spec.yaml", "golden.jsonl"}


def test_shapes_have_folders_of_their_own(tmp_path: Path) -> None:
    shapes = [SHAPE, *(replace(SHAPE, **{name: 9}) for name in asdict(SHAPE))]
    assert len({shape.name for shape in shapes}) == len(shapes)
    path = generated(SHAPE, tmp_path)
    (path / "mark").touch()
    assert (generated(SHAPE, tmp_path) / "mark").exists()


def test_ids_fall_as_one_over_their_rank() -> None:
    counts = np.bincount(zipf(np.random.default_rng(0), 400_000, 1000), minlength=1000)
    assert len(counts) == 1000
    assert counts[0] / counts[1] == pytest.approx(np.log(2) / np.log(1.5), rel=0.05)
    assert counts[:10].sum() / counts[10:110].sum() == pytest.approx(np.log(11) / np.log(111 / 11), rel=0.05)


@pytest.mark.parametrize("measure", [step, epoch, parts, reading, profile])
def test_every_measurement_of_ours_comes_to_its_end(measure: Callable[[Job], dict[str, Any]], job: Job) -> None:
    found = measure(job)
    if measure in (step, epoch):
        (rate,) = found["rates"]
        assert rate["batch_size"] == 64
        assert rate["rows_per_s"] > 0
    if measure in (parts, reading):
        assert {len(seconds) for seconds in found["seconds"].values()} == {2}
        assert found["amounts"].keys() <= found["seconds"].keys()
    if measure is profile:
        assert sum(share for _, share, _ in found["shares"]) <= 1


def test_bytes_of_a_step_on_tables(job: Job) -> None:
    program = program_of(job)
    (batch, *_) = batches_of(program)
    row, ids = 4 * SHAPE.dim, [batch.pooled[name].values().tolist() for name in SHAPE.field_names]
    looked_up = sum(len(column) * (8 + row + row + row) for column in ids)
    updated = sum(len(set(column)) * 2 * (row + 4) for column in ids)
    assert table_bytes(batch, program.spec) == looked_up + updated


def test_batches_in_memory_are_the_epochs_first(job: Job) -> None:
    program = program_of(job)
    first = itertools.islice(program.reader.epoch(Cursor()), 3)
    for mine, its in zip(batches_of(program, 3), first, strict=True):
        assert mine.labels_BT.equal(its.labels_BT)
