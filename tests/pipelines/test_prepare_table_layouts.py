"""Well-known tables that need no Python."""

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.prepare.table import prepare
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.raw import SPLITS
from tests.pipelines.table_cases import read

TABLES = Path(__file__).parents[2] / "pipelines" / "configs" / "tables"


def adult_line(rng: random.Random, stop: str) -> str:
    cells = [rng.randint(17, 90), rng.choice(["Private", "?"]), rng.randint(10_000, 400_000), "HS-grad", 9]
    cells += [rng.choice(["Never-married", "Divorced"]), "Sales", "Husband", "White", "Male", rng.choice([0, 7_688]), 0]
    return ", ".join(str(cell) for cell in [*cells, 40, "United-States", rng.choice(["<=50K", ">50K"]) + stop])


def test_adult_needs_no_python(tmp_path: Path) -> None:
    rng = random.Random(0)
    train, test = [[adult_line(rng, stop) for _ in range(200)] for stop in ("", ".")]
    (tmp_path / "adult.data").write_text("\n".join(train) + "\n\n")
    (tmp_path / "adult.test").write_text("|1x3 Cross validator\n" + "\n".join(test) + "\n\n")
    raw = prepare(TABLES / "adult.yaml", [str(tmp_path / "adult.data"), str(tmp_path / "adult.test")])
    table = read(raw)
    assert table.num_rows == 400
    lines = [line.split(", ") for line in train + test]
    assert sum(table["high_income"].to_pylist()) == sum(line[-1].startswith(">50K") for line in lines)
    assert sum(table["never_married"].to_pylist()) == sum(line[5] == "Never-married" for line in lines)
    assert table["workclass"].null_count == sum(line[1] == "?" for line in lines)
    assert sum(table["age"].to_pylist()) == sum(int(line[0]) for line in lines)
    write_dataset(raw, tmp_path / "out")


def test_aliexpress_needs_no_python(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    click = rng.integers(0, 2, 300)
    columns: dict[str, Any] = {"search_id": rng.integers(0, 60, 300)}
    columns |= {f"categorical_{i}": rng.integers(0, 9, 300) for i in range(1, 17)}
    columns |= {f"numerical_{i}": rng.random(300) for i in range(1, 64)}
    pl.DataFrame(columns | {"click": click, "conversion": click * rng.integers(0, 2, 300)}).write_csv(
        tmp_path / "a.csv"
    )
    raw = prepare(TABLES / "aliexpress.yaml", [str(tmp_path / "*.csv")])
    assert [task.space for task in raw.schema.tasks] == [None, "click"]
    groups = [set(read(raw, name)["search_id"].to_pylist()) for name in SPLITS]
    assert sum(len(group) for group in groups) == len(set.union(*groups))
    assert read(raw).num_rows == 300
    write_dataset(raw, tmp_path / "out")


def test_the_manuals_example_works(tmp_path: Path) -> None:
    manual = (TABLES.parents[2] / "docs" / "data" / "your-own-table.md").read_text()
    table, schema = (re.search(rf"```{kind}\n(.*?)```", manual, re.DOTALL) for kind in ("csv", "yaml"))
    assert table is not None
    assert schema is not None
    (tmp_path / "logs.csv").write_text(table[1])
    (tmp_path / "schema.yaml").write_text(schema[1])
    raw = prepare(tmp_path / "schema.yaml", [str(tmp_path / "*.csv")])
    rows = read(raw)
    assert rows["clicked"].to_pylist() == [1, 0, 1, 0, 1]
    assert rows["good"].to_pylist() == [1, None, 0, None, 1]
    assert [read(raw, name).num_rows for name in SPLITS] == [3, 1, 1]
    write_dataset(raw, tmp_path / "out")
