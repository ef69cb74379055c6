from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.data import shard_writer
from recsys_mtl.data.labels import GROUP
from recsys_mtl.data.shard_writer import group_cuts, write_by_group, write_shuffled


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(shard_writer, "SHARD_ROW_GROUPS", 3)
    monkeypatch.setattr(shard_writer, "PILE_ROWS", 40)


def table(rows: range, groups: Any = None) -> pa.Table:
    lists = [[row] * (row % 4) for row in rows]
    ids = pa.array(list(rows), pa.int64())
    return pa.table(
        {"row": ids, "ids": pa.array(lists, pa.list_(pa.int32())), GROUP: ids if groups is None else groups}
    )


def files(directory: Path) -> list[pq.ParquetFile]:
    return [pq.ParquetFile(path) for path in sorted(directory.iterdir())]


def row_groups(directory: Path) -> list[list[Any]]:
    groups = [file.read_row_group(i) for file in files(directory) for i in range(file.num_row_groups)]
    assert all(row["ids"] == [row["row"]] * (row["row"] % 4) for group in groups for row in group.to_pylist())
    return [group["row"].to_pylist() for group in groups]


@pytest.mark.parametrize(
    "sizes", [[1], [9], [10], [11], [7, 30, 3], [5] * 8, [0, 25], [95], [41, 43, 47], [200, 1, 0, 3]]
)
def test_every_row_is_written_once_in_full_row_groups(sizes: list[int], tmp_path: Path) -> None:
    edges = [0, *np.cumsum(sizes).tolist()]
    total = edges[-1]
    write_shuffled(iter([table(range(start, end)) for start, end in pairwise(edges)]), tmp_path, rows=total)
    groups = row_groups(tmp_path)
    assert [len(group) for group in groups] == [10] * (total // 10) + [total % 10] * (total % 10 > 0)
    assert sorted(row for group in groups for row in group) == list(range(total))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        f"part-{i:05d}.parquet" for i in range(-(-total // 30))
    ]
    assert all(file.num_row_groups == 3 for file in files(tmp_path)[:-1])


@pytest.mark.parametrize("rows", [40, 400])
def test_row_groups_are_samples_of_the_whole(rows: int, tmp_path: Path) -> None:
    write_shuffled(iter([table(range(rows))]), tmp_path, rows=rows)
    means = [np.mean(group) / rows for group in row_groups(tmp_path)]
    assert np.std(means) < 0.2  # in the order of writing it would be 0.29
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.9


@pytest.mark.parametrize("rows", [40, 400])
def test_the_order_depends_on_the_rows_alone(rows: int, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_shuffled(iter([table(range(rows))]), tmp_path / name, rows=rows)
    assert row_groups(tmp_path / "a") == row_groups(tmp_path / "b")


def test_rows_are_sorted_by_group_and_keep_their_order_within_one(tmp_path: Path) -> None:
    groups = np.random.default_rng(0).integers(-5, 12, 100)
    parts = [table(range(start, start + 25), groups[start : start + 25]) for start in range(0, 100, 25)]
    write_by_group(iter(parts), tmp_path)
    found = row_groups(tmp_path)
    assert [row for group in found for row in group] == np.argsort(groups, kind="stable").tolist()
    owners = [set(groups[group].tolist()) for group in found]
    assert all(not a & b for i, a in enumerate(owners) for b in owners[i + 1 :])
    assert len(found) > 5


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_cuts_split_no_group_and_are_as_short_as_they_can_be(values: list[int], rows: int) -> None:
    groups = np.sort(np.array(values))
    cuts = list(group_cuts(groups, rows))
    assert [start for start, _ in cuts] == [0, *(end for _, end in cuts[:-1])]
    assert cuts[-1][1] == len(groups)
    for start, end in cuts:
        assert end == len(groups) or groups[end - 1] != groups[end]
        last = groups[start:end] == groups[end - 1]
        assert end == len(groups) or end - start >= rows
        assert end - start - int(last.sum()) < rows


def test_ids_are_written_with_a_dictionary_and_numbers_without(tmp_path: Path) -> None:
    rows = table(range(20)).append_column("number", pa.array([0.5] * 20, pa.float32()))
    write_by_group(iter([rows]), tmp_path)
    (file,) = files(tmp_path)
    columns = [file.metadata.row_group(0).column(i) for i in range(4)]
    coded = {column.path_in_schema: column.has_dictionary_page for column in columns}
    assert coded == {"row": True, "ids.list.element": True, GROUP: True, "number": False}
