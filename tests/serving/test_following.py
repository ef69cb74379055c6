import gc
import itertools
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys_mtl.registry import BundlePlace
from recsys_mtl.tracking import store
from serving import following, last_good
from serving.app import create_app
from serving.following import in_time
from serving.loading import Load, Loaded, load
from serving.settings import Settings
from tests.serving.registered import CHAMPION, Shop
from tests.serving.world import Json, answered, one_user, request_of, sample, scores_of

BODY = {"user": {"user_id": 1}, "candidates": [{"item_id": 1}, {"item_id": 2}]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    shop = Shop(f"sqlite:///{folder}/mlflow.db", data)
    assert [shop.add_trained(folder / "one", 4), shop.add_trained(folder / "two", 5)] == [1, 2]
    assert shop.add_broken(folder / "broken", 6) == 3
    return shop


@pytest.fixture
def at_first(shop: Shop) -> Iterator[Shop]:
    shop.point(1)
    yield shop
    database = store.sqlite_path(shop.uri)
    if (away := database.with_suffix(".away")).exists():
        away.rename(database)


@contextmanager
def following_service(shop: Shop, cache: Path, load: Load = load, **settings: Any) -> Iterator[TestClient]:
    chosen = {"model": CHAMPION, "tracking_uri": shop.uri, "cache_dir": cache, "poll_seconds": 0.05}
    app = create_app(Settings(**chosen | settings), load)
    with TestClient(app) as client:
        assert app.state.service.follower.settled.wait(60)
        yield client


def go_away(shop: Shop) -> Path:
    database = store.sqlite_path(shop.uri)
    return database.rename(database.with_suffix(".away"))


def state(client: TestClient) -> Json:
    found: Json = client.get("/v1/models").json()["states"][0]
    return found


def until_state(client: TestClient, is_reached: Callable[[Json], bool]) -> Json:
    deadline = time.monotonic() + 60
    while not is_reached(now := state(client)):
        assert time.monotonic() < deadline, now
        time.sleep(0.02)
    return now


def is_version(version: str) -> Callable[[Json], bool]:
    return lambda now: now["model"] is not None and now["model"]["version"] == version


def test_requests_go_on_while_the_model_changes(at_first: Shop, tmp_path: Path) -> None:
    body = request_of(one_user(6))
    with following_service(at_first, tmp_path) as client:
        answers: list[list[Json]] = [[], []]
        done = threading.Event()

        def ask(into: list[Json]) -> None:
            while not done.is_set():
                into.append(answered(client, "/v1/score", body))

        threads = [threading.Thread(target=ask, args=(into,)) for into in answers]
        for thread in threads:
            thread.start()
        for version in (2, 1, 2):
            at_first.point(version)
            until_state(client, is_version(str(version)))
        done.set()
        for thread in threads:
            thread.join(60)
        for given in answers:
            versions = [answer["model"]["version"] for answer in given]
            assert [version for version, _ in itertools.groupby(versions)] == ["1", "2", "1", "2"]
            for version in ("1", "2"):  # never the scores of one under the name of the other
                scores = [scores_of(answer) for answer in given if answer["model"]["version"] == version]
                assert all((one == scores[0]).all() for one in scores)
        assert (scores_of(answers[0][0]) != scores_of(answers[0][-1])).any()
        assert sample(client, 'recsys_model_swaps_total{result="swapped",role="champion"}') == 3


def test_a_broken_version_is_refused_once_and_the_old_one_goes_on(at_first: Shop, tmp_path: Path) -> None:
    tried = []

    def counted(path: Path, place: BundlePlace) -> Loaded:
        tried.append(place.version)
        return load(path, place)

    with following_service(at_first, tmp_path, counted) as client:
        at_first.point(3)
        refused = until_state(client, lambda now: now["refused"] is not None)
        assert (refused["status"], refused["model"]["version"], refused["refused"]["version"]) == ("ready", "1", "3")
        assert "expected scores are not reproduced" in refused["refused"]["reason"]
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["refused"]["version"]) == (200, "3")
        time.sleep(0.5)  # ten more looks
        assert tried == [1, 3]
        assert answered(client, "/v1/rank", BODY)["model"]["version"] == "1"
        assert sample(client, 'recsys_model_swaps_total{result="refused",role="champion"}') == 1
        assert not list((tmp_path / "shop").glob("3-*"))
        at_first.point(2)
        assert until_state(client, is_version("2"))["refused"] is None


def test_a_start_with_a_broken_version_serves_the_last_good_one(at_first: Shop, tmp_path: Path) -> None:
    with following_service(at_first, tmp_path) as client:
        assert state(client)["model"]["version"] == "1"
    at_first.point(3)
    with following_service(at_first, tmp_path) as client:
        now = state(client)
        assert (now["status"], now["model"]["version"], now["refused"]["version"]) == ("ready", "1", "3")
        assert now["stale"] is False


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


def test_a_challenger_that_becomes_champion_is_not_loaded_again(at_first: Shop, tmp_path: Path) -> None:
    loads = []

    def counted(path: Path, place: BundlePlace) -> Loaded:
        loads.append(place.version)
        return load(path, place)

    at_first.point(2, "rival")
    with following_service(at_first, tmp_path, counted, challenger="models:/shop@rival") as client:
        at_first.point(2)
        until_state(client, is_version("2"))
        assert loads == [1, 2]
        assert answered(client, "/v1/rank", BODY)["model"] == {"name": "shop", "version": "2", "role": "champion"}
        asked = answered(client, "/v1/rank", BODY | {"model": "challenger"})["model"]
        assert asked == {"name": "shop", "version": "2", "role": "challenger"}


def test_the_old_model_s_memory_is_given_back(at_first: Shop, tmp_path: Path) -> None:
    with following_service(at_first, tmp_path) as client:
        answered(client, "/v1/rank", BODY)
        served = client.app.state.service.lineup.champion.get()  # type: ignore[attr-defined]
        weights = [weakref.ref(weight) for weight in served.scorer.bundle.model.state_dict().values()]
        gone = weakref.ref(served.scorer)
        at_first.point(2)
        until_state(client, is_version("2"))
        assert gone() is not None  # a request that began with it may end with it
        gc.disable()  # what is out of the collector's way would never be collected: no cycle may hold the model
        try:
            del served
            deadline = time.monotonic() + 60
            while gone() is not None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            gc.enable()
        assert all(weight() is None for weight in weights)


def test_a_registry_that_does_not_answer_holds_up_no_start(
    at_first: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with following_service(at_first, tmp_path):
        pass
    go = threading.Event()
    monkeypatch.setattr(following, "FIRST_LOOK_SECONDS", 0.1)
    look_up = following.look_up
    monkeypatch.setattr(following, "look_up", lambda *asked: go.wait(60) and look_up(*asked))
    with following_service(at_first, tmp_path) as client:
        assert "has not answered for 0.1 s" in state(client)["reason"]
        assert answered(client, "/v1/rank", BODY)["model"]["version"] == "1"
        go.set()
        until_state(client, lambda now: not now["stale"])


def test_what_a_look_raises_is_raised_in_time() -> None:
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, 60)  # type: ignore[arg-type,return-value]


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
