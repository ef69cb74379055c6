"""Bytes against cases that are counted by hand."""

import numpy as np
import pytest

from recsys_mtl.training.footprint import TablePart
from recsys_mtl.training.sharding_rules import Kind
from recsys_mtl.training.traffic import Exchange, all_reduced, exchange, sent, slowest


def part(
    worker: int, rows: int, dim: int, *, kind: Kind = "pooled", way: str = "table_wise", column: int = 0
) -> TablePart:
    return TablePart("user", kind, way, worker, column, rows, dim, 4 * rows * dim, 4 * rows)


def traffic(parts: list[TablePart], *, ids: float = 2, workers: int = 2, node: int | None = None) -> Exchange:
    return exchange(parts, {"user": [ids]}, rows=10, workers=workers, node=node or workers)


def test_a_whole_table() -> None:
    found = traffic([part(1, 100, 8)])
    assert found.ids_WW.tolist() == [[0, 10 * (2 * 8 + 4)], [0, 0]], (
        "ids of 8 bytes, and their number of 4 for each row"
    )
    assert found.vectors_WW.tolist() == [[0, 0], [10 * 8 * 4, 0]], "one vector of 8 numbers for each row"
    assert found.total == 200 + 2 * 320


def test_each_feature_counts() -> None:
    parts = [part(1, 100, 8)]
    once, twice = traffic(parts), exchange(parts, {"user": [2, 2]}, rows=10, workers=2, node=2)
    assert twice.total == 2 * once.total


def test_columns() -> None:
    found = traffic([part(0, 100, 4, way="column_wise"), part(1, 100, 4, way="column_wise", column=4)])
    assert found.ids_WW.tolist() == [[0, 200], [200, 0]], "all ids go to every part"
    assert found.vectors_WW.tolist() == [[0, 160], [160, 0]], "half a vector comes from each"


def test_rows_of_a_table_that_a_sequence_reads() -> None:
    found = traffic([part(worker, 50, 8, kind="events", way="row_wise") for worker in range(2)])
    assert found.ids_WW.tolist() == [[0, 10 * (8 + 4)], [10 * (8 + 4), 0]], "half of the ids"
    assert found.vectors_WW.tolist() == [[0, 320], [320, 0]], "a vector for each of them"


def test_rows_of_a_pooled_table_send_sums_from_every_part() -> None:
    found = traffic([part(worker, 25, 8, way="row_wise") for worker in range(4)], workers=4)
    assert found.vectors_WW.sum(1).tolist() == [3 * 320] * 4


def test_rows_within_a_machine_send_one_sum_out_of_it() -> None:
    found = traffic([part(worker, 50, 8, way="table_row_wise") for worker in range(2)], workers=4, node=2)
    inside = 320 * 2  # of the rows of two workers, its own and those of the same place in the other machine
    assert found.vectors_WW.tolist() == [[0, inside, 320, 0], [inside, 0, 0, 320], [0] * 4, [0] * 4]


def test_replicated_tables_exchange_nothing() -> None:
    assert traffic([part(worker, 100, 8, way="data_parallel") for worker in range(2)]).total == 0


def test_what_a_worker_sends() -> None:
    found = traffic([part(0, 100, 8)], workers=4, node=2)
    assert vars(sent(found, 0, 2)) == {"ids": 0, "vectors": 960, "gradients": 0, "network": 640}
    assert vars(sent(found, 1, 2)) == {"ids": 200, "vectors": 0, "gradients": 320, "network": 0}
    assert vars(sent(found, 3, 2)) == {"ids": 200, "vectors": 0, "gradients": 320, "network": 520}


def test_a_ring_sends_everything_almost_twice() -> None:
    assert all_reduced(800, 4) == 1200
    assert all_reduced(800, 1) == 0


def test_the_slowest_link_decides() -> None:
    bytes_WW = np.array([[0, 100, 30, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 70, 0]], dtype=float)
    assert slowest(bytes_WW, 2, node_rate=100, network_rate=10) == pytest.approx(3), "30 bytes leave a machine"
    assert slowest(bytes_WW, 4, node_rate=100, network_rate=10) == pytest.approx(1.3), "worker 0 sends 130"
    assert slowest(bytes_WW.T, 4, node_rate=100, network_rate=10) == pytest.approx(1.3), "and receives them"
