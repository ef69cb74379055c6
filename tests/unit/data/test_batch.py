import copy
import math
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys_mtl.data.batch import Batch, BatchLayout, blank, collate, event_tables
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.labels import GROUP, WEIGHT
from recsys_mtl.data.pinning import pinned
from tests import builders

LAYOUT = BatchLayout.of(builders.schema(), builders.TASKS)
WEIGHTED = BatchLayout(LAYOUT.pooled, LAYOUT.events, LAYOUT.dense, LAYOUT.labels, weighted=True)


@pytest.fixture(scope="module")
def encoded(data: Path) -> pa.Table:
    table = pq.read_table(data / "train")
    weights = np.random.default_rng(0).random(table.num_rows).astype(np.float32)
    return table.append_column(WEIGHT, pa.array(weights))


def assert_naive(batch: Batch, table: pa.Table, layout: BatchLayout = WEIGHTED) -> None:
    """Compare a batch with a loop over rows."""
    rows = table.to_pylist()
    for found, keys in ((batch.pooled, layout.pooled), (batch.events, layout.events)):
        assert found.keys() == list(keys)
        for key in keys:
            lists = [row[key] if isinstance(row[key], list) else [row[key]] for row in rows]
            assert found[key].lengths().tolist() == [len(ids) for ids in lists]
            assert found[key].values().tolist() == [i for ids in lists for i in ids]
    np.testing.assert_array_equal(batch.dense_BC, [[row[name] for name in layout.dense] for row in rows])
    labels = [[math.nan if row[name] is None else row[name] for name in layout.labels] for row in rows]
    np.testing.assert_array_equal(batch.labels_BT, labels)
    assert batch.weights_B.tolist() == [row[WEIGHT] for row in rows]
    assert batch.groups_B.tolist() == [row[GROUP] for row in rows]
    assert len(batch) == len(rows)


def test_features_of_a_sequences_tables_are_events_and_the_others_pooled() -> None:
    assert event_tables(builders.schema()) == {"item", "author"}
    assert LAYOUT.events == ("history_item", "history_author", "item", "author")
    assert LAYOUT.pooled == ("user", "city", "age", "tags", "hour")
    assert LAYOUT.dense == ("duration", "quality")
    assert LAYOUT.labels == ("label.click", "label.like", "label.watch")
    assert not LAYOUT.weighted


def test_columns_are_what_shards_have(data: Path) -> None:
    assert sorted(LAYOUT.columns) == sorted(pq.read_schema(data / "train" / "part-00000.parquet").names)
    assert WEIGHTED.columns == [*LAYOUT.columns, WEIGHT]
    assert BatchLayout.of(builders.schema(), ("watch",)).labels == ("label.watch",)


def test_a_batch_is_what_a_loop_over_rows_gives(encoded: pa.Table) -> None:
    assert_naive(collate(encoded, WEIGHTED), encoded)


@settings(max_examples=30)
@given(st.integers(0, 399), st.integers(1, 50), st.lists(st.integers(0, 49), max_size=3))
def test_slices_and_chunks_make_no_difference(encoded: pa.Table, start: int, length: int, cuts: list[int]) -> None:
    part = encoded.slice(start, length)
    edges = sorted({0, part.num_rows, *(cut % part.num_rows for cut in cuts)})
    pieces = [part.slice(low, high - low) for low, high in pairwise(edges)]
    assert_naive(collate(pa.concat_tables(pieces), WEIGHTED), part)


def test_tensors_have_the_types_that_models_expect(encoded: pa.Table) -> None:
    batch = collate(encoded, WEIGHTED)
    for jagged in (batch.pooled, batch.events):
        assert jagged.values().dtype == torch.int64
        assert jagged.lengths().dtype == torch.int32
    floats = (batch.dense_BC, batch.labels_BT, batch.weights_B)
    assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert batch.groups_B.dtype == torch.int64


def test_a_batch_owns_its_memory(encoded: pa.Table) -> None:
    batch, again = collate(encoded, WEIGHTED), collate(encoded, WEIGHTED)
    for tensor in (*batch.parts()[2:], batch.pooled.values(), batch.events.values()):
        tensor.zero_()
    assert_naive(again, encoded)
    assert_naive(collate(encoded, WEIGHTED), encoded)


def test_requests_have_neither_labels_nor_group_nor_weight(data: Path) -> None:
    raw = builders.raw_table(3, 5).drop_columns(list(builders.TASKS))
    batch = collate(Encoder.load(data).encode(raw), WEIGHTED)
    assert batch.labels_BT.shape == (3, 0)
    assert batch.weights_B.tolist() == [1, 1, 1]
    assert batch.groups_B.tolist() == [0, 0, 0]
    assert batch.dense_BC.isfinite().all()


def test_a_table_without_rows_is_a_batch_without_rows(encoded: pa.Table) -> None:
    batch = collate(encoded.slice(0, 0), WEIGHTED)
    assert len(batch) == 0
    assert batch.dense_BC.shape == (0, 2)
    assert batch.labels_BT.shape == (0, 3)
    assert batch.pooled.keys() == list(WEIGHTED.pooled)
    assert batch.pooled.values().numel() == batch.pooled.lengths().numel() == 0


def test_features_of_one_kind_alone_make_a_batch() -> None:
    numbers = BatchLayout(pooled=(), events=(), dense=("x",), labels=(), weighted=False)
    batch = collate(pa.table({"x": pa.array([1.5, 2.5], pa.float32())}), numbers)
    assert batch.dense_BC.tolist() == [[1.5], [2.5]]
    assert batch.pooled.keys() == batch.events.keys() == []
    ids = BatchLayout(pooled=("x",), events=(), dense=(), labels=(), weighted=False)
    batch = collate(pa.table({"x": pa.array([1, 2], pa.int32())}), ids)
    assert batch.dense_BC.shape == (2, 0)
    assert batch.pooled["x"].values().tolist() == [1, 2]


@pytest.mark.parametrize("layout", [LAYOUT, WEIGHTED])
def test_a_blank_batch_is_one_row_that_counts_for_nothing(layout: BatchLayout) -> None:
    batch = blank(layout)
    assert len(batch) == 1
    assert batch.labels_BT.shape == (1, 3)
    assert batch.labels_BT.isnan().all()
    assert batch.weights_B.tolist() == [0.0]
    assert batch.dense_BC.shape == (1, 2)
    assert batch.pooled.keys() == list(layout.pooled)
    assert batch.events.keys() == list(layout.events)


def values(part: Any) -> list[torch.Tensor]:
    return [part.values(), part.lengths()] if isinstance(part, KeyedJaggedTensor) else [part]


def test_a_batch_moves_as_a_whole(encoded: pa.Table) -> None:
    moved = collate(encoded, WEIGHTED).to(torch.device("meta"), non_blocking=True)
    assert [field.name for field in fields(Batch)] == list(vars(moved))
    assert {tensor.device.type for part in moved.parts() for tensor in values(part)} == {"meta"}
    assert len(moved) == 400
    assert moved.pooled.keys() == list(WEIGHTED.pooled)
    assert_naive(collate(encoded, WEIGHTED).to(torch.device("cpu")), encoded)


class Recorder:
    """Stands for a tensor and writes down what is asked of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[Any] = []

    def record_stream(self, stream: Any) -> None:
        self.asked.append(stream)

    def pin_memory(self) -> "Recorder":
        pinned = copy.copy(self)
        pinned.name = f"pinned {self.name}"
        return pinned


def test_every_part_is_pinned_and_recorded() -> None:
    names = [field.name for field in fields(Batch)]
    parts: list[Any] = [Recorder(name) for name in names]
    batch = Batch(*parts)
    pinned: list[Any] = list(batch.pin_memory().parts())
    assert [part.name for part in pinned] == [f"pinned {name}" for name in names]
    stream: Any = object()
    batch.record_stream(stream)
    assert [part.asked for part in parts] == [[stream]] * 6


def test_batches_are_pinned_for_a_gpu_by_a_thread_that_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    batches: list[Any] = [Recorder("first"), Recorder("second")]
    assert list(pinned(iter(batches), torch.device("cpu"))) == batches
    assert used == []
    device = torch.device("cuda", 3)
    found: list[Any] = list(pinned(iter(batches), device))
    assert ([batch.name for batch in found], used) == (["pinned first", "pinned second"], [device])
