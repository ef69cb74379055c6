from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.config import ConfigError
from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import Cursor, EvalReader, ReaderConfig, TrainReader, Worker, shares
from recsys_mtl.data.shards import RowGroup, row_groups
from recsys_mtl.storage import locate
from tests import builders
from tests.unit.data.worlds import LAYOUT, rows_of, write_shards

FILES = [[20, 20, 11], [20], [20, 3]]
ROWS = 94
START = Cursor()
Workers = list[list[list[int]]]
"""Numbers of the rows by worker and step."""
TINY = {"one row": [[1]], "two rows": [[1], [1]], "five rows": [[2, 2], [1]], "one row group": [[13]]}


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[RowGroup]:
    return row_groups(write_shards(tmp_path_factory.mktemp("shards"), FILES), "train")


def train(
    groups: list[RowGroup],
    world: int = 1,
    cursor: Cursor = START,
    *,
    lanes: int = 8,
    batch_size: int = 16,
    seed: int = 0,
) -> Workers:
    config = ReaderConfig(lanes=lanes)
    readers = [
        TrainReader(groups, LAYOUT, config, batch_size=batch_size, seed=seed, worker=Worker(rank, world))
        for rank in range(world)
    ]
    assert {reader.rows for reader in readers} == {sum(group.rows for group in groups)}
    return [[rows_of(batch) for batch in reader.epoch(cursor)] for reader in readers]


def evaluation(groups: list[RowGroup], *, world: int, batch_size: int) -> Workers:
    readers = [EvalReader(groups, LAYOUT, batch_size=batch_size, worker=Worker(rank, world)) for rank in range(world)]
    workers = [[rows_of(batch) for batch in reader] for reader in readers]
    assert {len(batches) for batches in workers} == {reader.steps for reader in readers} == {readers[0].steps}
    assert [sum(map(len, batches)) for batches in workers] == [reader.rows for reader in readers]
    return workers


def global_batches(workers: Workers) -> list[Counter[int]]:
    return [Counter(row for part in parts for row in part) for parts in zip(*workers, strict=True)]


def flat(workers: Workers) -> list[int]:
    return [row for batches in workers for batch in batches for row in batch]


@pytest.mark.parametrize("lanes", [4, 8, 50, 200])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_workers_see_every_row_once_and_the_same_global_batches_as_one(
    groups: list[RowGroup], world: int, lanes: int
) -> None:
    workers = train(groups, world, lanes=lanes)
    assert sorted(flat(workers)) == list(range(ROWS))
    assert {len(batches) for batches in workers} == {6}
    assert global_batches(workers) == global_batches(train(groups, lanes=lanes))


def test_more_workers_than_lanes_are_refused(groups: list[RowGroup]) -> None:
    with pytest.raises(ConfigError, match=r"^data\.reader\.lanes: 2 lanes cannot be shared by 3 workers$"):
        train(groups, 3, lanes=2)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_same_of_any_shards(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)
    files = data.draw(st.lists(sizes, min_size=1, max_size=3))
    groups = row_groups(write_shards(tmp_path_factory.mktemp("any"), files), "train")
    lanes, batch_size = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    world = data.draw(st.integers(1, lanes))
    workers = train(groups, world=world, lanes=lanes, batch_size=batch_size)
    total = sum(map(sum, files))
    assert sorted(flat(workers)) == list(range(total))
    assert {len(batches) for batches in workers} == {-(-total // batch_size)}
    assert global_batches(workers) == global_batches(train(groups, lanes=lanes, batch_size=batch_size))


@pytest.mark.parametrize("world", [1, 3])
def test_batches_differ_in_size_by_a_row_of_each_lane_at_most(groups: list[RowGroup], world: int) -> None:
    sizes = [batch.total() for batch in global_batches(train(groups, world=world))]
    assert sum(sizes) == ROWS
    assert max(sizes) - min(sizes) <= 8


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("step", [0, 1, 4, 6])
def test_a_cursor_resumes_with_the_tail_of_the_epoch(groups: list[RowGroup], world: int, step: int) -> None:
    for epoch in (0, 2):
        whole = train(groups, world=world, cursor=Cursor(epoch))
        resumed = train(groups, world=world, cursor=Cursor(epoch, step))
        assert resumed == [batches[step:] for batches in whole]


def test_a_cursor_belongs_to_the_data_so_that_another_number_of_workers_can_go_on(groups: list[RowGroup]) -> None:
    seen = [batches[:3] for batches in train(groups, 2)]
    rest = train(groups, 3, Cursor(0, 3))
    assert sorted(flat(seen) + flat(rest)) == list(range(ROWS))


def test_equal_seeds_give_equal_batches_and_others_do_not(groups: list[RowGroup]) -> None:
    orders = [flat(train(groups, seed=seed, cursor=Cursor(epoch))) for seed in (0, 1) for epoch in (0, 1)]
    assert flat(train(groups)) == orders[0]
    assert len({tuple(order) for order in orders}) == 4


def test_row_groups_and_the_rows_in_them_are_shuffled(groups: list[RowGroup]) -> None:
    order = flat(train(groups, lanes=1))
    assert order != sorted(order)
    first, second = ([row % 20 for row in order if row // 20 == number] for number in (0, 1))
    assert first != sorted(first)
    assert first != second  # each group has an order of its own
    assert list(dict.fromkeys(row // 20 for row in order)) != sorted({row // 20 for row in order})


@pytest.mark.parametrize("files", TINY.values(), ids=TINY)
@pytest.mark.parametrize("world", [1, 2, 4])
def test_tiny_data_neither_hangs_nor_loses_rows(files: list[list[int]], world: int, tmp_path: Path) -> None:
    groups = row_groups(write_shards(tmp_path, files), "train")
    total = sum(map(sum, files))
    for batch_size in (1, 4, 100):
        workers = train(groups, world=world, batch_size=batch_size)
        assert sorted(flat(workers)) == list(range(total))
        assert {len(batches) for batches in workers} == {-(-total // batch_size)}
        held_out = evaluation(groups, world=world, batch_size=batch_size)
        assert flat(held_out) == list(range(total))


@pytest.mark.parametrize("world", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000])
def test_evaluation_reads_every_row_once_in_its_order(groups: list[RowGroup], world: int, batch_size: int) -> None:
    workers = evaluation(groups, world=world, batch_size=batch_size)
    assert flat(workers) == list(range(ROWS))
    for batches in workers:
        sizes = [len(batch) for batch in batches]
        assert all(size == batch_size for size in sizes[: sum(sizes) // batch_size])
        assert sizes == sorted(sizes, reverse=True)  # blank batches come last


def test_evaluation_can_be_repeated(groups: list[RowGroup]) -> None:
    reader = EvalReader(groups, LAYOUT, batch_size=10, worker=Worker())
    assert [rows_of(batch) for batch in reader] == [rows_of(batch) for batch in reader]


def test_no_group_is_on_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_mtl.data.shard_writer.ROW_GROUP_ROWS", 40)
    builders.prepared(tmp_path / "data")
    layout = BatchLayout.of(Encoder.load(tmp_path / "data").spec, builders.TASKS)
    groups = row_groups(tmp_path / "data", "valid")
    owners: dict[int, set[int]] = {}
    for rank in range(3):
        for batch in EvalReader(groups, layout, batch_size=16, worker=Worker(rank, 3)):
            for group in batch.groups_B.tolist() if batch.labels_BT.isfinite().any() else ():
                owners.setdefault(group, set()).add(rank)
    assert len(owners) == builders.USERS
    assert all(len(ranks) == 1 for ranks in owners.values())
    assert {rank for ranks in owners.values() for rank in ranks} == {0, 1, 2}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 6))
def test_shares_are_runs_of_about_equal_length(sizes: list[int], world: int) -> None:
    groups = [RowGroup(locate("x"), i, rows, i) for i, rows in enumerate(sizes)]
    found = shares(groups, world)
    assert len(found) == world
    assert [group for mine in found for group in mine] == groups
    limit = sum(sizes) / world + max(sizes)
    assert all(sum(group.rows for group in mine) <= limit for mine in found)


def test_a_long_row_group_goes_where_most_of_it_lies() -> None:
    groups = [RowGroup(locate("x"), i, rows, i) for i, rows in enumerate((4, 6))]
    assert shares(groups, 2) == [groups[:1], groups[1:]]


def test_footers_of_local_files_are_not_kept(groups: list[RowGroup]) -> None:
    """Parsed, they take memory for every column of every row group."""
    assert all(group.footer is None for group in groups)
