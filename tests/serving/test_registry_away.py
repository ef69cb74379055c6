import shutil
import threading
import time
from pathlib import Path

import pytest

from recsys_mtl import registry
from recsys_mtl.registry import BundlePlace
from recsys_mtl.tracking import store
from serving import following, last_good
from serving.following import in_time
from tests.serving.registered import CHAMPION, Shop, following_service, is_version, state, until_state
from tests.serving.world import answered, sample

BODY = {"user": {"user_id": 1}, "candidates": [{"item_id": 1}, {"item_id": 2}]}


def go_away(shop: Shop) -> Path:
    database = store.sqlite_path(shop.uri)
    return database.rename(database.with_suffix(".away"))


def test_a_start_without_a_registry_serves_the_last_good_version(at_first: Shop, tmp_path: Path) -> None:
    with following_service(at_first, tmp_path):
        pass
    at_first.point(2)
    away = go_away(at_first)
    with following_service(at_first, tmp_path) as client:
        now = client.get("/readyz")
        assert (now.status_code, now.json()["model"]["version"], now.json()["stale"]) == (200, "1", True)
        assert "no such tracking database" in now.json()["reason"]
        assert answered(client, "/v1/rank", BODY)["model"]["version"] == "1"
        name = f'recsys_model_stale_seconds{{role="champion",uri="{CHAMPION}"}}'
        deadline = time.monotonic() + 60
        while sample(client, name) <= 0.0:
            assert time.monotonic() < deadline
        away.rename(store.sqlite_path(at_first.uri))
        now = until_state(client, is_version("2"))
        assert until_state(client, lambda now: not now["stale"])["status"] == "ready"
        while sample(client, name) > 0.0:
            assert time.monotonic() < deadline


def test_a_registry_that_goes_away_leaves_the_model(at_first: Shop, tmp_path: Path) -> None:
    with following_service(at_first, tmp_path) as client:
        away = go_away(at_first)
        stale = until_state(client, lambda now: bool(now["stale"]))
        assert (stale["status"], stale["model"]["version"]) == ("ready", "1")
        away.rename(store.sqlite_path(at_first.uri))
        assert "golden requests" in until_state(client, lambda now: not now["stale"])["reason"]


def test_a_start_with_neither_registry_nor_copy_waits_for_the_registry(at_first: Shop, tmp_path: Path) -> None:
    away = go_away(at_first)
    with following_service(at_first, tmp_path) as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "waiting")
        assert client.post("/v1/rank", json=BODY).status_code == 503
        away.rename(store.sqlite_path(at_first.uri))
        assert until_state(client, is_version("1"))["status"] == "ready"


def test_a_registry_that_does_not_answer_holds_up_no_start(
    at_first: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with following_service(at_first, tmp_path):
        pass
    go = threading.Event()
    monkeypatch.setattr(following, "FIRST_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(following, "look_up", lambda *asked: go.wait(60) and registry.describe(*asked))
    with following_service(at_first, tmp_path) as client:
        assert "has not answered for 0.1 s" in state(client)["reason"]
        assert answered(client, "/v1/rank", BODY)["model"]["version"] == "1"
        go.set()
        until_state(client, lambda now: not now["stale"])


def test_what_a_look_raises_is_raised_in_time() -> None:
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, 60)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"uri": "x", "nothing": 1}'])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    place = BundlePlace("shop", 1, "run", "runs:/run/bundle", final=True)
    last_good.remember(place, CHAMPION, "sqlite:///mlflow.db", cache=tmp_path)
    assert last_good.recall(CHAMPION, "sqlite:///mlflow.db", cache=tmp_path) is None  # there is no copy
    (tmp_path / place.folder).mkdir(parents=True)
    assert last_good.recall(CHAMPION, "sqlite:///mlflow.db", cache=tmp_path) == place
    assert last_good.recall(CHAMPION, "sqlite:///other.db", cache=tmp_path) is None
    next((tmp_path / "last-good").iterdir()).write_text(content)
    assert last_good.recall(CHAMPION, "sqlite:///mlflow.db", cache=tmp_path) is None
    shutil.rmtree(tmp_path / "last-good")
    assert last_good.recall(CHAMPION, "sqlite:///mlflow.db", cache=tmp_path) is None
