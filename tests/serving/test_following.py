import gc
import itertools
import threading
import time
import weakref
from pathlib import Path

from recsys_mtl.registry import BundlePlace
from serving.loading import Loaded, load
from tests.serving.registered import Shop, following_service, is_version, state, until_state
from tests.serving.world import Json, answered, one_user, request_of, sample, scores_of

BODY = {"user": {"user_id": 1}, "candidates": [{"item_id": 1}, {"item_id": 2}]}


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
        for version in (1, 2, 1, 2):
            at_first.point(version)
            until_state(client, is_version(str(version)))
            deadline = time.monotonic() + 60
            while any(not given or given[-1]["model"]["version"] != str(version) for given in answers):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        done.set()
        for thread in threads:
            thread.join(60)
        for given in answers:
            versions = [answer["model"]["version"] for answer in given]
            assert [version for version, _ in itertools.groupby(versions)] == ["1", "2", "1", "2"]
            for name in ("1", "2"):  # never the scores of one under the name of the other
                scores = [scores_of(answer) for answer in given if answer["model"]["version"] == name]
                assert all((one == scores[0]).all() for one in scores)
        assert (scores_of(answers[0][0]) != scores_of(answers[0][-1])).any()
        assert sample(client, 'recsys_model_swaps_total{result="swapped",role="champion"}') == 3


def test_copies_of_versions_before_the_last_ones_are_deleted(at_first: Shop, tmp_path: Path) -> None:
    body = request_of(one_user(6))
    with following_service(at_first, tmp_path, cache_versions=1) as client:
        first = scores_of(answered(client, "/v1/score", body))
        for version in (2, 1):
            at_first.point(version)
            until_state(client, is_version(str(version)))
            until_state(client, lambda _: len(list((tmp_path / "shop").iterdir())) == 1)
            assert [copy.name[:2] for copy in (tmp_path / "shop").iterdir()] == [f"{version}-"]
        assert (scores_of(answered(client, "/v1/score", body)) == first).all()


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
        gone, reader = weakref.ref(served.scorer), weakref.ref(served.scorer.reader)
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
        assert reader() is None  # with the vocabularies
        assert all(weight() is None for weight in weights)


def test_later_models_stay_within_the_collector_s_reach(at_first: Shop, tmp_path: Path) -> None:
    with following_service(at_first, tmp_path) as client:
        kept = gc.get_freeze_count()
        for version in (2, 1, 2):
            at_first.point(version)
            until_state(client, is_version(str(version)))
        assert gc.get_freeze_count() <= kept
