import gc
import inspect
import logging
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from recsys_mtl.config import ConfigError
from recsys_mtl.registry import BundlePlace
from serving.app import create_app
from serving.loading import Loaded, content_hash, load
from serving.routes import router
from serving.service import Service
from serving.settings import Settings
from tests.serving.conftest import Start
from tests.serving.world import answered, one_user, request_of, sample, until_settled

BODY = {
    "user": {"user": 1, "city": "unheard-of"},
    "candidates": [{"item_id": 1}, {"item_id": "new", "tags": ["a", "b"]}],
}


def test_a_service_is_ready_only_when_its_model_is(bundle_path: Path) -> None:
    go = threading.Event()

    def load_slowly(path: Path, place: BundlePlace) -> Loaded:
        assert go.wait(60)
        return load(path, place)

    with TestClient(create_app(Settings(model=str(bundle_path)), load_slowly)) as client:
        waiting = client.get("/readyz")
        assert (waiting.status_code, waiting.json()["status"]) == (503, "loading")
        assert client.get("/healthz").json() == {"status": "ok"}
        models = client.get("/v1/models").json()
        assert (models["models"], models["states"][0]["status"]) == ([], "loading")
        refused = client.post("/v1/rank", json=BODY)
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        go.set()
        ready = until_settled(client).get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert len(answered(client, "/v1/rank", BODY)["candidates"]) == 2


@pytest.mark.parametrize("error", [ConfigError(["registry: cannot be reached"]), RuntimeError("registry: broken")])
def test_a_model_that_cannot_be_loaded_is_reported(start: Start, error: Exception) -> None:
    def fail(*_: object) -> Loaded:
        raise error

    with start(load=fail) as client:
        ready = client.get("/readyz")
        assert ready.status_code == 503
        state = ready.json()
        assert (state["status"], state["reason"], state["model"]) == ("refused", str(error), None)
        assert state["refused"] == {"version": None, "reason": str(error)}


def test_models_say_what_a_request_may_carry(client: TestClient, bundle_path: Path) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["version"]) == ("untrained", content_hash(bundle_path))
    assert [(o["name"], o["kind"], o["unit"], o["space"]) for o in model["objectives"]] == [
        ("click", "binary", None, None), ("like", "binary", None, "click"), ("watch", "regression", "s", None),
    ]  # fmt: skip
    names = {part: [row["name"] for row in rows] for part, rows in model["inputs"].items()}
    assert names == {
        "user": ["user", "city", "history_item", "history_author", "age"],
        "context": ["hour"],
        "candidates": ["video", "author", "tags", "duration", "quality"],
    }
    assert model["fusions"]["default"] == "default"
    assert model["golden_requests"] > 0


def test_answers_name_their_model_and_their_formula(client: TestClient, bundle_path: Path) -> None:
    answer = answered(client, "/v1/rank", BODY)
    assert answer["model"] == {"name": "untrained", "version": content_hash(bundle_path), "role": "champion"}
    assert answer["fusion"] == {"name": "default", "version": 1}


def test_the_client_s_request_id_comes_back(client: TestClient) -> None:
    response = client.post("/v1/score", json=BODY, headers={"X-Request-ID": "feed-42/a"})
    assert response.json()["request_id"] == response.headers["X-Request-ID"] == "feed-42/a"


@pytest.mark.parametrize("unfit", ["", "x" * 129, "a b", "caf\xe9", "tab\there"])
def test_an_unfit_request_id_is_replaced(client: TestClient, unfit: str) -> None:
    response = client.post("/v1/score", json=BODY, headers={"X-Request-ID": unfit.encode("latin-1")})
    request_id = response.json()["request_id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert response.headers["X-Request-ID"] == request_id
    assert client.post("/v1/score", json=BODY).json()["request_id"] != request_id


def test_requests_are_counted_by_route_and_status(start: Start) -> None:
    with start() as client:
        answered(client, "/v1/rank", BODY)
        client.post("/v1/rank", json={})
        client.get("/no/such/path")
        assert sample(client, 'recsys_requests_total{route="/v1/rank",status="200"}') == 1
        assert sample(client, 'recsys_requests_total{route="/v1/rank",status="422"}') == 1
        assert sample(client, 'recsys_requests_total{route="unmatched",status="404"}') == 1
        assert sample(client, 'recsys_request_seconds_count{route="/v1/rank"}') == 2
        assert "no/such/path" not in client.get("/metrics").text


def test_candidates_scores_and_inputs_are_counted(start: Start) -> None:
    with start() as client:
        answer = answered(client, "/v1/rank", BODY)
        assert sample(client, "recsys_request_candidates_sum") == 2
        for task in ("click", "like", "watch"):
            scores = [row["objectives"][task] for row in answer["candidates"]]
            assert sample(client, f'recsys_objective_scores_count{{task="{task}"}}') == 2
            assert sample(client, f'recsys_objective_scores_sum{{task="{task}"}}') == pytest.approx(sum(scores))
            below = sum(score <= 0.5 for score in scores)
            assert sample(client, f'recsys_objective_scores_bucket{{le="0.5",task="{task}"}}') == below
        # A user's value is read once for both candidates.
        expected = {"city": (1, 1, 0), "user": (1, 0, 0), "hour": (1, 0, 1), "item": (2, 1, 0), "author": (2, 0, 2)}
        expected |= {"tags": (2, 0, 0), "history_item": (0, 0, 0)}
        for feature, counts in expected.items():
            names = [
                f'recsys_feature_{count}_total{{feature="{feature}"}}' for count in ("values", "unknown", "missing")
            ]
            assert tuple(sample(client, name) for name in names) == counts, feature


def test_the_model_in_service_is_among_the_metrics(client: TestClient, bundle_path: Path) -> None:
    text = client.get("/metrics").text
    assert re.search(rf'recsys_model_info{{.*version="{content_hash(bundle_path)}"}} 1.0', text)


def test_services_in_one_process_count_apart(start: Start) -> None:
    with start() as one, start() as other:
        answered(one, "/v1/rank", BODY)
        assert sample(one, "recsys_request_candidates_count") == 1
        assert sample(other, "recsys_request_candidates_count") == 0


def test_an_error_inside_is_told_without_its_text(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    with start() as client, caplog.at_level(logging.ERROR):
        monkeypatch.setattr(Service, "answer", fail)
        response = client.post("/v1/rank", json=BODY, headers={"X-Request-ID": "r1"})
        assert response.status_code == 500
        assert response.json() == {"detail": [{"loc": [], "msg": "internal error", "type": "internal_error"}]}
        assert sample(client, 'recsys_requests_total{route="/v1/rank",status="500"}') == 1
    assert "request r1 failed" in caplog.text
    assert "secret" in caplog.text


def test_a_ready_model_is_out_of_the_garbage_collector_s_way(start: Start) -> None:
    gc.unfreeze()
    with start():
        assert gc.get_freeze_count() > 10_000


def test_health_is_answered_while_candidates_are_scored(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    scoring, go = threading.Event(), threading.Event()
    with start() as client:
        scorer = client.app.state.service.lineup.champion.get().scorer  # type: ignore[attr-defined]
        score = scorer.score_together

        def score_slowly(questions: Any) -> Any:
            scoring.set()
            assert go.wait(60)
            return score(questions)

        monkeypatch.setattr(scorer, "score_together", score_slowly)
        answers: list[object] = []
        body = request_of(one_user(3))
        thread = threading.Thread(target=lambda: answers.append(answered(client, "/v1/rank", body)))
        thread.start()
        assert scoring.wait(60)
        assert client.get("/healthz").status_code == 200
        assert not answers
        go.set()
        thread.join(60)
        assert len(answers) == 1


def test_no_endpoint_waits_for_a_thread_that_fetches_what_it_depends_on() -> None:
    endpoints = [route for route in router.routes if isinstance(route, APIRoute)]
    calls = [call for route in endpoints for call in (route.endpoint, *(d.call for d in route.dependant.dependencies))]
    assert len(calls) > len(endpoints) > 0
    assert [call for call in calls if not inspect.iscoroutinefunction(call)] == []
