import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.config import ConfigError
from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import EvalReader, Worker
from recsys_mtl.data.shards import Piece, RowGroup, Stream, cut, read, row_groups
from recsys_mtl.storage import locate
from tests import builders
from tests.unit.data.worlds import write_shards

FILES = [[4, 2], [5]]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "data", FILES)


def rows(tables: list[pa.Table]) -> list[int | None]:
    return [row for table in tables for row in table["row"].to_pylist()]


def test_row_groups_are_listed_in_the_order_of_files(shards: Path) -> None:
    first, second = (locate(shards / "train" / f"part-{i}.parquet") for i in range(2))
    expected = [RowGroup(first, 0, 4, 0), RowGroup(first, 1, 2, 1), RowGroup(second, 0, 5, 2)]
    assert row_groups(shards, "train") == expected


@given(st.lists(st.integers(0, 6), max_size=6), st.integers(0, 20), st.integers(0, 20))
def test_a_cut_is_a_slice_of_the_groups_laid_end_to_end(sizes: list[int], start: int, end: int) -> None:
    groups = [RowGroup(locate("x"), 0, size, i) for i, size in enumerate(sizes)]
    laid = [(group.number, row) for group in groups for row in range(group.rows)]
    pieces = cut(groups, start, end)
    assert [(p.group.number, row) for p in pieces for row in range(p.start, p.end)] == laid[start:end]
    assert all(piece.start < piece.end for piece in pieces)


@pytest.mark.parametrize("takes", [[11], [1] * 11, [3, 0, 4, 4], [5, 6]])
def test_a_stream_hands_out_any_number_of_rows(shards: Path, takes: list[int]) -> None:
    stream = Stream(cut(row_groups(shards, "train"), 0, 11), ["row", "list"])
    parts = [rows(list(stream.take(count))) for count in takes]
    assert [len(part) for part in parts] == takes
    assert [row for part in parts for row in part] == list(range(11))


def test_a_stream_reads_nothing_before_it_must(shards: Path) -> None:
    groups = row_groups(shards, "train")
    stream = Stream(cut(groups, 0, 11), ["row"])
    groups[2].path.remove()
    assert rows(list(stream.take(6))) == list(range(6))
    with pytest.raises(ConfigError, match=r"part-1\.parquet: row group 0 cannot be read: .*No such file"):
        list(stream.take(1))


def test_pieces_of_a_shuffled_row_group_are_pieces_of_one_permutation(shards: Path) -> None:
    group = row_groups(shards, "train")[2]
    pieces = [[Piece(group, 0, 5)], [Piece(group, 0, 2)], [Piece(group, 2, 5)]]
    whole, head, tail = (rows(list(Stream(p, ["row"], shuffle=(1, 0)).take(p[0].end - p[0].start))) for p in pieces)
    assert head + tail == whole
    assert sorted(map(str, whole)) == [str(i) for i in range(10, 11)] + [str(i) for i in range(6, 10)]


def test_only_the_columns_that_are_asked_for_are_read(shards: Path) -> None:
    assert read(row_groups(shards, "train")[0], ["list", "row"]).column_names == ["list", "row"]


def test_an_absent_column_is_named_with_its_file(shards: Path) -> None:
    group = row_groups(shards, "train")[0]
    with pytest.raises(ConfigError) as caught:
        read(group, ["row", "weight", "age"])
    assert caught.value.problems == tuple(f"{group.path}: column {name!r} is absent" for name in ("age", "weight"))


def test_a_directory_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.path: {tmp_path}/train has no Parquet files; is {tmp_path} a "):
        row_groups(tmp_path, "train")


@pytest.mark.parametrize("content", [b"", b"PAR1 something else PAR1"])
def test_a_file_that_is_not_parquet_is_named(shards: Path, content: bytes) -> None:
    path = shards / "train" / "part-1.parquet"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{path}: not readable as Parquet: "):
        row_groups(shards, "train")


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5])
def test_a_damaged_page_is_named_with_its_row_group(place: float, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (group,) = row_groups(tmp_path / "data", "test")
    content = bytearray(group.path.read_bytes())
    start = int(place * len(content))
    content[start : start + 40] = bytes(byte ^ 0xFF for byte in content[start : start + 40])
    group.path.write_bytes(bytes(content))
    layout = BatchLayout.of(Encoder.load(data).spec, builders.TASKS)
    with pytest.raises(ConfigError, match=rf"^{group.path}: row group 0 cannot be read: "):
        list(EvalReader([group], layout, batch_size=100, worker=Worker()))
