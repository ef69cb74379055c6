import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.keys import new_key
from serving.loading import content_hash
from serving.logs import JSONLines, LogFormat, TextLines, formatter
from serving.request_log import LONGEST_BODY, Note, RequestLog
from serving.service import Service
from serving.settings import Settings
from tests.serving.conftest import Start
from tests.serving.world import answered

SECRET = "S3CR3T"
BODY = {"user": {"user": 1, "city": SECRET}, "candidates": [{"item_id": 1}, {"item_id": 2}]}
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.fixture(autouse=True)
def informed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serving.request_log")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Lines of requests, read as a program reads them."""
    written = [JSONLines().format(record) for record in caplog.records if record.name == "serving.request_log"]
    return [json.loads(line) for line in written]


def test_a_request_gets_one_line(start: Start, bundle_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret, key = new_key("feed", ["rank"])
    headers = {"X-API-Key": secret, "X-Request-ID": "feed-42", "traceparent": PARENT}
    with start(api_keys=key.line) as client:
        client.post("/v1/rank", json=BODY, headers=headers)
    (line,) = lines(caplog)
    assert 0 < line.pop("seconds") < 60
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO", "logger": "serving.request_log", "message": "request", "request_id": "feed-42",
        "method": "POST", "route": "/v1/rank", "status": 200, "candidates": 2,
        "model": f"untrained/{content_hash(bundle_path)}", "key": "feed", "trace_id": TRACE_ID, "span_id": SPAN_ID,
    }  # fmt: skip


def test_refused_requests_get_a_line_too(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    client.post("/v1/rank", json={"user": {"age": SECRET}, "candidates": [{"item_id": 1}]})
    client.get(f"/no/{SECRET}")
    assert [(line["route"], line["status"]) for line in lines(caplog)] == [("/v1/rank", 422), ("unmatched", 404)]
    assert SECRET not in caplog.text


def test_what_monitors_ask_for_is_not_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        client.get(path)
    assert lines(caplog) == []


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (1.0, 200, 200), (0.5, 50, 150)])
def test_a_share_of_the_requests_is_logged(
    caplog: pytest.LogCaptureFixture, share: float, least: int, most: int
) -> None:
    log = RequestLog(Settings(log_requests=share))
    for _ in range(200):
        log.write(Note("r1"), "POST", "/v1/rank", 200, 0.001)
    assert least <= len(lines(caplog)) <= most


def test_bodies_are_logged_when_they_are_asked_for_alone(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with start() as client:
        answered(client, "/v1/rank", BODY)
    assert SECRET not in json.dumps(lines(caplog))
    caplog.clear()
    with start(log_bodies_share=1.0, log_requests=0.0) as client:
        answered(client, "/v1/rank", BODY)
        client.post("/v1/rank", content=b"\xff\n" + b"x" * 20_000, headers={"Content-Type": "application/json"})
        written = lines(caplog)
    assert json.loads(written[0]["body"]) == BODY
    assert written[1]["body"].startswith("\\xff\nx")
    assert len(written[1]["body"]) < LONGEST_BODY + 10


def test_a_fault_is_told_in_the_log_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("at fault")

    with start() as client:
        monkeypatch.setattr(Service, "answer", fail)
        response = client.post("/v1/rank", json=BODY)
        assert response.status_code == 500
        assert not {"Traceback", "RuntimeError", "fault", SECRET} & set(response.text.replace('"', " ").split())
        assert response.headers["X-Request-ID"]
    record = next(record for record in caplog.records if record.exc_info)
    line = json.loads(JSONLines().format(record))
    assert line["exception"].endswith("RuntimeError: at fault")
    assert SECRET not in line["exception"]


@pytest.mark.parametrize("parent", [PARENT, PARENT.replace("00-", "cc-", 1), PARENT.replace("00-", "cc-", 1) + "-more"])
def test_a_trace_is_passed_on(client: TestClient, caplog: pytest.LogCaptureFixture, parent: str) -> None:
    headers = {"traceparent": parent, "tracestate": "congo=t61rcWkgMzE, rojo@a=00f067"}
    response = client.post("/v1/rank", json=BODY, headers=headers)
    assert response.headers["traceparent"] == parent
    assert response.headers["tracestate"] == "congo=t61rcWkgMzE,rojo@a=00f067"
    assert lines(caplog)[0]["trace_id"] == TRACE_ID


@pytest.mark.parametrize(
    "parent",
    ["", "00", PARENT[:-1], PARENT + "-more", PARENT.upper(), PARENT.replace("00-", "ff-", 1), PARENT + " ",
     PARENT.replace(TRACE_ID, "0" * 32), PARENT.replace(SPAN_ID, "0" * 16), PARENT.replace("4", "g"), "x" * 10_000],
)  # fmt: skip
def test_a_trace_that_is_none_is_left_out(client: TestClient, caplog: pytest.LogCaptureFixture, parent: str) -> None:
    response = client.post("/v1/rank", json=BODY, headers={"traceparent": parent, "tracestate": "a=1"})
    assert response.status_code == 200
    if parent != PARENT + " ":  # which is the same header
        assert not {"traceparent", "tracestate"} & set(response.headers)
        assert "trace_id" not in lines(caplog)[0]


@pytest.mark.parametrize(
    "state", ["a", "a=", "A=1", "a=1;b=2,c", "a=caf\xe9", "a=1,b=" + "x" * 600, ",".join(["a=1"] * 33)]
)
def test_a_state_that_is_none_does_not_end_a_trace(client: TestClient, state: str) -> None:
    headers = {"traceparent": PARENT.encode(), "tracestate": state.encode("latin-1")}
    response = client.post("/v1/rank", json=BODY, headers=headers)
    assert response.headers["traceparent"] == PARENT
    assert "tracestate" not in response.headers


def test_two_parents_are_none(client: TestClient) -> None:
    response = client.post("/v1/rank", json=BODY, headers=[("traceparent", PARENT), ("traceparent", PARENT)])
    assert "traceparent" not in response.headers


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("serving", logging.INFO, __file__, 1, message, None, None)
    made.fields = fields
    return made


def test_text_keeps_each_record_on_its_line() -> None:
    line = TextLines().format(record("request", status=200, key="feed", body='{"a": "b\n2026 ERROR forged"}'))
    assert line.endswith(r'INFO request status=200 key=feed body="{\"a\": \"b\n2026 ERROR forged\"}"')
    assert "\n" not in line


def test_json_keeps_each_record_on_its_line() -> None:
    line = JSONLines().format(record("a\nb", body="c\n\u2028d"))
    assert "\n" not in line
    assert json.loads(line)["message"] == "a\nb"


@pytest.mark.parametrize(
    ("chosen", "is_terminal", "expected"),
    [(None, True, TextLines), (None, False, JSONLines), ("json", True, JSONLines), ("text", False, TextLines)],
)
def test_programs_read_json_and_people_text(chosen: LogFormat | None, is_terminal: bool, expected: type) -> None:
    assert isinstance(formatter(chosen, is_terminal=is_terminal), expected)
