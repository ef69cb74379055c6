"""What a user does is in the user's next ranking."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.redis_server import RedisServer
from tests.serving.conftest import Start
from tests.serving.store.conftest import publish, served
from tests.serving.store.test_completion import USER, bare, full, score, stored
from tests.serving.world import Json, problems_of


def send(client: TestClient, *events: Json, user: object = USER) -> Json:
    response = client.post("/v1/events", json={"user_id": user, "events": list(events)})
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def with_history(data: Path, items: list[Any], authors: list[Any], user: int = USER) -> Json:
    body = full(data, user)
    before = stored(data, "user", "user", user)
    body["user"]["history_item"] = [*before["history_item"], *items]
    body["user"]["history_author"] = [*before["history_author"], *authors]
    return body


def test_the_next_ranking_knows_the_last_click(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    with served(start, address) as client, start() as without:
        before = score(client, bare())
        answer = send(client, {"item_id": 31}, {"item_id": "44", "sequence": "history"})
        assert (answer["user_id"], answer["added"], answer["duplicates"]) == (USER, 2, 0)
        assert score(client, bare()).equal(score(without, with_history(data, [31, 44], [31 % 12, 44 % 12])))
        assert not score(client, bare()).equal(before)
        assert score(client, bare(14)).equal(score(without, full(data, 14)))


def test_values_of_an_event_go_before_stored_ones(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    with served(start, address) as client, start() as without:
        send(client, {"item_id": 31, "author": 2}, {"item_id": 32, "history_author": "7"}, {"item_id": "new"})
        expected = with_history(data, [31, 32, "new"], [2, 7, None])
        assert score(client, bare()).equal(score(without, expected))


def test_only_the_latest_events_are_kept(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    clicks = [3, 1, 4, 1, 5, 9, 2, 6]
    with served(start, address) as client, start() as without:
        for click in clicks:
            send(client, {"item_id": click})
        assert score(client, bare()).equal(score(without, with_history(data, clicks, clicks)))


def test_a_user_whom_the_store_does_not_know_gets_a_history(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    with served(start, address) as client, start() as without:
        send(client, {"item_id": 8}, user="someone new")
        body = full(data)
        body["user"] = {"user": "someone new", "history_item": [8], "history_author": [8]}
        assert score(client, bare("someone new")).equal(score(without, body))


def test_a_request_s_own_history_wins(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    body, expected = bare(), full(data)
    for request in (body, expected):
        request["user"] |= {"history_item": [], "history_author": []}
    with served(start, address) as client, start() as without:
        send(client, {"item_id": 8})
        assert score(client, body).equal(score(without, expected))


def test_an_event_that_is_sent_again_counts_once(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    with served(start, address) as client, start() as without:
        first = send(client, {"item_id": 8, "event_id": "a"}, {"item_id": 9, "event_id": "b"})
        again = send(client, {"item_id": 9, "event_id": "b"}, {"item_id": 10, "event_id": "c"})
        assert [(answer["added"], answer["duplicates"]) for answer in (first, again)] == [(2, 0), (1, 1)]
        assert send(client, {"item_id": 9, "event_id": "b"}, user=14)["added"] == 1
        expected = with_history(data, [8, 9, 10], [8, 9, 10])
        assert score(client, bare()).equal(score(without, expected))


def test_events_before_a_publication_are_part_of_it(data: Path, redis: RedisServer, start: Start) -> None:
    redis.client.flushall()
    publish(data, redis.url)
    with served(start, redis.url) as client, start() as without:
        send(client, {"item_id": 8})
        publish(data, redis.url, as_of="2020-01-01T00:00:00", update=True)  # read before the event
        assert score(client, bare()).equal(score(without, with_history(data, [8], [8])))
        publish(data, redis.url, update=True)  # read now: it would hold the event if the logs did
        assert score(client, bare()).equal(score(without, full(data)))
        send(client, {"item_id": 9})
        assert score(client, bare()).equal(score(without, with_history(data, [9], [9])))


def test_events_in_redis_are_known_to_every_process(data: Path, redis: RedisServer, start: Start) -> None:
    redis.client.flushall()
    publish(data, redis.url)
    with served(start, redis.url) as one, served(start, redis.url) as other, start() as without:
        send(one, {"item_id": 8})
        assert score(other, bare()).equal(score(without, with_history(data, [8], [8])))


@pytest.mark.parametrize(
    ("event", "place", "message"),
    [
        ({"item_id": 1, "sequence": "liked"}, "events.1.sequence", "expected the name of one of the model's sequences"),
        ({"item_id": 1, "colour": 2}, "events.1.colour", "unknown field; this sequence takes author, history_author"),
        ({"item_id": 1, "author": [2]}, "events.1.author", "expected text, a number, true, false or null, got a list"),
        (
            {"item_id": 1, "author": {}},
            "events.1.author",
            "expected text, a number, true, false or null, got an object",
        ),
        ({"item_id": None}, "events.1.item_id", "expected text of 1 to 256 characters or a whole number"),
        ({"item_id": 1, "event_id": ""}, "events.1.event_id", "string should have at least 1 character"),
        ({"author": 1}, "events.1.item_id", "field required"),
        ("click", "events.1", "input should be a valid dictionary"),
    ],
)
def test_a_wrong_event_is_refused_and_none_is_added(
    data: Path, address: str, start: Start, event: Any, place: str, message: str
) -> None:
    publish(data, address)
    with served(start, address) as client, start() as without:
        body = {"user_id": USER, "events": [{"item_id": 2}, event]}
        ((found, text),) = problems_of(client, body, "/v1/events")
        assert found == place
        assert message in text
        assert score(client, bare()).equal(score(without, full(data)))


@pytest.mark.parametrize(
    "body", [{}, {"user_id": 1}, {"user_id": 1, "events": []}, {"user_id": [], "events": [{}]}, []]
)
def test_bodies_that_are_none_are_refused(data: Path, address: str, start: Start, body: Any) -> None:
    publish(data, address)
    with served(start, address) as client:
        assert problems_of(client, body, "/v1/events")


def test_without_a_store_there_is_nowhere_to_put_events(client: TestClient) -> None:
    response = client.post("/v1/events", json={"user_id": 1, "events": [{"item_id": 2}]})
    assert response.status_code == 409
    assert "RECSYS_MTL_STORE" in response.json()["detail"][0]["msg"]
