from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.data import newest
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.newest import FEATURES, NewestOf, NewestRows, last_rows, stored_columns
from recsys_mtl.data.raw import RawData
from tests import builders


def test_the_last_row_of_every_key_is_kept_in_the_order_of_rows() -> None:
    table = pa.table({"key": [3, 1, None, 3, 2, 1], "x": [0, 1, 2, 3, 4, 5]})
    assert last_rows(table, "key").to_pydict() == {"key": [3, 2, 1], "x": [3, 4, 5]}


def test_keys_that_mean_the_same_are_one() -> None:
    table = pa.table({"key": ["7", "", "7"], "x": [0, 1, 2]})
    assert last_rows(table, "key").to_pydict() == {"key": ["7"], "x": [2]}
    assert last_rows(pa.table({"key": [7.0, 7.5, 7.0], "x": [0, 1, 2]}), "key")["x"].to_pylist() == [1, 2]


@pytest.mark.parametrize("pending", [1, 7, 10**6])
def test_tables_are_one_after_the_other(monkeypatch: pytest.MonkeyPatch, pending: int) -> None:
    monkeypatch.setattr(newest, "PENDING_ROWS", pending)
    rng = np.random.default_rng(0)
    keys, values = rng.integers(0, 9, 100), np.arange(100)
    kept = NewestOf("user", "key", ["key", "x"])
    for start in range(0, 100, 10):
        kept.offer(pa.table({"key": keys[start : start + 10], "x": values[start : start + 10], "more": range(10)}))
    table = kept.newest()
    assert table is not None
    expected = dict(zip(keys.tolist(), values.tolist(), strict=True))
    assert dict(zip(table["key"].to_pylist(), table["x"].to_pylist(), strict=True)) == expected


def test_an_entity_that_is_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(newest, "MOST_BYTES", 0)
    rows = NewestRows(builders.schema())
    rows.offer(builders.raw_table(400, seed=1))
    rows.save(tmp_path)
    assert not list((tmp_path / FEATURES).iterdir())


def test_crosses_are_no_columns_of_an_item() -> None:
    columns = stored_columns(builders.schema(), frozenset({"quality"}))
    assert columns["user"] == ("user", ["user", "city", "history_item", "history_author", "age"])
    assert columns["item"] == ("video", ["video", "author", "tags", "duration"])


def test_a_prepared_data_set_keeps_what_training_knew_last(tmp_path: Path) -> None:
    raw = builders.raw_data()
    write_dataset(RawData(raw.schema, raw.splits, frozenset({"author"})), tmp_path / "data")
    train = pa.concat_tables(raw.splits["train"]())
    for name, key in (("users", "user"), ("items", "video")):
        found = pq.read_table(tmp_path / "data" / FEATURES / f"{name}.parquet")
        last = {row[key]: {column: row[column] for column in found.column_names} for row in train.to_pylist()}
        assert {row[key]: row for row in found.to_pylist()} == last
        assert "author" not in found.column_names
    write_dataset(raw, tmp_path / "data")  # it is recognised as a data set, and replaced
