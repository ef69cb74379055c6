"""The load of a soak: what is asked, what is a right answer, and that it is an open loop."""

import asyncio
import io
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from benchmarks.soak import client
from benchmarks.soak.asks import EVENT_EVERY, EVENTS, SIZES, STREAM, Ask, Mixture
from benchmarks.soak.checks import Checker, WrongAnswerError
from benchmarks.soak.client import Client, Order
from benchmarks.soak.records import Record
from benchmarks.soak.registry import spoil
from tests import builders

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ASK = Ask("a", "/v1/rank", b"{}", candidates=2, complete=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soak")
    builders.prepared(folder / "data", rows=100)
    builders.bundle(folder / "bundle", folder / "data")
    return folder / "bundle"


def answer(*scores: float, version: str = "1") -> bytes:
    return orjson.dumps({"model": {"version": version}, "candidates": [{"score": score} for score in scores]})


def test_every_kind_and_size_is_asked_for(bundle: Path) -> None:
    mixture = Mixture(bundle, seed=0, with_events=True)
    drawn = [mixture.next() for _ in range(EVENT_EVERY)]
    assert [ask.path == EVENTS for ask in drawn] == [False] * (EVENT_EVERY - 1) + [True]
    kinds = {(ask.path, ask.content_type, ask.accept, ask.candidates) for ask in mixture.asks}
    assert {size for *_, size in kinds} == set(SIZES)
    assert len(kinds) == 4 * len(SIZES)
    for ask in mixture.asks:
        if ask.content_type == STREAM:
            assert pa.ipc.open_stream(ask.body).read_all().num_rows == ask.candidates
        else:
            candidates = orjson.loads(ask.body)["candidates"]
            assert len(candidates) == ask.candidates
            assert ask.complete == (set(candidates[0]) != {"item_id"})


def test_who_does_something_is_not_asked_about(bundle: Path) -> None:
    mixture = Mixture(bundle, seed=0, with_events=True)
    event = orjson.loads(next(ask for ask in iter(mixture.next, None) if ask.path == EVENTS).body)
    about = {orjson.loads(ask.body)["user"].get("user_id") for ask in mixture.asks if not ask.complete}
    assert event["user_id"] not in about
    assert None not in about


def test_without_a_store_there_are_no_events(bundle: Path) -> None:
    mixture = Mixture(bundle, seed=0, with_events=False)
    assert all(mixture.next().path != EVENTS for _ in range(2 * EVENT_EVERY))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (answer(2, 1, version="3"), "an answer of version 3"),
        (answer(2), "1 candidates instead of 2"),
        (answer(1, 2), "candidates out of order"),
    ],
)
def test_wrong_answers_are_found(content: bytes, problem: str) -> None:
    with pytest.raises(WrongAnswerError, match=problem):
        Checker(["1", "2"]).check(ASK, content)


def test_scores_that_are_not_finite_are_found() -> None:
    table = pa.table({"score": [float("inf"), float("nan")]}).replace_schema_metadata({"answer": answer()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    ask = Ask("a", "/v1/score", b"", candidates=2, accept=STREAM)
    with pytest.raises(WrongAnswerError, match="not finite"):
        Checker(["1"]).check(ask, sink.getvalue().to_pybytes())


def test_a_version_gives_a_whole_request_the_same_scores_again() -> None:
    checker = Checker(["1", "2"])
    assert [checker.check(ASK, answer(2, 1)), checker.check(ASK, answer(4, 3, version="2"))] == ["1", "2"]
    checker.check(ASK, answer(2 + 1e-7, 1))
    with pytest.raises(WrongAnswerError, match="other scores of version 1"):
        checker.check(ASK, answer(4, 3))
    bare = Ask("b", "/v1/rank", b"", candidates=2)  # the store may have been away
    assert [checker.check(bare, answer(*scores)) for scores in ((2, 1), (4, 3))] == ["1", "1"]


def test_a_spoilt_bundle_expects_other_scores(bundle: Path, tmp_path: Path) -> None:
    before = (bundle / "golden.jsonl").read_text()
    (tmp_path / "golden.jsonl").write_text(before)
    spoil(tmp_path / "golden.jsonl")
    one, other = (json.loads(text.splitlines()[0]) for text in (before, (tmp_path / "golden.jsonl").read_text()))
    assert one["request"] == other["request"]
    assert one["expected"][0]["click"] + 0.1 == other["expected"][0]["click"]


def run(bundle: Path, handler: Handler, enough: Callable[[int], bool]) -> list[Record]:
    """Put a server under load until it has had enough connections."""
    out = io.StringIO()

    async def both() -> None:
        connections = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.readuntil(b"\r\n\r\n")
            if enough(connections):
                os.kill(os.getpid(), signal.SIGTERM)
            await handler(reader, writer)
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await Client(order(bundle, port), out).run()

    asyncio.run(both())
    return [Record(**json.loads(line)) for line in out.getvalue().splitlines()]


def order(bundle: Path, port: int) -> Order:
    fields: dict[str, Any] = {"versions": ("1",), "with_events": False, "seed": 0, "records": Path("unused")}
    return Order(port=port, bundle=bundle, rate=100.0, **fields)


def test_requests_are_sent_when_they_are_due_though_none_is_answered(bundle: Path) -> None:
    all_there = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await all_there.wait()
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno")

    def enough(connections: int) -> bool:
        if connections == 8:
            all_there.set()
        return connections == 8

    records = run(bundle, wait, enough)  # a client that waits for an answer would wait for ever
    assert len(records) >= 8
    assert {record.kind for record in records} == {"429"}
    first, *others = sorted(record.due for record in records)
    assert [round(100 * (due - first)) for due in others] == list(range(1, len(records)))


def test_a_connection_that_breaks_is_reported_with_its_port_and_not_tried_again(bundle: Path) -> None:
    ports = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.append(writer.get_extra_info("peername")[1])
        writer.transport.abort()

    records = run(bundle, hang_up, lambda connections: connections == 3)
    assert [record.kind for record in records] == ["reset"] * len(ports)
    assert sorted(record.port for record in records) == sorted(ports)


def test_a_server_that_is_not_there_and_one_that_says_nothing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = listener.getsockname()[1]
        assert sent(bundle, silent).kind == "timeout"
    assert sent(bundle, silent).kind == "refused"


def sent(bundle: Path, port: int) -> Record:
    out = io.StringIO()

    async def send() -> None:
        await Client(order(bundle, port), out).send(ASK, asyncio.get_running_loop().time())

    asyncio.run(send())
    return Record(**json.loads(out.getvalue()))
