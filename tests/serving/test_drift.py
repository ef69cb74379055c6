"""Unknown and missing values of requests against those of the test split."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.core import Metric

from recsys_mtl.bundle import Bundle
from recsys_mtl.data.values import Ints
from serving.drift import FEWEST, WINDOW_S, Drift
from tests.serving.conftest import Start
from tests.serving.world import Json, answered, one_user, request_of, sample

EXPECTED = {"author": {"values": 10_000, "unknown": 1000, "missing": 0}}


class Requests:
    """Counts that grow, and a clock."""

    def __init__(self) -> None:
        self.now, self.counts = 0.0, np.zeros(3, np.int64)
        self.drift = Drift(lambda: {"author": self.counts.copy()}, lambda: EXPECTED, 0.1, lambda: self.now)

    def come(self, values: int, unknown: int = 0, missing: int = 0) -> None:
        counts: Ints = np.array([values, unknown, missing])
        self.counts += counts

    def look(self) -> list[float] | None:
        self.now += 60
        return self.drift.differences().get("author")


def test_shares_are_compared_with_those_of_the_test_split() -> None:
    requests = Requests()
    requests.come(2000, unknown=500, missing=100)
    assert requests.look() == pytest.approx([0.15, 0.05])


def test_few_values_say_nothing() -> None:
    requests = Requests()
    requests.come(FEWEST - 1)
    assert requests.look() is None
    requests.come(1)
    assert requests.look() == pytest.approx([-0.1, 0])


def test_what_lies_before_the_window_does_not_count() -> None:
    requests = Requests()
    requests.come(100_000, unknown=100_000)
    assert requests.look() == pytest.approx([0.9, 0])
    for _ in range(int(WINDOW_S / 60) - 1):
        requests.come(1000, unknown=100)
        found = requests.look()
        assert found is not None
        assert found[0] > 0.5
    requests.come(1000, unknown=100)
    assert requests.look() == pytest.approx([0, 0])
    assert len(requests.drift.seen) < 20


def metrics_of(drift: Drift) -> dict[str, list[float]]:
    families: list[Metric] = list(drift.collect())
    return {family.name: [one.value for one in family.samples] for family in families}


@pytest.mark.parametrize(
    ("unknown", "missing", "alarm"), [(399, 0, 0.0), (401, 0, 1.0), (200, 190, 0.0), (0, 210, 1.0)]
)
def test_an_alarm_is_raised_beyond_the_bound_on_either_side(unknown: int, missing: int, alarm: float) -> None:
    requests = Requests()
    requests.come(2000, unknown=unknown, missing=missing)
    expected = [unknown / 2000 - 0.1, missing / 2000]
    found = metrics_of(requests.drift)
    assert found == {"recsys_feature_drift": pytest.approx(expected), "recsys_feature_drift_alarm": [alarm]}


def test_a_bundle_holds_what_its_test_split_was_like(bundle: Bundle, data: Path, bundle_path: Path) -> None:
    stats = json.loads((data / "stats.json").read_text())["splits"]["test"]["fields"]
    assert bundle.inputs == stats
    assert {"author", "duration"} <= stats.keys()
    assert json.loads((bundle_path / "inputs.json").read_text()) == stats


def test_requests_unlike_the_test_split_raise_an_alarm(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.drift.FEWEST", 20)

    def strange(request: Json) -> Json:
        candidates = [{"item_id": row["item_id"], "author": "nobody"} for row in request["candidates"]]
        return request | {"candidates": candidates}

    with start() as client:
        for _ in range(5):
            answered(client, "/v1/rank", strange(request_of(one_user(20))))
        assert sample(client, 'recsys_feature_drift_alarm{feature="author"}') == 1
        assert sample(client, 'recsys_feature_drift{feature="author",kind="unknown"}') > 0.5
        assert sample(client, 'recsys_feature_drift_alarm{feature="duration"}') == 1  # a number that never came
        assert sample(client, 'recsys_feature_missing_total{feature="duration"}') == 100


def test_a_bundle_from_before_raises_none(start: Start, bundle_path: Path, tmp_path: Path) -> None:
    old = shutil.copytree(bundle_path, tmp_path / "old")
    (old / "inputs.json").unlink()
    with start(model=old) as client:
        answered(client, "/v1/rank", request_of(one_user(3)))
        assert "recsys_feature_drift{" not in client.get("/metrics").text
