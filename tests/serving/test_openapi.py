import json
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

described = schemathesis.pytest.from_fixture("api")


@pytest.fixture(scope="module")
def api(client: TestClient) -> Any:
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    return schema


@described.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_whatever_comes_the_answer_is_as_described(case: Case) -> None:
    case.call_and_validate(checks=CHECKS)


def test_the_description_names_what_requests_and_answers_have(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    schemas = description["components"]["schemas"]
    assert set(schemas["RankRequest"]["properties"]) == {"user", "context", "candidates", "fusion", "top_k"}
    assert schemas["RankRequest"]["required"] == ["user", "candidates"]
    assert schemas["RankRequest"]["additionalProperties"] is False
    for part in ("RankRequest", "Candidate", "ScoreAnswer", "ScoredCandidate", "ModelDescription"):
        undescribed = [name for name, field in schemas[part]["properties"].items() if "description" not in field]
        assert set(undescribed) <= {"model", "fusion", "name", "version", "objectives", "fusions"}, part
    assert "/docs" not in json.dumps(description["paths"])
    assert client.get("/docs").status_code == 200
