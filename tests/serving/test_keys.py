import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Route
from typer.testing import CliRunner

from pipelines.cli import app as commands
from recsys_mtl.config import ConfigError
from serving import keyring
from serving.gate import OPEN, SCOPES
from serving.keyring import check_keys
from serving.keys import Key, find, hash_of, new_key, read_keys
from serving.settings import Settings, read_settings
from tests.serving.conftest import Start
from tests.serving.world import sample

BODY = {"user": {"user": 1}, "candidates": [{"item_id": 1}]}
FEED, FEED_KEY = new_key("feed", ["rank"])
OPS, OPS_KEY = new_key("ops", ["admin"])
SCRAPER, SCRAPER_KEY = new_key("scraper", ["metrics"])
KEYS = " ".join(key.line for key in (FEED_KEY, OPS_KEY, SCRAPER_KEY))
TRAFFIC = {"challenger_percent": 0, "shadow": False}

Ask = Sequence[object]
RANK, SCORE = ("POST", "/v1/rank", BODY), ("POST", "/v1/score", BODY)
EVENTS = ("POST", "/v1/events", {"user_id": 1, "events": [{"item_id": 1}]})
MODELS, LOOK, CHANGE = ("GET", "/v1/models"), ("GET", "/v1/traffic"), ("PUT", "/v1/traffic", TRAFFIC)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def status(client: TestClient, ask: Ask, headers: dict[str, str]) -> int:
    method, path, *body = ask
    response = client.request(str(method), str(path), json=body[0] if body else None, headers=headers)
    return int(response.status_code)


@pytest.mark.parametrize(
    ("ask", "allowed"),
    [(RANK, {FEED}), (SCORE, {FEED}), (EVENTS, {FEED}), (MODELS, {FEED, OPS}), (LOOK, {OPS}), (CHANGE, {OPS})],
)
def test_a_key_opens_what_its_scopes_say(start: Start, ask: Ask, allowed: set[str]) -> None:
    passed = 409 if ask is EVENTS else 200  # no feature store: that is past the gate
    with start(api_keys=KEYS) as client:
        for secret in (FEED, OPS, SCRAPER):
            expected = passed if secret in allowed else 403
            assert status(client, ask, bearer(secret)) == expected
            assert status(client, ask, {"X-API-Key": secret}) == expected
        assert status(client, ask, {}) == 401
        assert status(client, ask, bearer(FEED + "x")) == 401


def test_every_route_has_its_scopes(client: TestClient) -> None:
    paths = {route.path for route in client.app.routes if isinstance(route, Route)}  # type: ignore[attr-defined]
    described = set(client.get("/openapi.json").json()["paths"])
    assert described <= set(SCOPES)
    assert paths - set(SCOPES) <= {"/docs/oauth2-redirect", "/redoc"}
    assert {path for path in described if SCOPES[path] == OPEN} == {"/healthz", "/readyz", "/metrics"}


@pytest.mark.parametrize("path", ["/v1/rank/", "//v1/rank", "/v1/%72ank", "/V1/RANK", "/new", "/v1/traffic/"])
def test_no_way_of_writing_a_path_needs_less_than_its_route(start: Start, path: str) -> None:
    with start(api_keys=KEYS) as client:
        assert client.post(path, json=BODY, follow_redirects=False).status_code == 401
        refused = client.put(path, json=TRAFFIC, headers=bearer(FEED), follow_redirects=False).status_code
        assert refused == (405 if path == "/v1/%72ank" else 403)  # the server has made a plain path of that


def test_who_has_no_key_is_told_which_kind_is_needed(start: Start) -> None:
    with start(api_keys=KEYS) as client:
        missing = client.post("/v1/rank", json=BODY)
        assert missing.headers["WWW-Authenticate"] == 'Bearer realm="recsys-mtl"'
        assert missing.json()["detail"][0]["type"] == "unauthorized"
        wrong = client.post("/v1/rank", json=BODY, headers={"X-API-Key": "caf\xe9".encode("latin-1")})
        assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]
        narrow = client.get("/v1/traffic", headers=bearer(FEED))
        assert (narrow.status_code, narrow.json()["detail"][0]["msg"]) == (403, "the key 'feed' lacks the scope admin")
        assert 'error="insufficient_scope", scope="admin"' in narrow.headers["WWW-Authenticate"]
        assert FEED not in narrow.text


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", f"Basic {FEED}", FEED, f"Bearer{FEED}", f"Bearer {FEED_KEY.sha256}"]
)
def test_other_headers_are_no_keys(start: Start, value: str) -> None:
    with start(api_keys=KEYS) as client:
        assert status(client, MODELS, {"Authorization": value}) == 401
        assert status(client, MODELS, {"Authorization": value, "X-API-Key": FEED}) == (
            401 if FEED_KEY.sha256 in value else 200
        )


def test_health_is_open_and_metrics_are_if_they_may(start: Start) -> None:
    with start(api_keys=KEYS) as client:
        assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
    with start(api_keys=KEYS, protect_metrics=True) as client:
        assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 401]
        assert [status(client, ("GET", "/metrics"), bearer(key)) for key in (FEED, OPS, SCRAPER)] == [403, 200, 200]


def test_requests_are_counted_by_the_name_of_their_key(start: Start) -> None:
    with start(api_keys=KEYS) as client:
        assert [status(client, RANK, bearer(key)) for key in (FEED, FEED, OPS, "unknown")] == [200, 200, 403, 401]
        assert sample(client, 'recsys_key_requests_total{key="feed"}') == 2
        assert sample(client, 'recsys_key_requests_total{key="ops"}') == 1
        assert sample(client, 'recsys_requests_total{route="/v1/rank",status="401"}') == 1
        text = client.get("/metrics").text
        assert FEED not in text
        assert FEED_KEY.sha256 not in text


def test_a_file_of_keys_is_read_again_when_it_changes(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keyring, "LOOK_SECONDS", 0.0)
    file = tmp_path / "keys"
    file.write_text(f"# who ranks\n\n{FEED_KEY.line}\n")
    with start(api_keys_file=file, api_keys=SCRAPER_KEY.line) as client:
        assert [status(client, MODELS, bearer(key)) for key in (FEED, OPS, SCRAPER)] == [200, 401, 403]
        new = tmp_path / "new"
        new.write_text(OPS_KEY.line)
        new.replace(file)
        assert [status(client, MODELS, bearer(key)) for key in (FEED, OPS, SCRAPER)] == [401, 200, 403]
        file.write_text("rubbish, in which a key may be")
        assert [status(client, MODELS, bearer(key)) for key in (FEED, OPS)] == [401, 200]
        assert "the keys stay as they were" in caplog.text
        assert "rubbish" not in caplog.text
        file.write_text("# all are revoked\n")
        assert [status(client, MODELS, bearer(key)) for key in (FEED, OPS)] == [401, 401]
        file.unlink()
        assert status(client, MODELS, bearer(OPS)) == 401


def test_a_linked_file_may_come_to_point_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes changes a mounted Secret."""
    monkeypatch.setattr(keyring, "LOOK_SECONDS", 0.0)
    for name, key in (("one", FEED_KEY), ("two", OPS_KEY)):
        (tmp_path / name).write_text(key.line)
        os.utime(tmp_path / name, (1, 1))
    link = tmp_path / "keys"
    link.symlink_to(tmp_path / "one")
    ring = keyring.Keyring(Settings(api_keys_file=link))
    assert ring.now() == (FEED_KEY,)
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert ring.now() == (OPS_KEY,)


def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(own: str, given: str) -> bool:
        compared.append(own)
        return own == given

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert find(FEED.encode(), [FEED_KEY, OPS_KEY]) == FEED_KEY
    assert compared == [FEED_KEY.sha256, OPS_KEY.sha256]
    assert find(b"", [FEED_KEY, OPS_KEY]) is None


@pytest.mark.parametrize(
    "line",
    ["feed", "feed:rank", f":rank:{'0' * 64}", f"feed::{'0' * 64}", f"feed:rank,:{'0' * 64}", f"feed:root:{'0' * 64}",
     f"feed:rank:{'0' * 63}", f"feed:rank:{'G' * 64}", f"a b:rank:{'0' * 64}", f"feed:rank:{'0' * 64}:x",
     f"feed:rank:{FEED}"],
)  # fmt: skip
def test_what_is_no_key_is_refused_without_repeating_it(line: str) -> None:
    with pytest.raises(ValueError, match=r"^key 2 is not of the form NAME:SCOPE") as error:
        read_keys([OPS_KEY.line, line])
    assert line not in str(error.value)


def test_names_of_keys_are_unique_over_settings_and_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(FEED_KEY.line)
    with pytest.raises(ConfigError, match=r"^RECSYS_MTL_API_KEYS_FILE: .*there is another one called 'feed'"):
        check_keys(Settings(api_keys=FEED_KEY.line, api_keys_file=file))


def test_a_start_without_valid_keys_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^RECSYS_MTL_API_KEYS_FILE: .*No such file"):
        check_keys(Settings(api_keys_file=tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"^RECSYS_MTL_API_KEYS: there is no key"):
        check_keys(Settings(api_keys=""))
    monkeypatch.setenv("RECSYS_MTL_API_KEYS", f"feed:rank:{FEED}")
    with pytest.raises(ConfigError, match=r"^RECSYS_MTL_API_KEYS: ") as error:
        read_settings()
    assert FEED not in str(error.value)
    monkeypatch.delenv("RECSYS_MTL_API_KEYS")
    with pytest.raises(ConfigError, match="there are no keys for it"):
        read_settings(protect_metrics=True)


@pytest.mark.parametrize(
    ("host", "warns"), [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True)]
)
def test_an_open_service_on_a_network_says_so(host: str, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    check_keys(Settings(host=host))
    assert ("no API keys are set" in caplog.text) is warns
    caplog.clear()
    check_keys(Settings(host=host, api_keys=KEYS))
    assert not caplog.text


def test_a_made_key_opens_the_service(start: Start) -> None:
    made = CliRunner().invoke(commands, ["serve-key", "shop", "--scope", "rank", "--scope", "admin"])
    assert made.exit_code == 0
    _, secret, _, line = (text.strip() for text in made.output.splitlines())
    assert line == Key("shop", frozenset({"rank", "admin"}), hash_of(secret.encode())).line
    with start(api_keys=line) as client:
        assert status(client, MODELS, bearer(secret)) == 200


def test_made_keys_differ() -> None:
    assert len({new_key("a", ["rank"])[0] for _ in range(100)}) == 100


@pytest.mark.parametrize(("arguments", "problem"), [(["a b"], "name: "), (["a", "--scope", "root"], "scope: 'root'")])
def test_a_key_that_cannot_be_made_is_an_error_for_the_user(arguments: list[str], problem: str) -> None:
    made = CliRunner().invoke(commands, ["serve-key", *arguments])
    assert made.exit_code == 2
    assert made.output.startswith(problem)
