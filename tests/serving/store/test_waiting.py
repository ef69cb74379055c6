"""Requests that wait for Redis do not come between those that are scored together."""

from pathlib import Path

import pytest

from tests.redis_server import RedisServer
from tests.serving.conftest import Start
from tests.serving.store.conftest import publish, served
from tests.serving.store.test_completion import bare
from tests.serving.test_together import Gate, asked_at_once
from tests.serving.world import Json

USER: Json = {"user_id": 13, "city": "c", "age": 7.5, "history_item": [], "history_author": []}
ITEM: Json = {"author": 5, "tags": [], "duration": 1.0, "quality": 0.5}


def whole(*videos: int) -> Json:
    """A request that asks nobody."""
    return {"user": USER, "candidates": [{"item_id": video, **ITEM} for video in videos]}


def test_a_request_that_has_to_be_fetched_for_lets_others_pass(
    data: Path, start: Start, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(data, redis.url)
    with served(start, redis.url, score_together=64) as client:
        gate = Gate(client, monkeypatch)
        answers = asked_at_once(client, gate, [whole(5), bare(videos=[5, 22]), whole(5, 22, 47)])
        assert [answer.status_code for answer in answers] == [200] * 3
        assert gate.sizes[1][:2] == [1, 3]
        assert sorted(size for sizes in gate.sizes[1:] for size in sizes) == [1, 2, 3]
