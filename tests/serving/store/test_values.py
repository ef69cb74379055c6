"""Values come out of a store as they went in, and what the encoder makes of them is the same."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.newest import Keyed
from recsys_mtl.data.values import text_of
from serving.store.address import read_address
from serving.store.desk import open_store
from serving.store.filling import fill, gaps, units_of
from serving.store.histories import histories_of
from serving.store.publication import AS_OF
from serving.store.publish import publish
from serving.store.rows import Answer, Asked, Event, Found
from serving.store.tables import Table
from tests import builders
from tests.redis_server import RedisServer

SETTINGS = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
UNITS = units_of(builders.schema(), "item")

texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=6)
identities = st.one_of(texts.filter(bool), st.integers(-(2**63), 2**63 - 1).map(str))
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False)
columns = st.sampled_from(
    [
        (pa.int64(), integers),
        (pa.uint64(), st.integers(0, 2**64 - 1)),
        (pa.float64(), floats),
        (pa.string(), texts),
        (pa.bool_(), st.booleans()),
        (pa.list_(pa.int64()), st.lists(st.none() | integers, max_size=4)),
        (pa.list_(pa.string()), st.lists(st.none() | texts, max_size=4)),
        (pa.list_(pa.float64()), st.lists(floats, max_size=4)),
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    keys = draw(st.lists(identities, min_size=1, max_size=8, unique=True))
    made: dict[str, Any] = {"key": pa.array(keys, pa.string())}
    for number in range(draw(st.integers(1, 4))):
        dtype, cells = draw(columns)
        values = draw(st.lists(st.none() | cells, min_size=len(keys), max_size=len(keys)))
        made[f"column {number}"] = pa.array(values, dtype)
    return pa.table(made)


def found(address: str, asked: Asked) -> Answer:
    async def ask() -> Answer:
        store = open_store(address)
        try:
            read = await store.find(asked, {})
            return read()
        finally:
            await store.close()

    return asyncio.run(ask())


def same(actual: Any, expected: Any) -> bool:
    """Compare cells; 7 and 7.0 are told apart."""
    return bool(type(actual) is type(expected) and repr(actual) == repr(expected))


def as_ids(cells: list[Any]) -> list[Any]:
    """Write whole numbers as text: what they may be, as ids, beside one beyond 63 bits."""
    return [str(cell) if type(cell) is int else cell for cell in cells]


def has_wide(cells: list[Any]) -> bool:
    return any(type(cell) is int and cell >= 2**63 for cell in cells)


@pytest.mark.parametrize("kind", ["parquet", "redis"])
def test_values_come_back_as_they_were(kind: str, redis: RedisServer) -> None:
    @SETTINGS
    @given(tables())
    def come_back(rows: pa.Table) -> None:
        with TemporaryDirectory() as directory:
            address = redis.url if kind == "redis" else f"parquet:{Path(directory) / 'features'}"
            published = rows.append_column(AS_OF, pa.array([0] * rows.num_rows))
            whole: Mapping[Keyed, Table] = {"item": Table(published, "key", (), 0)}
            publish(read_address(address), dict(whole), Console(quiet=True))
            keys = [text_of(key) for key in rows["key"].to_pylist()]
            answer = found(address, Asked(None, [*keys[::-1], "no such key at all", None, keys[0]]))
        assert answer.items.hits == len(keys) + 1
        for name in rows.column_names:
            cells = rows[name].to_pylist()
            expected = [*cells[::-1], None, None, cells[0]]
            actual = answer.items.column(name).to_pylist()
            if has_wide(cells):
                actual, expected = as_ids(actual), as_ids(expected)
            assert all(map(same, actual, expected)), (name, actual, expected)

    come_back()


@pytest.fixture(scope="module")
def encoder(data: Path) -> Encoder:
    return Encoder.load(data)


def test_filled_rows_are_encoded_as_if_the_request_had_brought_them(encoder: Encoder) -> None:
    stored = builders.raw_table(60, seed=5).select(["video", "author", "tags", "duration", "quality"])

    @SETTINGS
    @given(st.lists(st.sets(st.sampled_from(stored.column_names)), min_size=1, max_size=12), st.randoms())
    def encode(brought: list[set[str]], random: Any) -> None:
        rows = [random.randrange(stored.num_rows) for _ in brought]
        own = [_own(stored, random.randrange(stored.num_rows), random) for _ in brought]
        given_cells = {
            name: [cells[name] if name in names else None for names, cells in zip(brought, own, strict=True)]
            for name in stored.column_names
        }
        request = pa.table({name: _array(cells) for name, cells in given_cells.items() if any(_there(cells))})
        request = request if request.num_columns else pa.table({"hour": pa.nulls(len(brought))})
        complete = fill(request, UNITS, Found(stored, np.array(rows)))
        expected = {
            name: _array([own_cell if own_cell is not None else stored[name][row].as_py()
                          for own_cell, row in zip(cells, rows, strict=True)])
            for name, cells in given_cells.items()
        }  # fmt: skip
        names = ["item", "author", "tags", "duration", "quality"]
        assert encoder.encode(complete).select(names).equals(encoder.encode(pa.table(expected)).select(names))
        assert not gaps(pa.table(expected), UNITS).any() or None in stored["duration"].to_pylist()

    encode()


def _own(stored: pa.Table, row: int, random: Any) -> dict[str, Any]:
    """A row as a client may write it: ids and numbers as text, too."""
    cells = {name: stored[name][row].as_py() for name in stored.column_names}
    as_text = {name: random.random() < 0.3 for name in ("video", "author", "duration")}
    return {name: str(cell) if as_text.get(name) and cell is not None else cell for name, cell in cells.items()}


def _array(cells: list[Any]) -> Any:
    kinds = {type(cell) for cell in cells if cell is not None}
    return pa.array(
        [None if cell is None else str(cell) for cell in cells] if str in kinds and kinds - {str} else cells
    )


def _there(cells: list[Any]) -> list[bool]:
    return [cell is not None for cell in cells]


def test_rows_that_miss_nothing_have_no_gaps() -> None:
    table = pa.table(
        {"user": [1, None], "history_item": [[1], None], "history_author": [None, None], "city": ["", "a"]}
    )
    units = units_of(builders.schema(), "user")
    assert gaps(table.append_column("age", pa.array([1.0, 2.0])), units).tolist() == [False, True]
    assert gaps(table, units).tolist() == [True, True]


def test_histories_name_the_item_s_column_of_each_of_theirs() -> None:
    (history,) = histories_of(builders.schema()).values()
    assert history.sources == {"history_item": "video", "history_author": "author"}
    assert history.max_length == 5


@given(st.lists(st.one_of(integers, texts, floats, st.booleans(), st.none()), min_size=1, max_size=5))
@SETTINGS
def test_events_come_back_from_redis_as_they_were(redis: RedisServer, cells: list[Any]) -> None:
    redis.client.flushall()
    events = [Event("history", {"history_item": cell}, time_ms) for time_ms, cell in enumerate(cells, 10**12)]

    async def there_and_back() -> Answer:
        store = open_store(redis.url)
        try:
            await store.append("ü:1", events, {"history": 5})
            return (await store.find(Asked("ü:1", []), histories_of(builders.schema())))()
        finally:
            await store.close()

    assert repr(asyncio.run(there_and_back()).events) == repr(events)
