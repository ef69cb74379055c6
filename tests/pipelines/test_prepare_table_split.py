"""Anybody's table: which split a row belongs to."""

import subprocess
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xxhash

from pipelines.prepare.table import prepare
from recsys_mtl.data.raw import SPLITS
from tests.pipelines.table_cases import COLUMNS, Make, maker, read, write_schema


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


DAYS = [date(2022, 4, 30), date(2022, 5, 1), date(2022, 5, 1), date(2022, 5, 1), date(2022, 5, 2), date(2022, 5, 3)]
EXPECTED = {"train": [1, 1, 2, 2], "valid": [3], "test": [3]}


@pytest.mark.parametrize(
    ("cells", "epoch"),
    [
        (DAYS, None),
        ([day.isoformat() for day in DAYS], None),
        ([f"{day} 23:59:59" for day in DAYS], None),
        ([f"{day}T00:00:00Z" for day in DAYS], None),
        ([int(f"{day:%Y%m%d}") for day in DAYS], None),
        ([datetime(day.year, day.month, day.day, 5) for day in DAYS], None),
        ([int((day - date(1970, 1, 1)).total_seconds()) for day in DAYS], "s"),
        ([int((day - date(1970, 1, 1)).total_seconds() * 1000) + 999 for day in DAYS], "ms"),
    ],
)
@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("first", ["2022-05-02", date(2022, 5, 2), 20220502])
def test_split_by_date(make: Make, cells: list[Any], epoch: str | None, parquet: bool, first: Any) -> None:
    split = {"kind": "date", "column": "day", "valid_from": first, "test_from": "2022-05-03", "epoch": epoch}
    raw = make({"day": cells}, parquet=parquet, split=split)
    assert {name: [int(user) for user in read(raw, name)["user"].to_pylist()] for name in SPLITS} == EXPECTED


def many(rows: int = 4_000) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    return {
        "user": rng.integers(0, 600, rows).tolist(),
        "video": rng.integers(0, 9, rows).tolist(),
        "age": rng.random(rows).tolist(),
        "click": rng.integers(0, 2, rows).tolist(),
        "fold": ["x"] * rows,
    }


def test_split_by_fraction_of_users_keeps_them_together(make: Make) -> None:
    split = {"kind": "fraction", "valid": 0.1, "test": 0.2, "by": "user"}
    by_file = [make(many(), parquet=parquet, split=split) for parquet in (False, True)]
    users = [{name: {str(u) for u in read(raw, name)["user"].to_pylist()} for name in SPLITS} for raw in by_file]
    assert users[0] == users[1]
    assert not users[0]["train"] & users[0]["test"]
    assert len(users[0]["test"]) == pytest.approx(120, abs=40)
    assert len(users[0]["valid"]) == pytest.approx(60, abs=30)
    other = make(many(), split=split | {"seed": 1})
    assert set(read(other, "test")["user"].to_pylist()) != users[0]["test"]


def test_split_by_fraction_of_rows(make: Make) -> None:
    split = {"kind": "fraction", "valid": 0.1, "test": 0.2}
    first, again, other = (make(many(), split=split | {"seed": seed}) for seed in (0, 0, 1))
    sizes = [read(first, name).num_rows for name in SPLITS]
    assert sum(sizes) == 4_000
    assert sizes[1:] == [pytest.approx(400, abs=80), pytest.approx(800, abs=110)]
    assert read(first, "test").equals(read(again, "test"))
    assert not read(first, "test").equals(read(other, "test"))


def test_random_splits_are_the_same_in_another_process(make: Make, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from pipelines.prepare.table import prepare
raw = prepare(Path(sys.argv[1]), [sys.argv[2]])
print([sum(age for table in split() for age in table["age"].to_pylist()) for split in raw.splits.values()])
"""
    for by in ("user", None):
        raw = make(many(1_000), split={"kind": "fraction", "valid": 0.2, "test": 0.2, "by": by})
        here = [sum(read(raw, name)["age"].to_pylist()) for name in SPLITS]
        command = [sys.executable, "-c", program, str(tmp_path / "schema.yaml"), str(tmp_path / "table.csv")]
        there = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        assert there.stdout.strip() == str(here)


def test_split_by_file(tmp_path: Path) -> None:
    for name in SPLITS:
        pl.DataFrame(COLUMNS).write_csv(tmp_path / f"{name}.csv")
    values = {name: f"{name}.csv" for name in SPLITS}
    schema = write_schema(tmp_path, file_column="file", split={"kind": "column", "column": "file", "values": values})
    raw = prepare(schema, [str(tmp_path / "*.csv")])
    assert [read(raw, name).num_rows for name in SPLITS] == [6, 6, 6]


def splitmix64(key: int, steps: int) -> int:
    """Return the steps-th number of the stream, one step at a time."""
    state = key
    mask = 2**64 - 1
    for _ in range(steps):
        state = (state + 0x9E3779B97F4A7C15) & mask
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_rows_fall_by_splitmix64_and_groups_by_xxh64(make: Make) -> None:
    assert splitmix64(0, 1) == 0xE220A8397B1DCDAF
    key = xxhash.xxh64_intdigest(b"table.csv", 5)
    raw = make(many(300), split={"kind": "fraction", "valid": 0.2, "test": 0.3, "seed": 5})
    tests = [age for row, age in enumerate(many(300)["age"]) if splitmix64(key, row + 1) / 2**64 < 0.3]
    assert read(raw, "test")["age"].to_pylist() == tests
    raw = make(many(300), split={"kind": "fraction", "valid": 0.2, "test": 0.3, "seed": 5, "by": "user"})
    users = {str(user) for user in many(300)["user"]}
    shares = {user: xxhash.xxh64_intdigest(user.encode(), 5) / 2**64 for user in users}
    assert set(read(raw, "valid")["user"].to_pylist()) == {u for u, share in shares.items() if 0.3 <= share < 0.5}


def test_blank_lines_belong_to_no_split(tmp_path: Path) -> None:
    for name in SPLITS:
        (tmp_path / f"{name}.csv").write_text(pl.DataFrame(COLUMNS).write_csv() + "\n\n")
    values = {name: f"{name}.csv" for name in SPLITS}
    schema = write_schema(tmp_path, file_column="file", split={"kind": "column", "column": "file", "values": values})
    assert read(prepare(schema, [str(tmp_path / "*.csv")])).num_rows == 18
