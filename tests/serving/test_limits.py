import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from starlette.types import Message, Receive, Scope, Send

from serving.limits import Limits
from serving.request_log import Note, RequestLog
from serving.service import Service
from serving.settings import Settings
from tests.serving.conftest import Start
from tests.serving.world import answered, one_user, request_of, sample, until

BODY = {"user": {"user": 1}, "candidates": [{"item_id": 1}]}
JSON = {"Content-Type": "application/json"}


class Sent:
    """What a client sends piece by piece, and is answered."""

    def __init__(self, *chunks: bytes, ends: bool = True, **headers: str) -> None:
        self.messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        if ends:
            self.messages.append({"type": "http.request", "body": b"", "more_body": False})
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.scope: Scope = {"type": "http", "path": "/", "headers": raw, "state": {"note": Note("r1")}}
        self.taken = 0
        self.answers: list[Message] = []

    async def receive(self) -> Message:
        if self.taken == len(self.messages):
            await asyncio.Event().wait()
        self.taken += 1
        return self.messages[self.taken - 1]

    async def send(self, message: Message) -> None:
        self.answers.append(message)

    @property
    def status(self) -> int | None:
        return self.answers[0]["status"] if self.answers else None


async def echo(_: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def pass_through(sent: Sent, app: Callable[..., Any] = echo, **settings: Any) -> Sent:
    chosen = Settings(**{"max_body_bytes": 10, "request_timeout_s": 60.0} | settings)
    limits = Limits(app, chosen, RequestLog(chosen))
    asyncio.run(limits(sent.scope, sent.receive, sent.send))
    return sent


@pytest.mark.parametrize(
    "chunks", [(), (b"0123456789",), (b"01234", b"", b"56789"), tuple(b"%d" % i for i in range(10))]
)
def test_a_body_of_the_allowed_size_arrives_in_one_piece(chunks: tuple[bytes, ...]) -> None:
    sent = pass_through(Sent(*chunks))
    assert (sent.status, sent.answers[1]["body"]) == (200, b"".join(chunks))


def test_a_body_is_counted_while_it_arrives() -> None:
    sent = pass_through(Sent(*[b"0123"] * 1000))
    assert (sent.status, sent.taken) == (413, 3)
    assert (b"connection", b"close") in sent.answers[0]["headers"]


@pytest.mark.parametrize("length", ["11", "9" * 15, "9" * 5000])
def test_a_body_that_says_that_it_is_too_large_is_not_read(length: str) -> None:
    sent = pass_through(Sent(b"0123", content_length=length))
    assert (sent.status, sent.taken) == (413, 0)


@pytest.mark.parametrize(
    ("encoding", "status"), [("gzip", 415), ("identity", 200), ("", 200), ("br, gzip", 415), ("GZIP", 415)]
)
def test_a_packed_body_is_not_unpacked(encoding: str, status: int) -> None:
    sent = pass_through(Sent(b"0123", content_encoding=encoding))
    assert (sent.status, sent.taken) == ((status, 0) if status == 415 else (200, 2))


def test_a_body_that_does_not_come_to_an_end_is_waited_for_only_so_long() -> None:
    assert pass_through(Sent(b"0", ends=False), request_timeout_s=0.05).status == 408


def test_who_leaves_is_not_answered() -> None:
    sent = Sent(b"0", ends=False)
    sent.messages.append({"type": "http.disconnect"})
    assert pass_through(sent).answers == []


def test_time_outs_of_others_are_not_taken_for_the_request_s() -> None:
    async def fail(*_: object) -> None:
        raise TimeoutError("of a store")

    with pytest.raises(TimeoutError, match="of a store"):
        pass_through(Sent(b"0"), fail)


def test_half_an_answer_breaks_the_connection() -> None:
    async def stall(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        pass_through(Sent(b"0"), stall, request_timeout_s=0.05)


def test_bodies_are_limited_in_the_service(start: Start) -> None:
    with start(max_body_bytes=1000) as client:
        large = client.post("/v1/rank", json=BODY | {"context": {"hour": "9" * 1000}})
        assert large.status_code == 413
        message = "is larger than 1000 bytes, the most that this service takes"
        assert large.json() == {"detail": [{"loc": ["body"], "msg": message, "type": "too_large"}]}
        packed = client.post("/v1/rank", json=BODY, headers={"Content-Encoding": "gzip"})
        assert (packed.status_code, packed.json()["detail"][0]["loc"]) == (415, ["body"])
        answered(client, "/v1/rank", BODY)
        for status in (413, 415):
            assert sample(client, f'recsys_requests_total{{route="/v1/rank",status="{status}"}}') == 1


class Held:
    """A scorer that waits until it may score."""

    def __init__(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client, self.go, self.count = client, threading.Event(), 0
        self.service: Service = client.app.state.service  # type: ignore[attr-defined]
        scorer = self.service.lineup.champion.get().scorer
        score = scorer.score_together

        def held(questions: Any) -> Any:
            self.count += 1
            assert self.go.wait(60)
            return score(questions)

        monkeypatch.setattr(scorer, "score_together", held)

    @contextmanager
    def asked(self, requests: int) -> Iterator[list[Response]]:
        """Send requests and leave when they are all on their way; wait for their answers at the end."""
        answers: list[Response] = []
        body = request_of(one_user(3))
        threads = [
            threading.Thread(target=lambda: answers.append(self.client.post("/v1/rank", json=body)))
            for _ in range(requests)
        ]
        for thread in threads:
            thread.start()
        while self.service.turns.taken < requests or self.count < 1:
            threading.Event().wait(0.01)
        yield answers
        for thread in threads:
            thread.join(60)


def test_requests_beyond_those_that_may_wait_are_refused_at_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(max_waiting=2, request_timeout_s=60) as client:
        held = Held(client, monkeypatch)
        with held.asked(3) as answers:
            busy = client.post("/v1/rank", json=BODY)
            assert (busy.status_code, busy.headers["Retry-After"]) == (429, "1")
            assert busy.json()["detail"][0]["type"] == "busy"
            assert client.get("/healthz").status_code == 200
            assert not answers
            held.go.set()
        assert [answer.status_code for answer in answers] == [200] * 3
        answered(client, "/v1/rank", BODY)
        assert held.service.turns.taken == 0
        assert sample(client, 'recsys_requests_total{route="/v1/rank",status="429"}') == 1


def test_requests_that_are_not_answered_in_time_give_up_their_turn(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(request_timeout_s=0.5, score_together=0) as client:
        held = Held(client, monkeypatch)
        with held.asked(3) as answers:
            pass
        assert [answer.status_code for answer in answers] == [504] * 3
        assert answers[0].json()["detail"][0]["msg"] == "the service has not answered within 0.5 s"
        assert (held.count, held.service.turns.taken) == (1, 0)
        held.go.set()
        until(client, "recsys_request_candidates_count", 1)  # what was being scored came to its end
        answered(client, "/v1/rank", BODY)
        assert held.count == 2  # those that waited were not scored


def test_a_request_that_fails_gives_its_place_back(start: Start) -> None:
    with start(max_waiting=0) as client:
        for _ in range(3):
            assert client.post("/v1/rank", content=b"{", headers=JSON).status_code == 422
        answered(client, "/v1/rank", BODY)
