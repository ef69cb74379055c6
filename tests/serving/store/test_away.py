"""A Redis that is not there, or does not answer, costs the stored features and nothing else."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.store import breaker, lookups
from tests.redis_server import RedisServer, redis_server
from tests.serving.conftest import Start
from tests.serving.store.conftest import publish, served
from tests.serving.store.test_completion import bare, full, score
from tests.serving.world import sample

SECONDS = 30


def counts(client: TestClient) -> dict[str, float]:
    """Look-ups of users by result."""
    name = 'recsys_store_lookups_total{{entity="user",result="{}"}}'
    return {result: sample(client, name.format(result)) for result in ("hit", "miss", "timeout", "error", "skipped")}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 0.05)


@pytest.mark.usefixtures("quick")
def test_requests_go_on_while_redis_is_stopped_and_started(data: Path, start: Start, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, served(start, redis.url) as client, start() as without:
        publish(data, redis.url)
        known, unknown = score(without, full(data)), score(without, bare())
        assert score(client, bare()).equal(known)
        for _ in range(3):
            redis.stop()
            for _ in range(5):
                assert score(client, bare()).equal(unknown)
            redis.start()
            deadline = time.monotonic() + SECONDS
            while not score(client, bare()).equal(known):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        found = counts(client)
        assert found["hit"] >= 4
        assert found["error"] >= 9
        assert found["skipped"] > 0
        assert found["timeout"] == found["miss"] == 0


@pytest.mark.usefixtures("quick")
def test_no_request_fails_while_redis_comes_and_goes(data: Path, start: Start, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, served(start, redis.url) as client, start() as without:
        publish(data, redis.url)
        known, unknown = score(without, full(data)), score(without, bare())
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(lambda: [score(client, bare()) for _ in range(40)]) for _ in range(4)]
            for _ in range(4):
                redis.stop()
                time.sleep(0.1)
                redis.start()
                time.sleep(0.1)
            scores = [one for found in asking for one in found.result(120)]
        assert all(one.equal(known) or one.equal(unknown) for one in scores)


@pytest.mark.usefixtures("quick")
def test_a_redis_that_hangs_is_not_waited_for(data: Path, start: Start, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        publish(data, redis.url)
        with served(start, redis.url, store_timeout_ms=200) as client, start() as without:
            known = score(without, full(data))
            with redis.hanging():
                assert score(client, bare()).equal(score(without, bare()))
                found = counts(client)
                assert (found["timeout"], found["hit"]) == (1, 0)
                begun = client.get("/healthz")
                assert begun.status_code == 200
            deadline = time.monotonic() + SECONDS
            while not score(client, bare()).equal(known):
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_after_failures_look_ups_are_left_out_for_a_while(
    start: Start, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 3600)
    url = redis.url.replace(str(redis.port), "1")
    with served(start, url) as client, start() as without:
        for _ in range(10):
            assert score(client, bare()).equal(score(without, bare()))
        assert counts(client) == {"hit": 0, "miss": 0, "timeout": 0, "error": 3, "skipped": 7}


def test_what_is_wrong_is_said_once_a_minute(
    start: Start, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 0)
    with served(start, redis.url.replace(str(redis.port), "1")) as client, caplog.at_level(logging.WARNING):
        for _ in range(5):
            score(client, bare())
        assert caplog.text.count("feature store:") == 1
        monkeypatch.setattr(lookups, "LOG_EVERY_S", 0)
        score(client, bare())
        assert caplog.text.count("feature store:") == 2


def test_events_that_cannot_be_kept_are_not_taken(data: Path, start: Start, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, served(start, redis.url) as client:
        publish(data, redis.url)
        body = {"user_id": 1, "events": [{"item_id": 2, "event_id": "a"}]}
        redis.stop()
        response = client.post("/v1/events", json=body)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        redis.start()
        assert client.post("/v1/events", json=body).json()["added"] == 1


def test_a_row_that_cannot_be_read_is_missing(data: Path, start: Start, redis: RedisServer) -> None:
    redis.client.flushall()
    publish(data, redis.url)
    for key in redis.client.scan_iter(match="*:user:13"):
        redis.client.set(key, b"\xc1")
    with served(start, redis.url) as client, start() as without:
        assert score(client, bare(13)).equal(score(without, bare(13)))
        assert counts(client)["error"] == 1
        assert score(client, bare(14)).equal(score(without, full(data, 14)))
