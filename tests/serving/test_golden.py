import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file, save_file

from recsys_mtl.bundle import Bundle
from recsys_mtl.config import ConfigError
from serving.golden import verify
from serving.scorer import Scorer
from tests.serving.conftest import Start
from tests.serving.world import until_settled

Tamper = Callable[[Path], None]


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


def a_weight(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    name = next(name for name in weights if "heads" in name)
    weights[name] = weights[name] + 0.01
    save_file(weights, path / "model.safetensors")


def the_vocabulary(path: Path) -> None:
    values = pq.read_table(path / "vocab" / "item.parquet")["value"].to_pylist()
    pq.write_table(pa.table({"value": values[::-1]}), path / "vocab" / "item.parquet")


def the_calibration(path: Path) -> None:
    (path / "calibration.json").write_text("{}")


def an_expected_score(path: Path) -> None:
    first, *others = (path / "golden.jsonl").read_text().splitlines()
    case = json.loads(first)
    case["expected"][0]["watch"] += 1.0
    (path / "golden.jsonl").write_text("\n".join([json.dumps(case), *others]))


def all_golden_requests(path: Path) -> None:
    (path / "golden.jsonl").write_text("")


def a_golden_name(path: Path) -> None:
    text = (path / "golden.jsonl").read_text()
    (path / "golden.jsonl").write_text(text.replace('"duration"', '"length"'))


def a_formula(path: Path) -> None:
    formulas = {"default": {"kind": "weighted_sum", "weights": {"purchase": 1}}}
    (path / "fusion.yaml").write_text(yaml.safe_dump({"formulas": formulas}))


def test_an_honest_bundle_reproduces_its_golden_requests(bundle: Bundle) -> None:
    assert verify(Scorer(bundle)) == len(bundle.golden) > 10
    assert sum(len(case["expected"]) for case in bundle.golden) > 30


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (
            a_weight,
            r"expected scores are not reproduced; the worst is request \d+, candidates\.\d+, task \w+: expected ",
        ),
        (the_vocabulary, r"expected scores are not reproduced; the worst is request"),
        (
            the_calibration,
            r"expected scores are not reproduced; the worst is request \d+, candidates\.\d+, task like: ",
        ),
        (an_expected_score, r"1 of \d+ .* the worst is request 1, candidates\.0, task watch: expected "),
        (all_golden_requests, "no golden request"),
        (a_golden_name, r"golden\.jsonl: request 1: candidates\.0\.length: unknown feature"),
        (a_formula, r"fusion\.yaml: formulas\.default: no task 'purchase' in the model; it has click, like, watch"),
    ],
)
def test_a_bundle_that_was_changed_is_refused(copy: Path, tamper: Tamper, message: str) -> None:
    tamper(copy)
    with pytest.raises(ConfigError, match=message):
        verify(Scorer(Bundle.load(copy)))


def test_a_difference_within_tolerance_is_let_in(copy: Path) -> None:
    lines = [json.loads(line) for line in (copy / "golden.jsonl").read_text().splitlines()]
    for row in lines[0]["expected"]:
        row |= {"click": row["click"] + 5e-6, "watch": row["watch"] * (1 + 5e-6)}
    (copy / "golden.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert verify(Scorer(Bundle.load(copy))) == len(lines)


def test_a_service_refuses_what_the_check_refuses_and_says_why(copy: Path, start: Start) -> None:
    an_expected_score(copy)
    with start(copy) as client:
        ready = until_settled(client).get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["status"] == "refused"
        assert "task watch" in ready.json()["reason"]
        answer = client.post("/v1/rank", json={"user": {}, "candidates": [{"item_id": 1}]})
        assert answer.status_code == 503
        assert "task watch" in answer.json()["detail"][0]["msg"]
        assert client.get("/healthz").status_code == 200
