import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_mtl.data import shard_writer
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.labels import GROUP, encode_targets
from recsys_mtl.data.raw import SPLITS
from recsys_mtl.data.shards import row_groups
from tests import builders
from tests.unit.data.worlds import contents, names


def expected_rows(data: Path, split: str) -> list[str]:
    """Encode a split's raw rows directly."""
    encoder = Encoder.load(data)
    rows: list[str] = []
    for raw in builders.raw_data().splits[split]():
        encoded = encode_targets(encoder.spec, raw, encoder.encode(raw))
        rows += map(str, encoded.to_pylist())
    return rows


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_of_every_split_is_there_encoded(split: str, data: Path) -> None:
    assert sorted(map(str, pq.read_table(data / split).to_pylist())) == sorted(expected_rows(data, split))


def test_the_directory_has_the_documented_parts(data: Path) -> None:
    parts = ["features", "golden.jsonl", "golden.parquet", "spec.yaml", "stats.json", "test", "train", "valid", "vocab"]
    assert names(data) == parts
    assert names(data / "vocab") == [f"{table}.parquet" for table in ("author", "city", "hour", "item", "user")]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_held_out_rows_are_sorted_and_no_group_is_in_two_row_groups(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_writer, "ROW_GROUP_ROWS", 50)
    builders.prepared(tmp_path / "data")
    groups = row_groups(tmp_path / "data", split)
    users = [pq.ParquetFile(group.path.local).read_row_group(group.index)[GROUP].to_numpy() for group in groups]
    assert len(users) > 3
    joined = np.concatenate(users)
    assert (np.diff(joined) >= 0).all()
    assert sum(len(np.unique(rows)) for rows in users) == len(np.unique(joined))


def test_training_rows_are_in_another_order_than_the_log(data: Path) -> None:
    written = list(map(str, pq.read_table(data / "train").to_pylist()))
    assert written != expected_rows(data, "train")


def test_statistics_are_those_of_the_splits(data: Path) -> None:
    stats = json.loads((data / "stats.json").read_text(encoding="utf-8"))
    assert stats["fingerprint"] == Encoder.load(data).spec.fingerprint
    for split in SPLITS:
        raw = [row for table in builders.raw_data().splits[split]() for row in table.to_pylist()]
        likes = [row["like"] for row in raw if row["like"] is not None]
        found = stats["splits"][split]
        assert found["rows"] == len(raw)
        assert found["tasks"]["like"] == {"known": len(likes), "positives": sum(likes), "rate": sum(likes) / len(likes)}
        assert found["fields"]["age"]["missing"] == sum(row["age"] is None for row in raw)


def test_vocabularies_know_the_training_split_alone(data: Path) -> None:
    train = [row for table in builders.raw_data().splits["train"]() for row in table.to_pylist()]
    assert set(Encoder.load(data).vocabularies["user"]) == {str(row["user"]) for row in train}


def test_the_same_data_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        builders.prepared(tmp_path / name, rows=60)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_progress_counts_every_row_of_every_stage(tmp_path: Path) -> None:
    done: dict[str, int] = {}

    def progress(stage: str, rows: int) -> None:
        done[stage] = done.get(stage, 0) + rows

    write_dataset(builders.raw_data(40), tmp_path / "data", progress=progress)
    assert done == {"fit": 40, "train": 40, "valid": 40, "test": 40}
