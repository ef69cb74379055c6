from typing import Any

import pyarrow as pa
import pytest

from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.fit import fit
from recsys_mtl.data.labels import encode_targets
from recsys_mtl.data.schema import MISSING_ID, UNKNOWN_ID
from recsys_mtl.data.stats import SplitStats
from tests import builders

ENCODER = Encoder(*fit(builders.schema(), [builders.raw_table(30, 1)]))
"""So little training data that other splits have unknown values."""


def test_counts_are_those_of_a_loop_over_rows() -> None:
    stats = SplitStats(ENCODER.spec)
    raw, rows = [], []
    for seed in (2, 3):
        table = builders.raw_table(120, seed)
        encoded = encode_targets(ENCODER.spec, table, ENCODER.encode(table))
        stats.update(table, encoded)
        raw += table.to_pylist()
        rows += encoded.to_pylist()
    found: Any = stats.as_dict()
    assert found["rows"] == 240
    assert found["tasks"] == {name: naive_task(name, raw) for name in builders.TASKS}
    ids = ["user", "city", "history_item", "history_author", "age", "item", "author", "tags", "hour"]
    for name in ids:
        assert found["fields"][name] == naive_field(name, rows)
    assert found["fields"]["duration"] == {
        "values": 240, "unknown": 0, "missing": sum(row["duration"] is None for row in raw)
    }  # fmt: skip
    assert set(found["fields"]) == {*ids, "duration", "quality"}
    assert found["fields"]["item"]["unknown"] > 0
    assert found["fields"]["age"]["missing"] > 0


def naive_task(name: str, raw: list[dict[str, Any]]) -> dict[str, Any]:
    known = [row[name] for row in raw if row[name] is not None]
    if name == "watch":
        return {"known": len(known), "mean": pytest.approx(sum(known) / len(known), rel=1e-6)}
    return {"known": len(known), "positives": sum(known), "rate": sum(known) / len(known)}


def naive_field(name: str, rows: list[dict[str, Any]]) -> dict[str, int]:
    ids = [i for row in rows for i in (row[name] if isinstance(row[name], list) else [row[name]])]
    return {"values": len(ids), "unknown": ids.count(UNKNOWN_ID), "missing": ids.count(MISSING_ID)}


def test_without_known_labels_there_is_no_rate() -> None:
    stats = SplitStats(ENCODER.spec)
    table = builders.raw_table(5, 2)
    for name in ("like", "watch"):
        table = table.set_column(table.column_names.index(name), name, pa.nulls(5))
    stats.update(table, encode_targets(ENCODER.spec, table, ENCODER.encode(table)))
    found: Any = stats.as_dict()
    assert found["tasks"]["like"] == {"known": 0, "positives": 0, "rate": None}
    assert found["tasks"]["watch"] == {"known": 0, "mean": None}
