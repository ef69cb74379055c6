import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.raw import SPLITS, RawData
from recsys_mtl.data.shards import row_groups
from recsys_mtl.data.values import FeatureError
from tests import builders
from tests.unit.data.worlds import contents, names


def raw_with(split: str, *tables: pa.Table) -> RawData:
    world = builders.raw_data(40)
    return RawData(world.schema, {**world.splits, split: lambda: iter(tables)})


def changed(table: pa.Table, name: str, cells: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(cells))


def interrupted(tables: int, error: BaseException) -> Iterator[pa.Table]:
    for seed in range(tables):
        yield builders.raw_table(20, seed)
    raise error


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("disk"), KeyboardInterrupt()], ids=repr)
def test_an_interruption_leaves_what_was_there(old: bool, error: BaseException, tmp_path: Path) -> None:
    out = tmp_path / "data"
    if old:
        builders.prepared(out, rows=60)
    before = contents(tmp_path)
    world = builders.raw_data(40)
    raw = RawData(world.schema, {**world.splits, "test": lambda: interrupted(2, error)})
    with pytest.raises(type(error)):
        write_dataset(raw, out)
    assert contents(tmp_path) == before
    assert names(tmp_path) == (["data"] if old else [])


PROGRAM = """
import os, signal, sys
from pathlib import Path
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.raw import RawData
from tests import builders
world = builders.raw_data(40)
def killed():
    yield builders.raw_table(20, 0)
    os.kill(os.getpid(), signal.SIGKILL)
write_dataset(RawData(world.schema, {**world.splits, "valid": killed}), Path(sys.argv[1]))
"""


def test_a_killed_run_leaves_the_old_data_set_and_the_next_removes_what_it_left(tmp_path: Path) -> None:
    out = tmp_path / "data"
    builders.prepared(out, rows=60)
    before = contents(out)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(out)], env=environment, check=False, timeout=120)
    assert done.returncode == -9
    assert contents(out) == before
    (left,) = set(names(tmp_path)) - {"data"}
    assert left.startswith(".data.partial-")
    assert not (tmp_path / left / "stats.json").exists()
    with pytest.raises(ConfigError, match="no Parquet files"):
        row_groups(tmp_path / left, "test")
    builders.prepared(out, rows=80)
    assert names(tmp_path) == ["data"]
    assert json.loads((out / "stats.json").read_text())["splits"]["train"]["rows"] == 80


def test_an_old_data_set_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()  # an empty directory is no hindrance either
    for rows in (60, 40):
        builders.prepared(out, rows=rows)
    builders.prepared(tmp_path / "fresh", rows=40)
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("files", [["notes.txt"], ["spec.yaml"], ["train"], ["spec.yaml", "vocab", "model.yaml"]])
def test_a_directory_of_something_else_is_left_alone(files: list[str], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a prepared data set"):
        builders.prepared(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(sorted(files), b"precious")


def test_a_data_set_with_a_strangers_file_is_left_alone(tmp_path: Path) -> None:
    builders.prepared(tmp_path / "data", rows=40)
    (tmp_path / "data" / "notes.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"not a prepared data set \(notes\.txt\)"):
        builders.prepared(tmp_path / "data", rows=40)
    assert (tmp_path / "data" / "notes.txt").exists()


def test_a_file_or_a_mount_point_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a prepared data set"):
        builders.prepared(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"^/proc: is a mount point"):
        builders.prepared(Path("/proc"))


@pytest.mark.parametrize("split", SPLITS)
def test_an_empty_split_is_refused(split: str, tmp_path: Path) -> None:
    for tables in ((), (builders.raw_table(40, 0).slice(0, 0),)):
        with pytest.raises(ConfigError, match=f"^{split}: the split has no rows$"):
            write_dataset(raw_with(split, *tables), tmp_path / "data")
    assert names(tmp_path) == []


@pytest.mark.parametrize("split", SPLITS)
def test_absent_columns_are_all_named(split: str, tmp_path: Path) -> None:
    table = builders.raw_table(40, 0).drop_columns(["city", "like"])
    with pytest.raises(ConfigError) as caught:
        write_dataset(raw_with(split, table), tmp_path / "data")
    assert caught.value.problems == (f"{split}: column 'city' is absent", f"{split}: column 'like' is absent")


BAD_CELLS: dict[str, tuple[str, str, list[Any], str]] = {
    "label": ("train", "click", [0, 1, 7, 0], r"7 is not a label of click: 0, 1 or empty \(train row 1,203\)"),
    "amount": ("test", "watch", [1.0, -1.0, 0, 0], r"-1 is negative; watch is learnt as log1p \(test row 1,202\)"),
    "number, while fitting": ("train", "duration", ["1", "2", "3", "x"], r"'x' is not a number \(train row 1,204\)"),
    "number": ("valid", "quality", ["x", "1", "1", "1"], r"'x' is not a number \(valid row 1,201\)"),
    "group": ("valid", "user", [1, None, 2, 3], r"the group is empty \(valid row 1,202\)"),
    "sequence": (
        "train",
        "history_author",
        [[1] * 9] * 4,
        r"9 events where history_item has \d; .* \(train row 1,201\)",
    ),
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_a_bad_cell_is_named_with_its_row_in_the_split(name: str, tmp_path: Path) -> None:
    split, column, cells, message = BAD_CELLS[name]
    good = [builders.raw_table(rows, seed) for seed, rows in enumerate((700, 500))]
    with pytest.raises(FeatureError, match=f"^{column}: {message}$"):
        write_dataset(raw_with(split, *good, changed(builders.raw_table(4, 9), column, cells)), tmp_path / "data")
    assert names(tmp_path) == []
