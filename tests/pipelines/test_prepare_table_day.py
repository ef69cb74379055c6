"""One new day of a table, grown from the data set of the day before."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.prepare.table import prepare_day
from recsys_mtl.config import ConfigError
from recsys_mtl.data.day import day_facts
from recsys_mtl.data.encode import Encoder
from tests.pipelines.table_cases import COLUMNS, write_schema

DATES = ["2022-05-01", "2022-05-01", "2022-05-02", "2022-05-03", "2022-05-04", "2022-05-04"]
BY_DATE = {"kind": "date", "column": "day", "valid_from": "2022-05-02", "test_from": "2022-05-03"}


def write_table(folder: Path, **columns: Sequence[Any]) -> str:
    path = folder / "table.csv"
    pl.DataFrame({**COLUMNS, "day": DATES, **columns}).write_csv(path)
    return str(path)


def users(schema: Path, source: str, day: date) -> list[Any]:
    return [user for table in prepare_day(schema, [source], day).rows() for user in table["user"].to_pylist()]


def test_a_table_that_is_split_by_date_gives_the_rows_of_the_day(tmp_path: Path) -> None:
    schema, source = write_schema(tmp_path, split=BY_DATE), write_table(tmp_path)
    assert users(schema, source, date(2022, 5, 4)) == ["3", "3"]
    assert users(schema, source, date(2022, 5, 1)) == ["1", "1"]


def test_any_other_table_gives_all_rows(tmp_path: Path) -> None:
    everyone = [str(user) for user in COLUMNS["user"]]
    assert users(write_schema(tmp_path), write_table(tmp_path), date(2022, 5, 4)) == everyone


def test_a_day_without_rows_is_refused(tmp_path: Path) -> None:
    schema, source = write_schema(tmp_path, split=BY_DATE), write_table(tmp_path)
    with pytest.raises(ConfigError, match="--day: no row is of 2022-06-01; the files hold 6 rows of other days"):
        prepare_day(schema, [source], date(2022, 6, 1))


def call(*options: str) -> Any:
    return CliRunner().invoke(app, ["prepare", "table", *options])


def test_a_base_and_its_next_day_from_the_command_line(tmp_path: Path) -> None:
    schema, source = write_schema(tmp_path, split=BY_DATE), write_table(tmp_path, video=["a", "b", "a", "c", "z", "z"])
    files = ["--schema", str(schema), "--source", source]
    assert call(*files, "--out", str(tmp_path / "base")).exit_code == 0
    grown = ["--grow-from", str(tmp_path / "base"), "--day", "2022-05-04"]
    result = call(*files, "--out", str(tmp_path / "2022-05-04"), *grown)
    assert result.exit_code == 0, result.output
    assert "2 rows, 2 new values" in result.output  # user 3, video z
    assert day_facts(tmp_path / "2022-05-04").day == date(2022, 5, 4)
    assert Encoder.load(tmp_path / "2022-05-04").vocabularies["video"] == ["a", "b", "z"]


@pytest.mark.parametrize("option", [["--day", "2022-05-04"], ["--grow-from", "base"]])
def test_a_day_needs_its_date_and_what_it_grows_from(tmp_path: Path, option: list[str]) -> None:
    files = ["--schema", str(write_schema(tmp_path)), "--source", write_table(tmp_path)]
    result = call(*files, "--out", str(tmp_path / "day"), *option)
    assert result.exit_code == 2
    assert f"{option[0]}: would be ignored: a day needs both --grow-from and --day" in result.output


def test_a_day_does_not_take_the_place_of_what_it_grows_from(tmp_path: Path) -> None:
    schema, source = write_schema(tmp_path, split=BY_DATE), write_table(tmp_path)
    files = ["--schema", str(schema), "--source", source, "--out", str(tmp_path / "base")]
    assert call(*files).exit_code == 0
    result = call(*files, "--grow-from", str(tmp_path / "base"), "--day", "2022-05-04")
    assert result.exit_code == 2
    assert "a day cannot take the place of what it grows from" in result.output
