"""Whatever a body holds: a refusal with its place or an answer, never a fault, and none of its values in a refusal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.serving.conftest import Start
from tests.serving.store.conftest import publish
from tests.serving.world import answered, problems_of

JSON = {"Content-Type": "application/json"}
ROUTES = {"/v1/rank": "POST", "/v1/score": "POST", "/v1/events": "POST", "/v1/traffic": "PUT"}
SECRET = "S3CR3T"
DEEP = 100_000
LONG = "x" * 10_000_000


def of(cell: str) -> dict[str, str]:
    """Bodies in which the same text stands for a value."""
    ranking = f'{{"user": {{"city": {cell}}}, "candidates": [{{"item_id": 1}}]}}'
    return {
        "/v1/rank": ranking,
        "/v1/score": ranking,
        "/v1/events": f'{{"user_id": 1, "events": [{{"item_id": 1, "author": {cell}}}]}}',
        "/v1/traffic": f'{{"challenger_percent": {cell}, "shadow": false}}',
    }


NESTED = "[" * DEEP + "]" * DEEP
OBJECTS = '{"a":' * DEEP + "1" + "}" * DEEP
VALUES = {
    "nested lists": NESTED,
    "nested objects": OBJECTS,
    "not closed": "[" * DEEP,
    "NaN": "NaN",
    "infinity": "-Infinity",
    "beyond floats": "1e999",
    "a number of 5000 digits": "9" * 5000,
    "a lone surrogate": '"\\ud800"',
    "a zero byte": '"a\x00b"',
    "half an escape": '"\\u12"',
    "a comment": "1 // one",
    "a comma too many": "1,",
    "an object": '{"a": 1}',
}


@pytest.fixture(scope="module")
def client(data: Path, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    address = f"parquet:{tmp_path_factory.mktemp('features')}"
    publish(data, address)
    with start(store=address) as client:
        yield client


def send(client: TestClient, route: str, content: bytes | str, **headers: str) -> Any:
    return client.request(ROUTES[route], route, content=content, headers=JSON | headers)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("route", ROUTES)
def test_values_that_cannot_be_read_are_refused(client: TestClient, route: str, name: str) -> None:
    response = send(client, route, of(VALUES[name])[route])
    assert response.status_code == 422, response.text
    assert len(response.text) < 10_000
    assert response.json()["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize("name", ["nested lists", "nested objects", "not closed", "NaN", "a lone surrogate"])
@pytest.mark.parametrize("route", ROUTES)
def test_nor_is_such_a_value_a_body(client: TestClient, route: str, name: str) -> None:
    assert send(client, route, VALUES[name]).status_code == 422


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", '{"user": {}}'.encode("utf-16"), b"\xef\xbb\xbf{}", b"\x00" * 1000]
)
@pytest.mark.parametrize("route", ROUTES)
def test_what_is_no_text_is_refused(client: TestClient, route: str, content: bytes) -> None:
    assert send(client, route, content).status_code == 422


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "x" * 1000]
)
@pytest.mark.parametrize("route", ROUTES)
def test_what_is_not_called_json_is_refused(client: TestClient, route: str, kind: str) -> None:
    response = client.request(ROUTES[route], route, content=of("1")[route], headers={"Content-Type": kind})
    assert response.status_code == 422
    assert "Content-Type: application/json" in response.json()["detail"][0]["msg"]


def test_long_text_is_a_value_like_others(client: TestClient) -> None:
    assert answered(client, "/v1/rank", json.loads(of(json.dumps(LONG))["/v1/rank"]))["candidates"]


@pytest.mark.parametrize("route", ["/v1/events", "/v1/traffic"])
def test_long_text_elsewhere_is_no_fault(client: TestClient, route: str) -> None:
    assert send(client, route, of(json.dumps(LONG))[route]).status_code in {200, 422}


@pytest.mark.parametrize("text", ["数学 🎬 ñ", "\u202e right to left", "e\u0301", "\U0010ffff", "\x7f", ""])
def test_any_text_is_a_value(client: TestClient, text: str) -> None:
    assert answered(client, "/v1/rank", json.loads(of(json.dumps(text))["/v1/rank"]))["candidates"]


def test_of_a_name_that_comes_twice_the_last_one_counts(client: TestClient) -> None:
    content = '{"user": {"city": 7, "city": "Lyon"}, "candidates": [{"item_id": 1, "item_id": 2}]}'
    once = answered(client, "/v1/rank", {"user": {"city": "Lyon"}, "candidates": [{"item_id": 2}]})
    assert send(client, "/v1/rank", content).json()["candidates"] == once["candidates"]


def test_a_candidate_that_comes_twice_is_scored_twice(client: TestClient) -> None:
    body = {"user": {"user": 1}, "candidates": [{"item_id": 1}, {"item_id": 2}, {"item_id": 1}]}
    rows = answered(client, "/v1/score", body)["candidates"]
    assert [row["item_id"] for row in rows] == [1, 2, 1]
    assert rows[0]["score"] == pytest.approx(rows[2]["score"])


@pytest.mark.parametrize(
    "body",
    [
        {"user": {"age": SECRET}},
        {"user": {"city": [SECRET]}},
        {"user": {"city": {SECRET: SECRET}}},
        {"user": {"history_item": SECRET}},
        {"user": {"history_item": [SECRET], "history_author": []}},
        {"user": SECRET},
        {"context": {"hour": {"a": SECRET}}},
        {"candidates": [{"item_id": [SECRET]}]},
        {"candidates": [{"item_id": SECRET * 100}]},
        {"candidates": [{"item_id": 1, "duration": SECRET}]},
        {"candidates": [{"item_id": 1, "tags": {"a": SECRET}}]},
        {"candidates": [{"item_id": 1, "tags": [[SECRET]]}]},
        {"candidates": SECRET},
        {"fusion": SECRET},
        {"fusion": [SECRET]},
        {"model": SECRET},
        {"top_k": SECRET},
    ],
)
def test_no_refusal_repeats_a_value(client: TestClient, caplog: pytest.LogCaptureFixture, body: dict[str, Any]) -> None:
    sent = {"user": {"user": 1}, "candidates": [{"item_id": 1}], **body}
    assert SECRET not in str(problems_of(client, sent))
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": [SECRET], "events": [{"item_id": 1}]},
        {"user_id": 1, "events": SECRET},
        {"user_id": 1, "events": [{"item_id": [SECRET]}]},
        {"user_id": 1, "events": [{"item_id": 1, "sequence": SECRET}]},
        {"user_id": 1, "events": [{"item_id": 1, "author": [SECRET]}]},
    ],
)
def test_nor_does_one_of_events(client: TestClient, caplog: pytest.LogCaptureFixture, body: dict[str, Any]) -> None:
    assert SECRET not in str(problems_of(client, body, "/v1/events"))
    assert SECRET not in caplog.text


def test_what_an_event_said_may_not_fit_the_model(client: TestClient) -> None:
    """Values of events are checked when a ranking reads them."""
    for cell in (VALUES["a number of 5000 digits"], json.dumps(LONG), "1e300", "true"):
        send(client, "/v1/events", of(cell)["/v1/events"])
    assert answered(client, "/v1/rank", {"user": {"user": 1}, "candidates": [{"item_id": 1}]})["candidates"]
