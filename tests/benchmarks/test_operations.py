"""The demonstration of the daily pipeline: the day that is spoilt, and the report."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.operations.report import Call, report
from benchmarks.operations.spoil import spoil
from recsys_mtl.data.day import day_facts
from tests import days

LABELS = ["label.click", "label.like", "label.watch"]


def test_one_day_gets_the_labels_of_other_rows_and_all_else_stays(tmp_path: Path) -> None:
    days.write_days(tmp_path / "days", 3, rows=200, hold_out=0.3)
    spoil(tmp_path / "days", tmp_path / "out", number=2)
    for name in ("2022-04-22", "2022-04-23", "2022-04-24", "base"):
        for split in ("train", "valid", "test"):
            before, after = (pq.read_table(tmp_path / root / name / split) for root in ("days", "out"))
            assert after.drop_columns(LABELS).equals(before.drop_columns(LABELS))
            rows = [Counter(map(str, table.select(LABELS).to_pylist())) for table in (before, after)]
            assert rows[0] == rows[1], "labels of a row stay together"
            assert bool(after.equals(before)) is (name != "2022-04-23")
    assert day_facts(tmp_path / "out" / "2022-04-23").held_out > 0


def test_the_report_says_what_every_call_and_every_day_brought() -> None:
    metrics = {"click": {"auc": 0.7, "positives": 60.0}, "rare": {"auc": 0.9, "positives": 3.0}}
    found: list[dict[str, Any]] = [
        {"day": day, "state": "learnt now", "rows": 9, "decision": decision, "verdict": f"{decision}ed", "metrics": own}
        for day, decision, own in (
            ("base", "promote", {}), ("d1", "promote", metrics), ("d2", "reject", metrics), ("d3", "promote", metrics)
        )
    ]  # fmt: skip
    told = [{"day": day["day"], "version": n, "champion": 1, "text": f"x {n}"} for n, day in enumerate(found, 1)]
    calls = [Call("killed", -9, 3.2, 1, [], ["daily-d3"]), Call("again", 0, 5.0, 3, found, [])]
    text = report(calls, told, "command", "policy.yaml")
    assert "| killed | -9 | 3 | – | version 1 | daily-d3 |" in text
    assert "| again | 0 | 5 | base, d1, d2, d3 | version 3 | – |" in text
    assert "| d2 | 9 | reject | 3 | 1 | 0.7000 |" in text
    assert "rare" not in text
    assert "The labels of d2 were shuffled" in text
