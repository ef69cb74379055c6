"""Daily training's benchmark: data that are put together, and the report."""

import json
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.daily.arms import ARMS, KEEP, SCRATCH, DayResult, _join
from benchmarks.daily.report import LEAST_POSITIVES, mean_auc, report
from recsys_mtl.data.encode import Encoder
from tests import days

DAYS = (date(2022, 4, 22), date(2022, 4, 23))


def test_everything_before_a_day_is_joined_to_learn_and_the_day_to_test(tmp_path: Path) -> None:
    first, second = days.write_days(tmp_path, 2, rows=40)
    _join([tmp_path / "base", first], second, tmp_path / "joined")
    train = pq.read_table(tmp_path / "joined" / "train")
    parts = [pq.read_table(path / "train") for path in (tmp_path / "base", first)]
    assert sorted(map(str, train.to_pylist())) == sorted(str(row) for part in parts for row in part.to_pylist())
    assert pq.read_table(tmp_path / "joined" / "test").equals(pq.read_table(second / "test"))
    assert Encoder.load(tmp_path / "joined").spec == Encoder.load(second).spec
    stats = json.loads((tmp_path / "joined" / "stats.json").read_text())
    assert "day" not in stats, "learning these rows would be no progressive run"
    counts = stats["splits"]["train"]
    assert counts["rows"] == 100
    clicks = train["label.click"].to_numpy()
    assert counts["tasks"]["click"] == {"known": 100, "positives": clicks.sum(), "rate": clicks.mean()}
    watched = train["label.watch"].drop_null().to_numpy()
    assert counts["tasks"]["watch"]["known"] == len(watched)
    assert counts["tasks"]["watch"]["mean"] == pytest.approx(watched.mean())


def result(auc: float, rare: float, seconds: float) -> DayResult:
    metrics = {
        "click": {"auc": auc, "gauc": auc - 0.1, "positives": 900.0},
        "rare": {"auc": rare, "gauc": rare, "positives": LEAST_POSITIVES - 1.0},
        "watch": {"rmse": 3.0},
    }
    return DayResult(metrics, seconds, 1000)


FOUND = {
    KEEP: {DAYS[0]: result(0.70, 0.9, 2), DAYS[1]: result(0.72, 0.9, 3)},
    SCRATCH: {DAYS[0]: result(0.69, 0.1, 20), DAYS[1]: result(0.70, 0.1, 30)},
}


def test_events_with_few_positives_say_nothing() -> None:
    assert mean_auc(FOUND[KEEP][DAYS[0]], ["click", "rare"]) == 0.70
    assert "rare" not in report(FOUND, "command")


def test_the_report_compares_days_that_all_have_learnt() -> None:
    text = report({**FOUND, ARMS[1]: {DAYS[0]: result(0.71, 0.9, 2)}}, "command")
    assert "| 2022-04-22 | 0.7000 | 0.7100 | 0.6900 |" in text
    assert "2022-04-23" not in text
    both = report(FOUND, "command")
    assert "| mean | 0.7100 | 0.6950 (-0.0150, -3.0 s.e.) |" in both
    assert "| together | 5.0 s | 50.0 s |" in both
    assert "| 2022-04-23 | 900 | 0.7200 / 0.6200 | 0.7000 / 0.6000 |" in both


def test_a_report_of_nothing_says_so() -> None:
    assert "No day has been learnt" in report({arm: {} for arm in ARMS}, "command")
