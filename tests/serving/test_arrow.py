"""Arrow streams mean what the same request means in JSON."""

from typing import Any

import orjson
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from serving.arrow import ANSWER, MEDIA_TYPE, REQUEST, is_compressed
from tests.serving.conftest import Start
from tests.serving.world import Json, answered, one_user, request_of

STREAM = {"Content-Type": MEDIA_TYPE}
RAW: Json = request_of(one_user(6))
LATE = pa.array([2**62], pa.timestamp("s"))
"""A time that Python's calendar does not reach."""


def stream(table: pa.Table, head: Json | None = None, **options: Any) -> bytes:
    head = {"user": RAW["user"], "context": RAW["context"]} if head is None else head
    table = table.replace_schema_metadata({REQUEST: orjson.dumps(head)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=4)
    return sink.getvalue().to_pybytes()


def table() -> pa.Table:
    return pa.Table.from_pylist(RAW["candidates"])


def refused(client: TestClient, content: bytes) -> list[tuple[str, str]]:
    response = client.post("/v1/rank", content=content, headers=STREAM)
    assert response.status_code == 422, response.text
    return [(".".join(map(str, p["loc"][1:])), p["msg"]) for p in response.json()["detail"]]


@pytest.mark.parametrize("route", ["/v1/rank", "/v1/score"])
def test_a_stream_is_answered_as_json_is(client: TestClient, route: str) -> None:
    expected = answered(client, route, RAW)
    response = client.post(route, content=stream(table()), headers=STREAM)
    assert response.status_code == 200, response.text
    assert response.json()["candidates"] == expected["candidates"]


def test_ids_that_are_coded_in_a_dictionary_are_the_same_ids(client: TestClient) -> None:
    coded = table()
    for name in ("item_id", "author"):
        coded = coded.set_column(coded.column_names.index(name), name, coded[name].combine_chunks().dictionary_encode())
    response = client.post("/v1/rank", content=stream(coded), headers=STREAM)
    assert response.json()["candidates"] == answered(client, "/v1/rank", RAW)["candidates"]


def test_a_stream_comes_back_where_it_is_accepted(client: TestClient) -> None:
    expected = answered(client, "/v1/rank", RAW | {"top_k": 3})
    response = client.post("/v1/rank", json=RAW | {"top_k": 3}, headers={"Accept": MEDIA_TYPE})
    assert response.headers["content-type"] == MEDIA_TYPE
    answer = pa.ipc.open_stream(response.content).read_all()
    head = orjson.loads(answer.schema.metadata[ANSWER])
    assert head["model"] == expected["model"]
    assert head["fusion"] == expected["fusion"]
    rows = answer.to_pylist()
    assert [row["item_id"] for row in rows] == [row["item_id"] for row in expected["candidates"]]
    assert [row["score"] for row in rows] == [row["score"] for row in expected["candidates"]]
    assert [row["objectives.click"] for row in rows] == [row["objectives"]["click"] for row in expected["candidates"]]


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (b"", "", "field required"),
        (b"{}", "", "not an Arrow stream: "),
        (stream(table())[:400], "", "not an Arrow stream: "),
        (stream(table(), compression="zstd"), "", "not an Arrow stream: buffers are compressed"),
        (stream(table().slice(0, 0)), "candidates", "candidates: list should have at least 1 item"),
        (stream(table().drop_columns(["item_id"])), "candidates.item_id", "candidates.item_id: field required, once"),
        (stream(table().append_column("color", pa.nulls(6))), "candidates.color", "candidates.color: unknown feature"),
        (stream(table().append_column("author", pa.nulls(6))), "candidates.author", "the column comes twice"),
        (stream(pa.table({"item_id": [1, None]})), "candidates.1.item_id", "expected text of 1 to 256 characters"),
        (stream(pa.table({"item_id": LATE})), "candidates.0.item_id", "expected text of 1"),
        (stream(pa.table({"item_id": [1], "duration": LATE})), "candidates.0.duration", "expected a number"),
        (stream(pa.table({"item_id": [1], "author": LATE})), "candidates.author", "timestamp[s] values are no ids"),
        (stream(pa.table({"item_id": [1], "duration": ["long"]})), "candidates.0.duration", "expected a number"),
        (stream(pa.table({"item_id": [1], "quality": [1e300]})), "candidates.0.quality", "is too large"),
        (stream(pa.table({"item_id": [1], "tags": [3]})), "candidates.tags", "expected a list of values"),
        (stream(pa.table({"item_id": [1], "author": [{"a": 1}]})), "candidates.author", "expected one value"),
        (stream(table(), {"user": {"usr": 1}}), "user.usr", "did you mean 'user'?"),
        (stream(table(), {"context": {}}), "user", "field required"),
        (stream(table(), {"user": {}, "candidates": []}), None, None),
        (stream(table(), {"user": {}, "topk": 1}), "topk", "unknown field"),
    ],
)
def test_bad_streams_are_refused_with_the_place(
    client: TestClient, content: bytes, place: str | None, message: str | None
) -> None:
    if place is None:  # the stream's own rows are the candidates, whatever else stands beside them
        assert client.post("/v1/rank", content=content, headers=STREAM).status_code == 200
        return
    (problem,) = refused(client, content)
    assert problem[0] == place
    assert message is not None
    assert message in problem[1]


def test_a_stream_with_too_many_candidates_is_refused(start: Start) -> None:
    with start(max_candidates=5) as client:
        assert refused(client, stream(table()))[0][1] == "candidates: 6 are too many; this service takes up to 5"


@given(cut=st.integers(0, 2000), flipped=st.integers(0, 2000), value=st.integers(0, 255))
def test_damaged_streams_never_end_in_an_error_of_the_service(
    client: TestClient, cut: int, flipped: int, value: int
) -> None:
    content = bytearray(stream(table()))
    content[flipped % len(content)] = value
    response = client.post("/v1/rank", content=bytes(content[: len(content) - cut % 50]), headers=STREAM)
    assert response.status_code in {200, 422}, response.text


@pytest.mark.parametrize(("compression", "expected"), [(None, False), ("zstd", True), ("lz4", True)])
def test_compression_is_told_from_the_message(compression: str | None, expected: bool) -> None:
    coded = pa.table({"a": pa.array(["x", "y"]).dictionary_encode()})
    messages = pa.ipc.MessageReader.open_stream(stream(coded, {}, compression=compression))
    found = {}
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            break
        found[message.type] = is_compressed(message)
    assert found == {"schema": False, "dictionary": expected, "record batch": expected}
