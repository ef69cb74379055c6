"""Requests that wait at the same time are scored together, and each is answered as it is alone."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from serving.scorer import Scorer
from serving.service import Service
from tests import builders
from tests.serving.conftest import Start
from tests.serving.world import Json, one_user, request_of, sample, until_all_loaded

BAD: Json = request_of(one_user(2)) | {"fusion": "no such formula"}
REQUESTS: list[Json] = [
    request_of(one_user(1, seed=1)) | {"explain": True},
    request_of(one_user(3, seed=2)) | {"fusion": {"expression": "click"}},
    request_of(one_user(2)) | {"user": {"usr": 1}},
    BAD,
    request_of(one_user(4, seed=3)),
    request_of(one_user(40)),
    request_of(one_user(2, seed=4)) | {"top_k": 1},
]


class Gate:
    """Lets the first request wait until the others stand in line behind it, and hears what is scored at once."""

    def __init__(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service: Service = client.app.state.service  # type: ignore[attr-defined]
        scorer: Scorer = self.service.lineup.champion.get().scorer
        self.sizes: list[list[int]] = []
        self.is_open = threading.Event()
        score = scorer.score_together

        def held(questions: Any) -> Any:
            self.sizes.append([len(question.item_ids) for question in questions])
            assert self.is_open.wait(60)
            return score(questions)

        monkeypatch.setattr(scorer, "score_together", held)


def asked_at_once(client: TestClient, gate: Gate, requests: list[Json], *, late: bool = False) -> list[Response]:
    """Send a request that is held, then others in order; return the answers of these.

    ``late``: the first is held until the others have their answers, which then can only be that time is up.
    """

    def until(number: int) -> None:
        while len(gate.service.turns.waiting) < number or not gate.sizes:
            threading.Event().wait(0.005)

    with ThreadPoolExecutor(len(requests) + 1) as pool:
        pool.submit(client.post, "/v1/rank", json=request_of(one_user(5)))
        until(0)
        answers = []
        for number, request in enumerate(requests, 1):
            answers.append(pool.submit(client.post, "/v1/rank", json=request))
            until(number)
        if late:
            wait(answers)
        gate.is_open.set()
        return [answer.result() for answer in answers]


def told(response: Response) -> Any:
    return response.status_code, {k: v for k, v in response.json().items() if k != "request_id"}


def without_rounding(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_rounding(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_rounding(one) for one in value]
    return pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value


def test_each_is_answered_as_alone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(score_together=10) as client:
        alone = [client.post("/v1/rank", json=request) for request in REQUESTS]
        gate = Gate(client, monkeypatch)
        together = asked_at_once(client, gate, REQUESTS)
        # what is wrong in shape ends the batch before it; an unknown formula has neighbours; the large one is by itself
        assert gate.sizes == [[5], [1, 3], [2, 4], [40], [2]]
        assert [answer.status_code for answer in together] == [200, 200, 422, 422, 200, 200, 200]
        for one, other in zip(alone, together, strict=True):
            assert told(other) == tuple(without_rounding(told(one)))
        assert sample(client, "recsys_requests_scored_together_sum") == 13


def test_each_is_scored_by_itself_if_that_is_wanted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(score_together=0) as client:
        gate = Gate(client, monkeypatch)
        asked_at_once(client, gate, [request_of(one_user(1))] * 3)
        assert gate.sizes == [[5], [1], [1], [1]]


def test_refused_requests_do_not_keep_others_from_being_scored(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = request_of(one_user(2)) | {"user": {"usr": 1}}
    with start(score_together=64) as client:
        gate = Gate(client, monkeypatch)
        asked_at_once(client, gate, [request_of(one_user(1)), *[refused] * 3, request_of(one_user(3))])
        assert gate.sizes == [[5], [1], [3]]


def test_a_time_out_does_not_touch_those_behind_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(score_together=64, request_timeout_s=0.5) as client:
        gate = Gate(client, monkeypatch)
        gave_up = asked_at_once(client, gate, [request_of(one_user(n)) for n in (1, 3)], late=True)
        assert [answer.status_code for answer in gave_up] == [504] * 2
        assert client.post("/v1/rank", json=request_of(one_user(2))).status_code == 200
        assert gate.sizes == [[5], [2]]
        assert gate.service.turns.taken == 0


def test_each_model_scores_its_own(data: Path, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    builders.bundle(tmp_path / "rival", data, seed=5)
    asked = [(1, "champion"), (2, "challenger"), (3, "champion"), (4, "challenger")]
    requests = [request_of(one_user(rows)) | {"model": model} for rows, model in asked]
    with start(score_together=64, challenger=str(tmp_path / "rival"), shadow=True, cache_dir=tmp_path) as client:
        until_all_loaded(client)
        alone = [client.post("/v1/rank", json=request) for request in requests]
        gate = Gate(client, monkeypatch)
        together = asked_at_once(client, gate, requests)
        assert gate.sizes == [[5], [1, 3]]  # of the champion
        assert [answer.json()["model"]["role"] for answer in together] == [model for _, model in asked]
        for one, other in zip(alone, together, strict=True):
            assert told(other) == tuple(without_rounding(told(one)))


def test_what_fails_in_one_request_does_not_touch_the_others(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(score_together=64) as client:
        engine = client.app.state.service.lineup.champion.get().scorer.engine  # type: ignore[attr-defined]
        score = engine.score_together

        def fails_on_two(requests: Any) -> Any:
            if any(len(items) == 2 for _, items in requests):
                raise RuntimeError("out of memory")
            return score(requests)

        monkeypatch.setattr(engine, "score_together", fails_on_two)
        answers = asked_at_once(client, Gate(client, monkeypatch), [request_of(one_user(n)) for n in (1, 2, 3)])
        assert [answer.status_code for answer in answers] == [200, 500, 200]
