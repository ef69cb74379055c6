"""Anybody's table: how its cells are read."""

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.dataset as ds
import pytest

from pipelines.prepare.table import prepare
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.raw import SPLITS, raw_columns
from tests.pipelines.table_cases import COLUMNS, Make, feature, maker, read, task, write_schema


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


@pytest.mark.parametrize("parquet", [False, True])
def test_values_arrive_in_their_splits(make: Make, parquet: bool) -> None:
    raw = make(parquet=parquet)
    table = read(raw)
    assert table.column_names == list(raw_columns(raw.schema))
    assert [str(value) for value in table["user"].to_pylist()] == [str(user) for user in COLUMNS["user"]]
    assert table["video"].to_pylist() == COLUMNS["video"]
    assert table["age"].to_pylist() == COLUMNS["age"]
    assert table["click"].to_pylist() == COLUMNS["click"]
    assert [read(raw, split).num_rows for split in SPLITS] == [4, 1, 1]
    assert read(raw, "train").equals(read(raw, "train"))


@pytest.mark.parametrize("parquet", [False, True])
def test_a_table_can_be_written(make: Make, tmp_path: Path, parquet: bool) -> None:
    raw = make(parquet=parquet)
    write_dataset(raw, tmp_path / "out")
    written = {split: ds.dataset(tmp_path / "out" / split).count_rows() for split in SPLITS}
    assert written == {split: read(raw, split).num_rows for split in SPLITS}


def test_text_and_parquet_give_the_same_encoded_data(make: Make, tmp_path: Path) -> None:
    history = feature(kind="ids", name="tags", separator="|")
    tags: dict[str, list[Any]] = {
        "tags": ["x|y", "", "y", None, "z|x", "x"],
        "age": [1, 2.5, None, 4, 5, 6],
        "click": [0, 1, None, 1, 0, 1],
    }
    for name, parquet in (("csv", False), ("parquet", True)):
        write_dataset(make(tags, parquet=parquet, **history), tmp_path / name)
    for split in SPLITS:
        frames = [pl.read_parquet(tmp_path / name / split / "*.parquet") for name in ("csv", "parquet")]
        drop = [column for column in frames[0].columns if column == "_group"]  # text is hashed, numbers stay
        assert frames[0].drop(drop).equals(frames[1].drop(drop))


def test_blanks_null_texts_and_blank_lines_are_no_values(tmp_path: Path) -> None:
    text = "user, video ,age,click,fold\n 1 , a,NA, 1,train\n\n2,?,,0 ,valid\n3,c, 7 ,,test\n"
    (tmp_path / "table.csv").write_text(text)
    table = read(prepare(write_schema(tmp_path, csv={"nulls": ["?", "NA"]}), [str(tmp_path / "table.csv")]))
    assert table["user"].to_pylist() == ["1", "2", "3"]
    assert table["video"].to_pylist() == ["a", None, "c"]
    assert table["age"].to_pylist() == [None, None, 7.0]
    assert table["click"].to_pylist() == [1, 0, None]


def test_several_compressed_files_without_header(tmp_path: Path) -> None:
    frame = pl.DataFrame(COLUMNS)
    for number in range(2):
        text = frame.write_csv(include_header=False, separator="\t")
        with gzip.open(tmp_path / f"part{number}.csv.gz", "wt") as file:
            file.write(f"# exported\n{text}")
    options = {"separator": "\t", "header": list(COLUMNS), "comment": "#"}
    raw = prepare(write_schema(tmp_path, csv=options), [str(tmp_path / "*.gz"), str(tmp_path / "part0.csv.gz")])
    assert read(raw).num_rows == 12
    assert read(raw, "valid")["video"].to_pylist() == ["b", "b"]


@pytest.mark.parametrize(
    "cells",
    [["0", "1", "true", "FALSE", "1.0", ""], ["0", "1", "True", "false", "1", None]],
)
def test_labels_may_be_written_as_text(make: Make, cells: list[str]) -> None:
    for parquet in (False, True):
        labels = read(make({"click": cells if not parquet else [cell or None for cell in cells]}, parquet=parquet))
        assert labels["click"].to_pylist() == [0, 1, 1, 0, 1, None]


@pytest.mark.parametrize("cells", [[False, True, True, False, True, None], [0.0, 1.0, 1.0, 0.0, 1.0, float("nan")]])
def test_labels_may_be_typed(make: Make, cells: list[Any]) -> None:
    assert read(make({"click": cells}, parquet=True))["click"].to_pylist() == [0, 1, 1, 0, 1, None]


def test_labels_by_rule(make: Make) -> None:
    columns: dict[str, list[Any]] = {
        "mood": ["sad", "glad.", "glad", "", "sad", "glad"],
        "stars": [1, 4, 5, None, 3.5, 4],
    }
    rules = {"glad": {"column": "mood", "positive": ["glad", "glad."]}, "good": {"column": "stars", "at_least": 4}}
    tasks = {"tasks": [{"kind": "binary", "name": "glad"}, {"kind": "binary", "name": "rated", "label": "good"}]}
    for parquet in (False, True):
        mood = [cell or None for cell in columns["mood"]]
        table = read(make(columns | {"mood": mood}, parquet=parquet, labels=rules, **tasks))
        assert table["glad"].to_pylist() == [0, 1, 1, None, 0, 1]
        assert table["good"].to_pylist() == [0, 1, 1, None, 0, 1]


def test_one_positive_number_may_stand_alone(make: Make) -> None:
    rules = {"liked": {"column": "stars", "positive": 5}}
    for parquet in (False, True):
        raw = make({"stars": [1, 5, 5, None, 3, 4]}, parquet=parquet, labels=rules, **task(kind="binary", name="liked"))
        assert read(raw)["liked"].to_pylist() == [0, 1, 1, None, 0, 0]


def test_whole_floats_and_numbers_beside_text_are_the_same_ids(tmp_path: Path) -> None:
    pl.DataFrame(COLUMNS | {"video": [7.0, 8.0, None, 7.0, 8.0, 7.0]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame(COLUMNS | {"video": ["7", "x", "y", "7", "8", "7"]}).write_parquet(tmp_path / "b.parquet")
    raw = prepare(write_schema(tmp_path), [str(tmp_path / "*.parquet")])
    assert read(raw, "train")["video"].to_pylist() == ["7", "8", None, "7", "7", "x", "y", "7"]


def test_lists_and_sequences_stay_as_they_are(make: Make) -> None:
    columns = [{"name": "seen", "table": "video"}, {"name": "by", "table": "user"}]
    sequence = feature(kind="sequence", name="history", entity="user", columns=columns)
    lists = {"seen": [[], ["a"], ["a", "b"], None, ["c"], ["c"]], "by": [[], [1], [1, 2], [], [3], [3]]}
    table = read(make(lists, parquet=True, **sequence))
    assert table["seen"].to_pylist() == lists["seen"]
    assert table["by"].to_pylist() == lists["by"]
    text = {"seen": ["", "a", "a|b", "", "c", "c"], "by": ["", "1", "1|2", "", "3", "3"]}
    sequence["features"][-1]["separator"] = "|"
    assert read(make(text, **sequence))["by"].to_pylist() == [None, "1", "1|2", None, "3", "3"]
