import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.arrow import MEDIA_TYPE
from serving.gate import OPEN, SCOPES
from serving.keys import new_key
from tests.serving.conftest import Start
from tests.serving.store.conftest import publish
from tests.serving.test_arrow import stream
from tests.serving.world import until_all_loaded

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

Operations = dict[tuple[str, str], Any]

ROUTES = {("POST", "/v1/rank"), ("POST", "/v1/score"), ("GET", "/v1/models")}
ROUTES |= {("POST", "/v1/events"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}
ROUTES |= {("GET", "/v1/traffic"), ("PUT", "/v1/traffic")}


scalars: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
)
scalars |= st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
cells = scalars | st.lists(scalars, max_size=4) | st.dictionaries(st.just("a"), scalars, max_size=1)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Candidates as Arrow streams, right ones among them."""
    arrays = [pa.array(values) for values in ([1, 2], ["a", ""], [0.5, None], [["a"], []], [None, None], [True, False])]
    names = draw(st.sets(st.sampled_from(["author", "tags", "duration", "quality", "other"])))
    columns = {name: draw(st.sampled_from(arrays)) for name in sorted(names)}
    head = {"user": draw(st.just({}) | st.dictionaries(st.sampled_from(["city", "age", "other"]), cells, max_size=2))}
    return stream(pa.table({"item_id": draw(st.sampled_from(arrays)), **columns}), head)


schemathesis.openapi.media_type(MEDIA_TYPE, st.just(stream(pa.table({"item_id": [1]}))) | streams() | st.binary())


@pytest.fixture(scope="module")
def client(
    data: Path, bundle_path: Path, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A service that has everything: each route can say yes."""
    folder = tmp_path_factory.mktemp("everything")
    publish(data, f"parquet:{folder / 'features'}")
    given = {"store": f"parquet:{folder / 'features'}", "challenger": str(bundle_path), "cache_dir": folder / "cache"}
    with start(**given) as client:
        until_all_loaded(client)
        yield client


@pytest.fixture(scope="module")
def operations(client: TestClient) -> Operations:
    return operations_of(client)


def operations_of(client: TestClient) -> Operations:
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    results: list[Any] = list(schema.get_all_operations())
    found = [result.ok() for result in results]
    return {(operation.method.upper(), operation.path): operation for operation in found}


def test_every_route_is_tried(operations: Operations) -> None:
    assert set(operations) == ROUTES


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", ["/v1/rank", "/v1/score", "/v1/events", "/v1/traffic"])
def test_whatever_is_sent_the_answer_is_as_described(operations: Operations, path: str, mode: GenerationMode) -> None:
    method = "PUT" if path == "/v1/traffic" else "POST"
    sent: Counter[tuple[str, int]] = Counter()

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(operations[method, path].as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        sent[case.media_type, case.call_and_validate(checks=CHECKS).status_code] += 1

    send()
    answers = {status for _, status in sent}
    assert answers <= {200, 422}
    assert 422 in answers or mode is GenerationMode.POSITIVE
    if mode is GenerationMode.POSITIVE:  # wrong streams are made in test_arrow.py
        assert 200 in answers
        assert {kind for kind, _ in sent} >= ({MEDIA_TYPE} if path in {"/v1/rank", "/v1/score"} else set())


def test_who_has_no_key_is_answered_as_described(start: Start) -> None:
    with start(api_keys=new_key("feed", ["rank"])[1].line) as client:
        paths = client.get("/openapi.json").json()["paths"]
        assert paths["/v1/rank"]["post"]["security"] == [{"bearer": []}, {"header": []}]
        assert paths["/healthz"]["get"]["security"] == []
        for (_, path), operation in operations_of(client).items():
            case = operation.Case(body={}, media_type="application/json") if operation.body else operation.Case()
            assert case.call_and_validate(checks=CHECKS).status_code == (200 if SCOPES[path] == OPEN else 401)


NAMES = {
    "user": {"user", "city", "age", "history_item", "history_author"},
    "context": {"hour"},
    "candidates": {"video", "author", "tags", "duration", "quality"},
}


def some_of(names: set[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(sorted(names), cells))


@settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    user=some_of(NAMES["user"]) | some_of({"user", "city", "age"}),
    context=some_of(NAMES["context"]),
    items=st.lists(some_of(NAMES["candidates"]), min_size=1, max_size=4),
)
def test_any_values_of_known_features_are_scored_or_refused_with_their_place(
    client: TestClient, user: dict[str, Any], context: dict[str, Any], items: list[dict[str, Any]]
) -> None:
    candidates = [{"item_id": i, **item} for i, item in enumerate(items)]
    response = client.post("/v1/rank", json={"user": user, "context": context, "candidates": candidates})
    answer = response.json()
    if response.status_code == 200:
        scores = [row["score"] for row in answer["candidates"]]
        assert scores == sorted(scores, reverse=True)
        return
    assert response.status_code == 422, response.text
    for problem in answer["detail"]:
        part, *place = problem["loc"][1:]
        name = place[part == "candidates"]
        assert name in NAMES[part]


@pytest.mark.parametrize("path", sorted(path for method, path in ROUTES if method == "GET"))
def test_whatever_is_read_is_as_described(operations: Operations, path: str) -> None:
    operations["GET", path].Case().call_and_validate(checks=CHECKS)


def test_the_description_names_what_requests_and_answers_have(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    schemas = description["components"]["schemas"]
    fields = {"user", "context", "candidates", "fusion", "model", "explain", "top_k"}
    assert set(schemas["RankRequest"]["properties"]) == fields
    assert schemas["RankRequest"]["required"] == ["user", "candidates"]
    assert schemas["RankRequest"]["additionalProperties"] is False
    for part in ("RankRequest", "Candidate", "ScoreAnswer", "ScoredCandidate", "ModelDescription"):
        undescribed = [name for name, field in schemas[part]["properties"].items() if "description" not in field]
        assert set(undescribed) <= {"model", "fusion", "name", "version", "item_id", "objectives", "fusions", "role"}, (
            part
        )
    assert "/docs" not in json.dumps(description["paths"])
    assert client.get("/docs").status_code == 200
