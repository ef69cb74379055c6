"""Damaged shards of a training split: what is left out, by any number of workers, and what is never left out."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.config import ConfigError
from recsys_mtl.data.damage import DamagedError, Gap
from recsys_mtl.data.reader import Cursor, EvalReader, ReaderConfig, TrainReader, Worker
from recsys_mtl.data.shards import RowGroup, read, row_groups
from recsys_mtl.training.faults import batch_record
from recsys_mtl.training.step import NotFiniteError
from tests import builders
from tests.unit.data.worlds import LAYOUT, rows_of, write_shards

FILES = [[20, 20, 11], [20], [20, 3]]
DAMAGED = range(20, 40)
"""Rows of the second row group."""


def damage(path: Path, index: int) -> None:
    """Flip bytes of a row group's first column."""
    chunk = pq.read_metadata(path).row_group(index).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    size = chunk.total_compressed_size
    content[start : start + size] = bytes(byte ^ 0xFF for byte in content[start : start + size])
    path.write_bytes(content)


@pytest.fixture
def groups(tmp_path: Path) -> list[RowGroup]:
    found = row_groups(write_shards(tmp_path, FILES), "train")
    damage(found[1].path.local, found[1].index)
    return found


def readers(groups: list[RowGroup], world: int, *, allowed: int = 1) -> list[TrainReader]:
    config = ReaderConfig(lanes=6, skip_damaged=allowed)
    workers = [Worker(rank, world) for rank in range(world)]
    return [TrainReader(groups, LAYOUT, config, batch_size=16, seed=0, worker=worker) for worker in workers]


def global_batches(groups: list[RowGroup], world: int, cursor: Cursor) -> list[tuple[Counter[int], int]]:
    """The rows of every global batch, and how many the readers say are missing."""
    found = [(Counter[int](), 0)] * (readers(groups, 1)[0].steps - cursor.step)
    for reader in readers(groups, world):
        for number, batch in enumerate(reader.epoch(cursor)):
            here = Cursor(cursor.epoch, cursor.step + number)
            pieces = [(lane, piece) for lane in reader.lanes(reader.worker.rank) for piece in reader.pieces(lane, here)]
            lost = sum(p.end - p.start for lane, p in pieces if (lane, p.group.number) in reader.damage)
            found[number] = (found[number][0] + Counter(rows_of(batch)), found[number][1] + lost)
    return found


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_all_other_rows_keep_their_places(groups: list[RowGroup], tmp_path: Path, world: int) -> None:
    whole = row_groups(write_shards(tmp_path / "whole", FILES), "train")
    for cursor in (Cursor(0), Cursor(1), Cursor(1, 3)):
        expected = [rows for rows, _ in global_batches(whole, 1, cursor)]
        found = global_batches(groups, world, cursor)
        for rows, (left, lost) in zip(expected, found, strict=True):
            missing = rows - left
            assert rows == left + missing
            assert set(missing) == set(rows) & set(DAMAGED)
            assert missing.total() == lost
    assert sum(lost for _, lost in global_batches(groups, world, Cursor(1))) == len(DAMAGED)


def test_nothing_is_left_out_without_leave(groups: list[RowGroup]) -> None:
    (reader,) = readers(groups, 1, allowed=0)
    with pytest.raises(DamagedError, match=r"part-0\.parquet: row group 1 cannot be read: "):
        list(reader.epoch(Cursor()))
    with pytest.raises(DamagedError, match=r"part-0\.parquet: row group 1 cannot be read: "):
        list(EvalReader(groups, LAYOUT, batch_size=16, worker=Worker()))


def test_a_batch_s_record_leads_to_its_rows(tmp_path: Path) -> None:
    groups = row_groups(write_shards(tmp_path, FILES), "train")
    for step in (0, 4):
        two = readers(groups, 2)
        batches = [list(reader.epoch(Cursor(1)))[step] for reader in two]
        record = batch_record(two[0], Cursor(1, step), NotFiniteError("the loss of odd", (1,), learnt=False))
        found: dict[int, list[int]] = {0: [], 1: []}
        for place in record["places"]:
            group = next(g for g in groups if (str(g.path), g.index) == (place["file"], place["row_group"]))
            found[place["worker"]] += read(group, ["row"])["row"].to_numpy()[place["rows"]].tolist()
        assert [rows_of(batch) for batch in batches] == [found[0], found[1]]
        assert (record["step"], record["epoch"], record["batch"]) == (6 + step + 1, 2, step + 1)
        assert record["problem"] == "the loss of odd is not a finite number"


@given(st.integers(0, 9), st.integers(0, 12), st.integers(0, 12) | st.none())
def test_a_gap_is_cut_like_a_table(rows: int, offset: int, length: int | None) -> None:
    whole = list(range(rows))
    assert Gap(rows).slice(offset, length).num_rows == len(whole[offset:][:length])


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in ("shard_writer", "damage"):
        monkeypatch.setattr(f"recsys_mtl.data.{module}.ROW_GROUP_ROWS", 60)
        monkeypatch.setattr(f"recsys_mtl.data.{module}.SHARD_ROW_GROUPS", 3)
    builders.prepared(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("fault", ["cut off", "not Parquet", "absent"])
@pytest.mark.parametrize("number", [0, 2])
def test_the_row_groups_of_unreadable_files_are_listed_where_they_would_be(
    prepared: Path, fault: str, number: int
) -> None:
    whole = row_groups(prepared, "train")
    assert [group.rows for group in whole] == [60] * 6 + [40]
    path = prepared / "train" / f"part-0000{number}.parquet"
    if fault == "absent":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100] if fault == "cut off" else b"something else")
        with pytest.raises(ConfigError, match=rf"^{path}: not readable as Parquet: "):
            row_groups(prepared, "train")
    listed = row_groups(prepared, "train", allow_damage=True)
    assert listed == whole
    with pytest.raises(DamagedError, match=rf"^{path}: row group 0 cannot be read: "):
        read(next(group for group in listed if group.path.local == path), ["click"])


def test_files_that_are_cut_in_another_way_do_not_tell_of_the_unreadable(tmp_path: Path) -> None:
    data = write_shards(tmp_path, FILES)
    whole = row_groups(data, "train")
    (data / "stats.json").write_text('{"splits": {"train": {"rows": 94}}}')
    assert row_groups(data, "train", allow_damage=True) == whole
    (data / "train" / "part-1.parquet").unlink()
    with pytest.raises(ConfigError, match=r"part-0\.parquet: is not cut as stats.json tells"):
        row_groups(data, "train", allow_damage=True)
    (data / "stats.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"stats\.json: does not tell how many rows the split 'train' has"):
        row_groups(data, "train", allow_damage=True)


@pytest.mark.parametrize(("index", "rows"), [(7, 20), (1, 19)])
def test_a_file_that_changed_since_it_was_listed_is_damaged(groups: list[RowGroup], index: int, rows: int) -> None:
    with pytest.raises(DamagedError, match=rf"part-0\.parquet: row group {index} cannot be read: "):
        read(RowGroup(groups[0].path, index, rows, 0), ["half"])
