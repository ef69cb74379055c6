import math
import os
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.errors import RequestError
from serving.settings import Settings
from serving.traffic import Switch, Traffic, is_challenged
from tests import builders
from tests.serving.conftest import Start
from tests.serving.world import answered, problems_of, until_all_loaded

USERS = 20_000


@pytest.fixture(scope="session")
def rival_path(data: Path) -> Path:
    path = data.parent / "rival"
    builders.bundle(path, data, seed=5)
    return path


@pytest.fixture
def settings(rival_path: Path, bundle_path: Path, tmp_path: Path) -> Settings:
    return Settings(model=str(bundle_path), challenger=str(rival_path), cache_dir=tmp_path)


def role_of(client: TestClient, user: dict[str, object]) -> str:
    body = {"user": user, "candidates": [{"item_id": 1}]}
    return str(answered(client, "/v1/rank", body)["model"]["role"])


@pytest.mark.parametrize("percent", [0.0, 0.5, 10.0, 50.0, 100.0])
def test_the_challenger_gets_its_share_of_the_users(percent: float) -> None:
    share = percent / 100
    challenged = sum(is_challenged(user, "", percent) for user in range(USERS))
    assert abs(challenged - share * USERS) <= 5 * math.sqrt(USERS * share * (1 - share))


def test_requests_without_a_user_are_split_too() -> None:
    challenged = sum(is_challenged(None, f"request-{number}", 30) for number in range(USERS))
    assert abs(challenged - 0.3 * USERS) <= 5 * math.sqrt(USERS * 0.3 * 0.7)


def test_a_user_stays_with_the_challenger_when_its_share_grows() -> None:
    small, large = ({user for user in range(USERS) if is_challenged(user, "", percent)} for percent in (5, 20))
    assert small < large


def test_however_an_id_is_written_it_is_the_same_user() -> None:
    for user in range(200):
        assert len({is_challenged(one, "", 50) for one in (user, float(user), str(user))}) == 1


def test_a_user_is_answered_by_one_model(start: Start, rival_path: Path, tmp_path: Path) -> None:
    with start(challenger=str(rival_path), challenger_percent=50, cache_dir=tmp_path) as client:
        until_all_loaded(client)
        users = [{"user_id": user} for user in range(40)]
        first = [role_of(client, user) for user in users]
        assert {"champion", "challenger"} == set(first)
        assert [role_of(client, user) for user in users] == first
        assert [role_of(client, {"user": user}) for user in range(40)] == first  # the data set's own name for it


def test_traffic_is_changed_while_serving(start: Start, rival_path: Path, tmp_path: Path) -> None:
    with start(challenger=str(rival_path), cache_dir=tmp_path) as client:
        until_all_loaded(client)
        assert client.get("/v1/traffic").json() == {"challenger_percent": 0.0, "shadow": False}
        assert role_of(client, {"user_id": 1}) == "champion"
        change = {"challenger_percent": 100.0, "shadow": True}
        assert client.put("/v1/traffic", json=change).json() == change
        assert role_of(client, {"user_id": 1}) == "challenger"
        assert client.get("/v1/traffic").json() == change


@pytest.mark.parametrize("percent", [-1, 101, None, "many"])
def test_a_share_that_is_none_is_refused(client: TestClient, percent: object) -> None:
    body = {"challenger_percent": percent, "shadow": False}
    response = client.put("/v1/traffic", json=body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "challenger_percent"]


def test_there_is_no_traffic_for_a_challenger_that_is_not_there(start: Start, tmp_path: Path) -> None:
    with start(cache_dir=tmp_path) as client:
        body = {"challenger_percent": 5, "shadow": False}
        response = client.put("/v1/traffic", json=body)
        assert response.status_code == 422
        assert "RECSYS_MTL_CHALLENGER" in response.json()["detail"][0]["msg"]
        body = {"user": {}, "candidates": [{"item_id": 1}], "model": "challenger"}
        ((place, message),) = problems_of(client, body)
        assert place == "model"
        assert "the service has champion, untrained/sha-" in message
    assert list(tmp_path.iterdir()) == []


def test_a_change_reaches_other_processes_and_later_starts(settings: Settings) -> None:
    here, there = Switch(settings), Switch(settings)
    before, after = Traffic(challenger_percent=0, shadow=False), Traffic(challenger_percent=12.5, shadow=True)
    assert here.now() == there.now() == before
    here.set(after)
    assert here.now() == after
    deadline = time.monotonic() + 60
    while there.now() != after:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert Switch(settings).now() == after


def test_settings_that_change_count_again(settings: Settings) -> None:
    Switch(settings).set(Traffic(challenger_percent=12.5, shadow=True))
    changed = settings.model_copy(update={"challenger_percent": 3.0})
    assert Switch(changed).now() == Traffic(challenger_percent=3, shadow=False)


@pytest.mark.parametrize("content", ["", "[]", '{"traffic": {}}', "\0"])
def test_a_damaged_file_is_left_out(settings: Settings, content: str) -> None:
    switch = Switch(settings)
    switch.file.parent.mkdir(parents=True)
    switch.file.write_text(content)
    assert switch.now() == switch.settings


def test_a_change_that_cannot_be_written_down_is_refused(start: Start, rival_path: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with start(challenger=str(rival_path), cache_dir=cache) as client:
        cache.write_text("a file where the directory should be")
        response = client.put("/v1/traffic", json={"challenger_percent": 100, "shadow": False})
        assert response.status_code == 503
        assert os.fspath(cache) not in response.text
        assert role_of(client, {"user_id": 1}) == "champion"


def test_a_service_without_challenger_takes_no_other_traffic(bundle_path: Path, tmp_path: Path) -> None:
    switch = Switch(Settings(model=str(bundle_path), cache_dir=tmp_path))
    switch.set(Traffic(challenger_percent=0, shadow=False))
    with pytest.raises(RequestError):
        switch.set(Traffic(challenger_percent=0, shadow=True))
