"""Anybody's table: what a person is told when it does not fit."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.prepare.table import prepare
from tests.pipelines.table_cases import (
    COLUMNS,
    SCHEMA,
    Make,
    feature,
    maker,
    problem,
    problems,
    task,
    write_schema,
)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


DAYS = [date(2022, 5, day) for day in range(1, 7)]
PARQUET_ONLY: dict[str, Any] = {"parquet": True}
SEQUENCE = {"kind": "sequence", "name": "past", "entity": "user", "separator": "|",
            "columns": [{"name": "seen"}, {"name": "by"}]}  # fmt: skip
REFUSED_CELLS = [
    ({"age": [1, 2, "old", 4, "x", 6]}, {}, "column 'age', row 3: expected a number, got 'old' (2 such rows)"),
    ({"click": [0, 1, 2, 0, 1, 0]}, {}, "column 'click', row 3: expected 0, 1, true, false or an empty cell, got '2'"),
    ({"click": [0, 1, 1, 0, 7, 0]}, PARQUET_ONLY,
     "column 'click', row 5: expected 0, 1, true, false or an empty cell, got 7"),
    ({"click": ["yes", "no", "1", "0", "1", "0"]}, {},
     "column 'click', row 1: expected 0, 1, true, false or an empty cell, got 'yes' (2 such rows)"),
    ({"user": [1, None, 2, 2, 3, 3]}, {},
     "column 'user', row 2: expected a value, for rows are ranked within their group, got an empty cell"),
    ({"video": [1.0, 2.5, 3.0, 1.0, 1.0, 1.0]}, PARQUET_ONLY,
     "column 'video', row 2: expected a whole number below 2**53 or text, got 2.5"),
    ({"fold": ["train", "valid", "test", "dev", "train", None]}, {},
     "column 'fold', row 4: expected one of train, valid, test: see split.values, got 'dev' (2 such rows)"),
    ({"watch": [1, 2, -3, 0, 0, 0]}, task(kind="regression", name="watch"),
     "column 'watch', row 3: expected a finite number from 0 on, got '-3'"),
    ({"watch": [1, 2, "inf", 0, 0, 0]}, task(kind="regression", name="watch", transform="identity"),
     "column 'watch', row 3: expected a finite number, got 'inf'"),
    ({"w": [1, 0, None, 1, 1, 1]}, {"weight": "w"},
     "column 'w', row 3: expected a finite number from 0 on, got an empty cell"),
    ({"seen": ["a", "a|b", "", "a", "a", "a"], "by": ["1", "1", "", "1", "1", "1"]},
     {"features": [*SCHEMA["features"], SEQUENCE]},
     "column 'by', row 2: expected as many events as column 'seen' has, got 1"),
    ({"day": ["2022-01-01", "soon", "2022-01-02", "2022-01-03", "2022-01-03", "2022-01-03"]},
     {"split": {"kind": "date", "column": "day", "valid_from": "2022-01-02", "test_from": "2022-01-03"}},
     "column 'day', row 2: expected a date such as 2022-05-02 or 20220502, got 'soon'"),
    ({"fold": ["a", None, "b", "c", "d", "e"]},
     {"split": {"kind": "fraction", "valid": 0.3, "test": 0.3, "by": "fold"}},
     "column 'fold', row 2: expected a value to split by, got an empty cell"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "changes", "message"), REFUSED_CELLS)
def test_a_refused_cell_is_named_with_its_file_column_and_row(
    make: Make, columns: dict[str, list[Any]], changes: dict[str, Any], message: str
) -> None:
    file = "table.parquet" if changes.get("parquet") else "table.csv"
    assert problem(lambda: make(columns, **changes)) == f"{file}: {message}"


def test_ids_beyond_64_bits_are_out_of_range(make: Make) -> None:
    huge = {"video": pl.Series([1, 2, 3, 2**63, 5, 6], dtype=pl.UInt64)}
    expected = "table.parquet: column 'video', row 4: expected an id below 2**63, got 9223372036854775808"
    assert problem(lambda: make(huge, parquet=True)) == expected
    exact = {"video": [1.0, 2.0, 2.0**53, 1.0, 1.0, 1.0]}
    assert "row 3: expected a whole number below 2**53 or text" in problem(lambda: make(exact, parquet=True))


def test_rows_count_from_the_file_they_are_in(tmp_path: Path) -> None:
    pl.DataFrame(COLUMNS).write_csv(tmp_path / "a.csv")
    pl.DataFrame(COLUMNS | {"age": [1, 2, 3, "four", 5, 6]}, strict=False).write_csv(tmp_path / "b.csv")
    found = problem(lambda: prepare(write_schema(tmp_path), [str(tmp_path / "*.csv")]))
    assert found == "b.csv: column 'age', row 4: expected a number, got 'four'"


def test_every_bad_column_is_reported_at_once(make: Make) -> None:
    found = problems(lambda: make({"age": ["x"] * 6, "click": [5] * 6}))
    assert {text.rpartition("/")[2].split(",")[0] for text in found} == {
        "table.csv: column 'click'",
        "table.csv: column 'age'",
    }
    assert len(found) == 2


WRONG_TYPES = [
    ({"age": DAYS}, "column 'age' holds Date, expected a number"),
    ({"click": DAYS}, "column 'click' holds Date, expected labels 0 and 1"),
    ({"video": [["a"]] * 6}, "column 'video' holds List(String), expected one id per row"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG_TYPES)
def test_a_column_of_the_wrong_type_is_named(make: Make, columns: dict[str, list[Any]], message: str) -> None:
    assert problem(lambda: make(columns, parquet=True)) == f"table.parquet: {message}"


def test_bags_need_lists_or_a_separator(make: Make) -> None:
    tags = feature(kind="ids", name="tags")
    found = problem(lambda: make({"tags": ["x|y"] * 6}, **tags))
    assert found.startswith("table.csv: column 'tags' holds String, expected lists; for text, say with `separator`")
    tags["features"][-1]["separator"] = "|"
    found = problem(lambda: make({"tags": [["x"]] * 6}, parquet=True, **tags))
    assert found.endswith("expected text with '|' between values; leave out the separator to read lists")


def test_missing_columns_name_their_reader_and_a_near_miss(make: Make, tmp_path: Path) -> None:
    pl.DataFrame(COLUMNS).rename({"age": "agee"}).drop("click").write_csv(tmp_path / "table.csv")
    found = problems(lambda: prepare(write_schema(tmp_path), [str(tmp_path / "table.csv")]))
    assert [text.rpartition("/")[2] for text in found] == [
        "table.csv: column 'age' is missing, features.age reads it; did you mean 'agee'?",
        "table.csv: column 'click' is missing, tasks.click reads it; the file has user, video, agee, fold",
    ]
    assert "split.column reads it" in problem(lambda: make(split=SCHEMA["split"] | {"column": "zzz"}))


def test_a_file_without_header_is_recognised(tmp_path: Path) -> None:
    pl.DataFrame(COLUMNS).write_csv(tmp_path / "table.csv", include_header=False)
    found = problem(lambda: prepare(write_schema(tmp_path), [str(tmp_path / "table.csv")]))
    assert found.startswith("table.csv: has none of the schema's columns; its columns are read as '1,a,20.0,0,train'")


BROKEN_TEXT = [
    (b"user,video,age,click,fold\n1,a,2,0,train\n1,a,2,0,train,7\n", "row 2: has 6 cells where the file has 5 columns"),
    (b"user,video,age,click,fold\n1,\xff\xfe,2,0,train\n", "row 1: is not UTF-8 text"),
    (b"user,user,video,age,click,fold\n", "column 'user' appears twice"),
    (b"", "the file is empty"),
    (b'user,video,age,click,fold\n1,a,2,0,train\n1,"a,2,0,train\n',
     "row 2: unexpected end of data; is a quotation mark not closed?"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BROKEN_TEXT)
def test_broken_text_is_explained(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    assert problem(lambda: prepare(write_schema(tmp_path), [str(tmp_path / "table.csv")])) == f"table.csv: {message}"


def test_files_without_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("user,video,age,click,fold\n\n")
    found = problem(lambda: prepare(write_schema(tmp_path), [str(tmp_path / "table.csv")]))
    assert found == "source: the files hold no rows"


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    schema = write_schema(tmp_path)
    (tmp_path / "no.parquet").write_text("text")
    assert problem(lambda: prepare(schema, [str(tmp_path / "no.parquet")])).startswith("no.parquet: cannot be read")
    sources = [str(tmp_path / "none*.csv"), str(tmp_path)]
    assert [text.partition(": ")[2] for text in problems(lambda: prepare(schema, sources))] == [
        "no such file",
        f"is a folder; name its files, such as {tmp_path}/*.csv",
    ]
    assert problems(lambda: prepare(schema, [])) == ("source: no file given",)


def test_csv_header_must_fit(make: Make) -> None:
    found = problem(lambda: make(csv={"header": ["user", "video"]}))
    assert found == "table.csv: csv.header names 2 columns, the file has 5"


def test_empty_splits_are_refused_with_their_sizes(make: Make) -> None:
    found = problem(lambda: make({"fold": ["train"] * 5 + ["test"]}))
    assert found == "split: no row falls into 'valid' (train 5, valid 0, test 1)"


def test_a_rule_that_never_holds_shows_what_the_column_holds(make: Make) -> None:
    rules = {"glad": {"column": "mood", "positive": "hapy"}}
    found = problem(lambda: make({"mood": ["sad", "happy"] * 3}, labels=rules, **task(kind="binary", name="glad")))
    assert found == "labels.glad: no cell of column 'mood' is 'hapy'; it holds 'happy', 'sad'"


def test_csv_options_need_a_text_file(make: Make) -> None:
    expected = "schema.yaml: csv: would be ignored, no source is a text file"
    assert problem(lambda: make(parquet=True, csv={"separator": ";"})) == expected
