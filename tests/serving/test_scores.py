from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from fastapi.testclient import TestClient
from torch import Tensor

from recsys_mtl.bundle import Bundle
from recsys_mtl.data.golden import to_requests
from recsys_mtl.data.labels import GROUP
from recsys_mtl.fusion import fuse
from tests import builders
from tests.serving.conftest import Start
from tests.serving.world import answered, one_user, request_of, scores_of


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_world_tells_candidates_apart(bundle: Bundle) -> None:
    scores_BT = bundle.score(one_user(30))
    assert (scores_BT.std(0) > 0.005).all()
    assert len(set(scores_BT[:, 0].tolist())) == 30


def test_http_scores_equal_offline_scores_of_raw_rows(client: TestClient, bundle: Bundle) -> None:
    raw = builders.raw_table(60, seed=123)
    requests, order = to_requests(builders.schema(), raw)
    online_BT = torch.cat([scores_of(answered(client, "/v1/score", request)) for request in requests])
    assert_same(online_BT, bundle.score(raw)[order])


def test_http_scores_equal_offline_scores_of_prepared_rows(client: TestClient, bundle: Bundle, data: Path) -> None:
    raw = pa.concat_tables(builders.raw_data().splits["test"]())
    requests, order = to_requests(builders.schema(), raw)
    online_BT = torch.cat([scores_of(answered(client, "/v1/score", request)) for request in requests[:120]])
    prepared = pq.read_table(data / "test")
    by_user = np.argsort(raw["user"].to_numpy(), kind="stable")  # the order of prepared rows
    assert prepared[GROUP].to_pylist() == raw["user"].take(by_user).to_pylist()
    assert prepared["label.like"].to_pylist() == raw["like"].take(by_user).to_pylist()
    offline_BT = bundle.score_encoded(prepared)[torch.from_numpy(np.argsort(by_user))]
    assert_same(online_BT, offline_BT[order[: len(online_BT)]])


def test_rank_puts_the_scored_candidates_in_order(client: TestClient) -> None:
    body = request_of(one_user(25))
    scored, ranked = answered(client, "/v1/score", body), answered(client, "/v1/rank", body)
    assert [row["item_id"] for row in scored["candidates"]] == [c["item_id"] for c in body["candidates"]]
    assert ranked["candidates"] == sorted(scored["candidates"], key=lambda row: -row["score"])


def test_ties_keep_the_order_of_the_request(client: TestClient) -> None:
    twins = [{"item_id": f"twin-{i}", "video": 3, "author": 3} for i in (5, 1, 4, 2, 3)]
    ranked = answered(client, "/v1/rank", {"user": {}, "candidates": twins})
    assert [row["item_id"] for row in ranked["candidates"]] == [twin["item_id"] for twin in twins]


@pytest.mark.parametrize("top_k", [1, 4, 10, 99])
def test_top_k_returns_the_best(client: TestClient, top_k: int) -> None:
    body = request_of(one_user(10))
    everything = answered(client, "/v1/rank", body)["candidates"]
    assert answered(client, "/v1/rank", body | {"top_k": top_k})["candidates"] == everything[:top_k]


def test_permuting_the_candidates_permutes_the_scores(client: TestClient) -> None:
    body = request_of(one_user(12))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    permuted = body | {"candidates": [body["candidates"][i] for i in order]}
    scores_BT = scores_of(answered(client, "/v1/score", body))
    assert_same(scores_of(answered(client, "/v1/score", permuted)), scores_BT[order])


def test_a_candidate_s_scores_do_not_depend_on_the_others(client: TestClient) -> None:
    body = request_of(one_user(8))
    together_BT = scores_of(answered(client, "/v1/score", body))
    alone = [answered(client, "/v1/score", body | {"candidates": [c]}) for c in body["candidates"]]
    assert_same(torch.cat([scores_of(answer) for answer in alone]), together_BT)


def test_unknown_and_missing_values_give_finite_scores(client: TestClient) -> None:
    strangers = [
        {"item_id": "never seen", "video": "new", "author": 10**6, "tags": ["new", 7, None], "duration": None},
        {"item_id": 2**64 - 1, "video": 2**64 - 1, "tags": []},
        {"item_id": -(2**63), "author": True, "duration": "12.5"},
        {"item_id": 1.0, "video": 0.5, "duration": -1e30},
    ]
    answer = answered(client, "/v1/score", {"user": {"user": "новый", "city": ""}, "candidates": strangers})
    assert scores_of(answer).isfinite().all()
    assert [row["item_id"] for row in answer["candidates"]] == ["never seen", 2**64 - 1, -(2**63), 1]


def test_an_absent_value_is_the_same_as_null(client: TestClient) -> None:
    bare = {"user": {"user": 3}, "candidates": [{"item_id": 5}]}
    nulls = {"user": {"user": 3, "city": None, "history_item": None, "history_author": None, "age": None},
             "context": {"hour": None},
             "candidates": [{"item_id": 5, "author": None, "tags": None, "duration": None}]}  # fmt: skip
    assert scores_of(answered(client, "/v1/score", bare)).equal(scores_of(answered(client, "/v1/score", nulls)))


def test_ids_of_user_and_item_stand_for_the_columns_of_the_data_set(client: TestClient) -> None:
    def score(user: dict[str, object], candidate: dict[str, object]) -> Tensor:
        return scores_of(answered(client, "/v1/score", {"user": user, "candidates": [candidate]}))

    named = score({"user": 8}, {"item_id": "x", "video": 9})
    assert score({"user_id": 8}, {"item_id": 9}).equal(named)
    assert not score({"user_id": 8}, {"item_id": 9, "video": None}).equal(named)
    assert not score({"user_id": 9}, {"item_id": 9}).equal(named)


def test_numbers_and_text_of_an_id_mean_the_same(client: TestClient) -> None:
    candidates = [{"item_id": i, "video": value} for i, value in enumerate([7, "7", 7.0])]
    first, *others = scores_of(answered(client, "/v1/score", {"user": {}, "candidates": candidates}))
    for other in others:
        assert_same(other, first)


def test_formulas_are_chosen_by_name(bundle: Bundle, bundle_path: Path, tmp_path: Path, start: Start) -> None:
    path = with_fusions(bundle_path, tmp_path)
    body = request_of(one_user(9))
    with start(path) as client:
        answers = {name: answered(client, "/v1/rank", body | {"fusion": name}) for name in ("watched", "liked")}
        default = answered(client, "/v1/rank", body)
    assert default | {"request_id": ""} == answers["liked"] | {"request_id": ""}
    assert answers["watched"]["fusion"] == {"name": "watched", "version": 3}
    for name, answer in answers.items():
        fused_B = torch.tensor([row["score"] for row in answer["candidates"]], dtype=torch.float64)
        formula = Bundle.load(path).fusions.formulas[name]
        torch.testing.assert_close(fused_B, fuse(formula, scores_of(answer), bundle.tasks), rtol=1e-6, atol=0)
        assert fused_B.equal(fused_B.sort(descending=True).values)
    orders = [[row["item_id"] for row in answer["candidates"]] for answer in answers.values()]
    assert orders[0] != orders[1]


def with_fusions(bundle_path: Path, directory: Path) -> Path:
    """Copy a bundle and give it two formulas."""
    path = directory / "formulas"
    path.mkdir()
    for part in bundle_path.iterdir():
        (path / part.name).symlink_to(part)
    formulas = {
        "watched": {"kind": "product", "version": 3, "factors": {"watch": {"scale": 0.1}, "click": {"power": 0.5}}},
        "liked": {"kind": "weighted_sum", "weights": {"like": 1}},
    }
    (path / "fusion.yaml").unlink()
    (path / "fusion.yaml").write_text(yaml.safe_dump({"formulas": formulas, "default": "liked"}))
    return path


@pytest.mark.parametrize("scoring_threads", [1, 4])
def test_parallel_requests_get_the_answers_they_get_alone(start: Start, scoring_threads: int) -> None:
    bodies = [request_of(one_user(2 + i, seed=i)) for i in range(12)]
    with start(scoring_threads=scoring_threads, score_together=0) as client:
        alone = [answered(client, "/v1/rank", body) for body in bodies]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda body: answered(client, "/v1/rank", body), bodies * 4))
    for expected, answer in zip(alone * 4, together, strict=True):
        assert answer | {"request_id": ""} == expected | {"request_id": ""}
