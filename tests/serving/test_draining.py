"""The end of a service: real processes, with requests in flight."""

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from serving.keys import new_key
from tests.serving.service_process import Running, service, until

pytestmark = pytest.mark.slow

BODY = json.dumps({"user": {"user": 1}, "candidates": [{"item_id": 1}]}).encode()


def open_request(running: Running, body: bytes, **headers: str) -> socket.socket:
    """Open a connection, and send a request but for the last byte of its body."""
    url = urlsplit(running.address)
    connection = socket.create_connection((url.hostname, url.port or 0), timeout=120)
    given = {"Host": "x", "Content_Type": "application/json", "Content_Length": str(len(BODY))} | headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    connection.sendall(f"POST /v1/score HTTP/1.1\r\n{head}\r\n".encode() + body)
    return connection


def answer_on(connection: socket.socket) -> tuple[int, Any]:
    """Read an answer and the end of its connection."""
    head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


def refuses(running: Running) -> bool:
    url = urlsplit(running.address)
    try:
        socket.create_connection((url.hostname, url.port or 0), timeout=5).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("settings", [{}, {"workers": 2}], ids=["one process", "workers"])
def test_a_service_says_that_it_ends_answers_on_and_finishes_what_it_began(
    bundle_path: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    given = settings | {"model": bundle_path, "cache_dir": tmp_path / "cache", "drain_s": 6, "request_timeout_s": 60}
    with service(tmp_path / "log", **given) as running:
        until(lambda: running.log.read_text().count("ready: ") == settings.get("workers", 1), running.log)
        with httpx.Client(base_url=running.address, timeout=60) as kept, open_request(running, BODY[:-1]) as begun:
            assert kept.get("/readyz").status_code == 200
            time.sleep(0.5)  # the request is on its way
            running.process.send_signal(signal.SIGTERM)
            until(lambda: "told to stop" in running.log.read_text(), running.log)
            until(lambda: running.get("/readyz").status_code == 503, running.log)
            ready = running.get("/readyz").json()
            assert (ready["status"], ready["reason"]) == ("draining", "the service is about to end")
            answer = kept.post("/v1/score", content=BODY, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.headers["Connection"]) == (200, "close")  # on to another one
            assert running.get("/healthz").status_code == 200
            until(lambda: refuses(running), running.log)
            begun.sendall(BODY[-1:])
            assert answer_on(begun)[0] == 200
        assert running.process.wait(60) in (0, -signal.SIGTERM)


def test_a_second_signal_ends_the_wait(bundle_path: Path, tmp_path: Path) -> None:
    with service(tmp_path / "log", model=bundle_path, drain_s=3600) as running:
        until(lambda: "ready: " in running.log.read_text(), running.log)
        running.process.send_signal(signal.SIGTERM)
        until(lambda: "told to stop" in running.log.read_text(), running.log)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) in (0, -signal.SIGTERM)


def test_limits_and_keys_hold_over_connections(bundle_path: Path, tmp_path: Path) -> None:
    secret, key = new_key("feed", ["rank"])
    (tmp_path / "keys").write_text(key.line)
    given = {"model": bundle_path, "request_timeout_s": 2, "max_body_bytes": 2000, "api_keys_file": tmp_path / "keys"}
    with service(tmp_path / "log", **given) as running:
        until(lambda: "ready: " in running.log.read_text(), running.log)
        with open_request(running, BODY, X_API_Key=secret, Connection="close") as whole:
            assert answer_on(whole)[0] == 200
        with open_request(running, BODY[:-1], X_API_Key=secret) as slow:
            assert answer_on(slow)[0] == 408
        with open_request(running, b"", X_API_Key=secret, Content_Length="2001") as announced:
            assert answer_on(announced)[0] == 413
        with open_request(running, b"", X_API_Key=secret, Content_Encoding="gzip") as packed:
            assert answer_on(packed)[0] == 415
        with open_request(running, b"") as stranger:  # before anything of its body is there
            assert answer_on(stranger)[0] == 401
        chunks = httpx.post(
            f"{running.address}/v1/score", content=iter([b"x" * 500] * 5), headers={"X-API-Key": secret}
        )
        assert chunks.status_code == 413
        text = running.get("/metrics").text
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    statuses = [line["status"] for line in logged if line["message"] == "request"]
    assert statuses == [200, 408, 413, 415, 401, 413]
    assert {line.get("key") for line in logged if line.get("status", 401) != 401} == {"feed"}
    for hidden in (secret, key.sha256):
        assert hidden not in text + (tmp_path / "log").read_text()
