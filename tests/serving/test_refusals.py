from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient
from torch import Tensor

from recsys_mtl.inference import Encoded, Engine
from tests.serving.conftest import Start
from tests.serving.world import answered, problems_of

GOOD: dict[str, Any] = {"user": {"user": 1}, "candidates": [{"item_id": 1}, {"item_id": 2}]}
JSON = {"Content-Type": "application/json"}
ONE_VALUE = "expected text, a number, true, false or null, got"


def with_candidate(**features: Any) -> dict[str, Any]:
    """The good request, with a third candidate that has these features."""
    return GOOD | {"candidates": [*GOOD["candidates"], {"item_id": 3, **features}]}


def test_the_request_behind_the_refused_ones_is_answered(client: TestClient) -> None:
    assert len(answered(client, "/v1/rank", GOOD)["candidates"]) == 2


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        (GOOD | {"user": {"foo": 1}}, "user.foo", "unknown feature"),
        (GOOD | {"user": {"usr": 1}}, "user.usr", "unknown feature; did you mean 'user'?"),
        (GOOD | {"user": {"duration": 1}}, "user.duration", "unknown feature"),
        (GOOD | {"context": {"our": 1}}, "context.our", "unknown feature; did you mean 'hour'?"),
        (with_candidate(duraton=1), "candidates.2.duraton", "unknown feature; did you mean 'duration'?"),
        (with_candidate(click=1), "candidates.2.click", "unknown feature"),
        (with_candidate(duration="long"), "candidates.2.duration", "expected a number"),
        (with_candidate(duration=[1]), "candidates.2.duration", f"{ONE_VALUE} a list"),
        (with_candidate(quality=1e300), "candidates.2.quality", "the number is too large for the model"),
        (with_candidate(author={"id": 1}), "candidates.2.author", f"{ONE_VALUE} an object"),
        (with_candidate(tags="a,b"), "candidates.2.tags", "expected a list of values, got text"),
        (with_candidate(tags=7), "candidates.2.tags", "expected a list of values, got a number"),
        (with_candidate(tags=["a", ["b"]]), "candidates.2.tags.1", f"{ONE_VALUE} a list"),
        (with_candidate(tags=[{"a": 1}]), "candidates.2.tags.0", f"{ONE_VALUE} an object"),
        (GOOD | {"user": {"history_item": 5}}, "user.history_item", "expected a list of values, got a number"),
        (GOOD | {"user": {"user_id": [5]}}, "user.user_id", f"{ONE_VALUE} a list"),
        (GOOD | {"user": {"age": "old"}}, "user.age", "expected a number"),
        (GOOD | {"context": {"hour": [1]}}, "context.hour", f"{ONE_VALUE} a list"),
        (
            GOOD | {"user": {"history_item": [1, 2], "history_author": [1]}},
            "user.history_author",
            "1 events where history_item has 2; a sequence's columns are aligned",
        ),
        (GOOD | {"fusion": "best"}, "fusion", "no formula of this name; the model has default"),
        (GOOD | {"fusion": ""}, "fusion", None),
        (GOOD | {"fusion": {"kind": "weighted_sum"}}, "fusion", None),
        (GOOD | {"top_k": 0}, "top_k", "input should be greater than or equal to 1"),
        (GOOD | {"top_k": -1}, "top_k", None),
        (GOOD | {"top_k": 1.5}, "top_k", None),
        (GOOD | {"top_k": "2"}, "top_k", None),
        (GOOD | {"top_k": True}, "top_k", None),
        (GOOD | {"topk": 3}, "topk", "unknown field"),
        (GOOD | {"candidates": []}, "candidates", None),
        (GOOD | {"candidates": None}, "candidates", None),
        (GOOD | {"candidates": [7]}, "candidates.0", None),
        (GOOD | {"candidates": [{"video": 7}]}, "candidates.0.item_id", "field required"),
        (GOOD | {"user": None}, "user", None),
        (GOOD | {"user": 5}, "user", None),
        (GOOD | {"context": []}, "context", None),
        ({"candidates": GOOD["candidates"]}, "user", "field required"),
        ({"user": {}}, "candidates", "field required"),
    ],
)
def test_bad_requests_are_refused_with_the_place(
    client: TestClient, body: Any, place: str, message: str | None
) -> None:
    (problem,) = problems_of(client, body)
    assert problem[0] == place
    assert problem[1].startswith(f"{place}: ")
    assert message is None or problem[1] == f"{place}: {message}"


@pytest.mark.parametrize("item_id", [None, True, 1.5, [1], {"a": 1}, "", "x" * 257, 2**64, -(2**63) - 1, 1e300])
def test_an_item_id_is_text_or_a_whole_number(client: TestClient, item_id: Any) -> None:
    expected = "candidates.0.item_id: expected text of 1 to 256 characters or a whole number of 64 bits"
    assert problems_of(client, GOOD | {"candidates": [{"item_id": item_id}]}) == [("candidates.0.item_id", expected)]


def test_everything_that_is_wrong_is_told_at_once(client: TestClient) -> None:
    body = GOOD | {"user": {"a": 1, "b": 2}, "candidates": [{"item_id": 1}, {"item_id": 2, "c": 1}]}
    assert [place for place, _ in problems_of(client, body)] == ["candidates.1.c", "user.a", "user.b"]


def test_a_mistake_in_every_candidate_does_not_flood_the_answer(client: TestClient) -> None:
    candidates = [{"item_id": i, "typo": 1, "tags": 3} for i in range(1000)]
    problems = problems_of(client, GOOD | {"candidates": candidates})
    assert 1 < len(problems) <= 20
    assert {message.split(": ", 1)[1] for _, message in problems} == {"unknown feature"}


def test_names_of_any_number_and_length_are_refused_briefly(client: TestClient) -> None:
    response = client.post("/v1/rank", json=GOOD | {"user": {f"{i}" + "x" * 10_000: i for i in range(500)}})
    assert response.status_code == 422
    assert len(response.json()["detail"]) == 20
    assert len(response.text) < 10_000


def test_score_knows_no_top_k(client: TestClient) -> None:
    assert problems_of(client, GOOD | {"top_k": 1}, "/v1/score") == [("top_k", "top_k: unknown field")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        '{"user": {"age": NaN}, "candidates": [{"item_id": 1}]}',
        '{"user": {"age": Infinity}, "candidates": [{"item_id": 1}]}',
        '{"user": {"age": 1e999}, "candidates": [{"item_id": 1}]}',
        '{"user": {"city": "\\ud800"}, "candidates": [{"item_id": 1}]}',
        '{"user": ' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_what_is_not_a_json_object_is_refused(client: TestClient, text: str) -> None:
    response = client.post("/v1/rank", content=text, headers=JSON)
    assert response.status_code == 422
    assert all(problem["loc"][0] == "body" for problem in response.json()["detail"])


def test_bytes_that_are_not_text_are_refused(client: TestClient) -> None:
    response = client.post("/v1/rank", content=b'{"user": {"city": "\xff\xfe"}}', headers=JSON)
    assert response.status_code == 422
    assert "not valid JSON" in response.json()["detail"][0]["msg"]


def test_the_content_type_is_asked_for(client: TestClient) -> None:
    response = client.post("/v1/rank", content="{}", headers={"Content-Type": "text/plain"})
    assert response.status_code == 422
    assert "Content-Type: application/json" in response.json()["detail"][0]["msg"]


def test_enormous_whole_numbers_are_values_like_others(client: TestClient) -> None:
    body = GOOD | {"user": {"user": int("9" * 400), "history_item": [10**30], "history_author": [2**64 - 1]}}
    response = client.post("/v1/rank", json=body)
    assert response.status_code == 422  # a number beyond any float is not JSON that can be read
    small = GOOD | {"user": {"user": 10**30, "history_item": [10**30, 2**63], "history_author": [2**64 - 1, 1]}}
    assert len(answered(client, "/v1/rank", small)["candidates"]) == 2


def test_a_request_with_too_many_candidates_is_refused(start: Start) -> None:
    candidates = [{"item_id": i} for i in range(4)]
    with start(max_candidates=3) as client:
        assert problems_of(client, GOOD | {"candidates": candidates}) == [
            ("candidates", "candidates: 4 are too many; this service takes up to 3")
        ]
        assert len(answered(client, "/v1/rank", GOOD | {"candidates": candidates[:3]})["candidates"]) == 3


def test_a_candidate_without_a_finite_score_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Engine.score_together

    def overflow(engine: Engine, requests: Sequence[tuple[Encoded, Encoded]]) -> list[Tensor]:
        found = [scores_BT.clone() for scores_BT in score(engine, requests)]
        found[0][1, 2] = float("nan")
        return found

    monkeypatch.setattr(Engine, "score_together", overflow)
    message = "candidates.1: has no finite score: numbers are too large for the model"
    assert problems_of(client, GOOD) == [("candidates.1", message)]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/rank", 405)])
def test_other_refusals_have_the_same_shape(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert {"loc", "msg", "type"} == set(response.json()["detail"][0])
