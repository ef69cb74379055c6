import shutil
import threading
from pathlib import Path

import pytest

from serving.loading import content_hash
from serving.schemas import ScoreRequest
from serving.scorer import Scorer
from tests import builders
from tests.serving.conftest import Start
from tests.serving.world import (
    Json,
    answered,
    one_user,
    problems_of,
    request_of,
    sample,
    scores_of,
    until,
    until_all_loaded,
)

COUNTED = ("count", "sum")
BODY = {"user": {"user_id": 1}, "candidates": [{"item_id": 1}, {"item_id": 2}]}


@pytest.fixture(scope="module")
def rival_path(data: Path) -> Path:
    path = data.parent / "another"
    builders.bundle(path, data, seed=6)
    return path


@pytest.fixture
def broken_path(rival_path: Path, tmp_path: Path) -> Path:
    path = Path(shutil.copytree(rival_path, tmp_path / "broken"))
    (path / "model.safetensors").write_bytes(b"nothing")
    return path


def test_a_request_may_name_its_model(start: Start, bundle_path: Path, rival_path: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(rival_path, tmp_path / "twin"))
    with start(challenger=str(rival_path), pinned=str(twin), cache_dir=tmp_path / "cache") as client:
        models = until_all_loaded(client)["models"]
        assert [(model["role"], model["name"]) for model in models] == [
            ("champion", "untrained"), ("challenger", "another"), ("pinned", "twin"),
        ]  # fmt: skip
        champion, challenger = content_hash(bundle_path), content_hash(rival_path)
        answers = {}
        for name, role, version in (
            (None, "champion", champion),
            ("champion", "champion", champion),
            ("challenger", "challenger", challenger),
            (challenger, "challenger", challenger),  # the first in line that has this version
            (f"twin/{challenger}", "pinned", challenger),
        ):
            answers[name] = answered(client, "/v1/score", BODY | {"model": name})
            assert (answers[name]["model"]["role"], answers[name]["model"]["version"]) == (role, version)
        assert (scores_of(answers["challenger"]) != scores_of(answers["champion"]))[:, 0].all()
        assert (scores_of(answers["challenger"]) == scores_of(answers[f"twin/{challenger}"])).all()
        for name in ("pinned", "untrained", "7"):
            ((place, message),) = problems_of(client, BODY | {"model": name})
            assert place == "model"
            assert f"champion, challenger, untrained/{champion}" in message


def test_a_challenger_that_is_refused_stands_in_nobody_s_way(start: Start, broken_path: Path, tmp_path: Path) -> None:
    with start(challenger=str(broken_path), challenger_percent=100, shadow=True, cache_dir=tmp_path) as client:
        assert [state["status"] for state in until_all_loaded(client)["states"]] == ["ready", "refused"]
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["others"][0]["status"]) == (200, "refused")
        assert "model.safetensors" in ready.json()["others"][0]["reason"]
        assert answered(client, "/v1/rank", BODY)["model"]["role"] == "champion"
        assert client.post("/v1/rank", json=BODY | {"model": "challenger"}).status_code == 503
        assert sample(client, 'recsys_model_swaps_total{result="refused",role="challenger"}') == 1
        assert (broken_path / "model.safetensors").exists()  # a directory that the user named is not ours to clean


def test_shadow_scores_are_counted_and_change_no_answer(start: Start, rival_path: Path, tmp_path: Path) -> None:
    body = request_of(one_user(12))
    with start(challenger=str(rival_path), cache_dir=tmp_path) as client:
        until_all_loaded(client)
        alone = answered(client, "/v1/score", body)
        client.put("/v1/traffic", json={"challenger_percent": 0, "shadow": True})
        shadowed = answered(client, "/v1/score", body)
        assert (shadowed["candidates"], shadowed["model"]) == (alone["candidates"], alone["model"])
        until(client, 'recsys_shadow_requests_total{result="scored"}', 1)
        asked = answered(client, "/v1/score", body | {"model": "challenger"})
        assert sample(client, 'recsys_shadow_requests_total{result="scored"}') == 1
        difference_BT = (scores_of(asked) - scores_of(alone)).double()
        for task, difference_B in zip(builders.TASKS, difference_BT.unbind(1), strict=True):
            for side, far_B in (("higher", difference_B.clamp(min=0)), ("lower", -difference_B.clamp(max=0))):
                names = [f'recsys_shadow_score_difference_{x}{{challenger="{side}",task="{task}"}}' for x in COUNTED]
                rows = int((difference_B >= 0).sum() if side == "higher" else (difference_B < 0).sum())
                assert sample(client, names[0]) == rows
                assert sample(client, names[1]) == pytest.approx(float(far_B.sum()), abs=1e-4)
        assert sample(client, f"recsys_model_requests_total{{{labels('champion', alone)}}}") == 2
        assert sample(client, f"recsys_model_requests_total{{{labels('challenger', asked)}}}") == 1


def labels(role: str, answer: Json) -> str:
    return f'name="{answer["model"]["name"]}",role="{role}",version="{answer["model"]["version"]}"'


def test_shadow_scoring_that_falls_behind_leaves_requests_out(
    start: Start, rival_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring, go = threading.Event(), threading.Event()
    with start(challenger=str(rival_path), shadow=True, shadow_queue=2, cache_dir=tmp_path) as client:
        until_all_loaded(client)
        rival = client.app.state.service.lineup.challenger.get().scorer  # type: ignore[attr-defined]
        score = rival.score

        def score_slowly(body: ScoreRequest) -> object:
            scoring.set()
            assert go.wait(60)
            return score(body)

        monkeypatch.setattr(rival, "score", score_slowly)
        answered(client, "/v1/rank", BODY)
        assert scoring.wait(60)
        for _ in range(5):  # two of them fit into the queue
            answered(client, "/v1/rank", BODY)
        assert sample(client, 'recsys_shadow_requests_total{result="dropped"}') == 3
        go.set()
        until(client, 'recsys_shadow_requests_total{result="scored"}', 3)


def test_a_challenger_that_fails_in_the_shadow_is_counted(
    start: Start, rival_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Scorer:
        raise RuntimeError("no")

    with start(challenger=str(rival_path), shadow=True, cache_dir=tmp_path) as client:
        until_all_loaded(client)
        rival = client.app.state.service.lineup.challenger.get().scorer  # type: ignore[attr-defined]
        monkeypatch.setattr(rival, "score", fail)
        answered(client, "/v1/rank", BODY)
        until(client, 'recsys_shadow_requests_total{result="failed"}', 1)
        monkeypatch.undo()
        answered(client, "/v1/rank", BODY)
        until(client, 'recsys_shadow_requests_total{result="scored"}', 1)
