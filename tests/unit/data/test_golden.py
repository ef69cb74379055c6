import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.config import validate
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.fit import fit
from recsys_mtl.data.golden import GOLDEN_ROWS, ROWS_PER_CHUNK, GoldenSample, columns_by_entity, to_requests
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import array
from tests import builders


def as_table(request: dict[str, Any]) -> pa.Table:
    """Read a request as serving does: every part's cells, one row per candidate."""
    rows = [{**request["user"], **request["context"], **candidate} for candidate in request["candidates"]]
    return pa.table({name: array([row[name] for row in rows]) for name in rows[0]})


def test_requests_encode_to_the_encoded_rows(data: Path) -> None:
    encoder = Encoder.load(data)
    requests = [json.loads(line) for line in (data / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    offline = pq.read_table(data / "golden.parquet")
    online = pa.concat_tables(encoder.encode(as_table(request)) for request in requests)
    assert online.num_rows == 2 * ROWS_PER_CHUNK
    assert online.to_pydict() == offline.select(online.column_names).to_pydict()


def test_encoded_rows_stand_in_the_order_of_the_requests_candidates(tmp_path: Path) -> None:
    raw = pa.concat_tables(builders.raw_table(4, seed) for seed in (3, 4, 3, 4))  # each user's rows lie apart
    encoder = Encoder(*fit(builders.schema(), [raw]))
    sample = GoldenSample(builders.schema())
    sample.offer(raw, encoder.encode(raw))
    sample.save(tmp_path)
    requests = [json.loads(line) for line in (tmp_path / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    online = pa.concat_tables(encoder.encode(as_table(request)) for request in requests)
    assert online.to_pydict() == pq.read_table(tmp_path / "golden.parquet").to_pydict()
    assert online.to_pydict() != encoder.encode(raw).to_pydict()


def test_a_request_has_the_columns_of_each_entity_where_they_belong(data: Path) -> None:
    request = json.loads((data / "golden.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert list(request) == ["user", "context", "candidates"]
    assert list(request["user"]) == ["user", "city", "history_item", "history_author", "age"]
    assert list(request["context"]) == ["hour"]
    for candidate in request["candidates"]:
        assert list(candidate) == ["item_id", "video", "author", "tags", "duration", "quality"]
        assert candidate["item_id"] == candidate["video"]
    assert columns_by_entity(builders.schema())["context"] == ["hour"]


def test_rows_of_one_user_and_context_are_one_requests_candidates() -> None:
    raw = builders.raw_table(400, 7)
    requests, order = to_requests(builders.schema(), raw)
    assert sorted(order) == list(range(400))
    flat = [(r["user"]["user"], r["context"]["hour"], c["video"]) for r in requests for c in r["candidates"]]
    rows = raw.to_pylist()
    assert flat == [(rows[i]["user"], rows[i]["hour"], rows[i]["video"]) for i in order]
    heads = [json.dumps([r["user"], r["context"]]) for r in requests]
    assert len(set(heads)) == len(heads) < 400


def small_schema(item: str | None) -> Schema:
    features = [
        {"kind": "id", "name": "x", "entity": "item"},
        {"kind": "ids", "name": "bag", "entity": "item"},
        {"kind": "number", "name": "n", "entity": "user"},
    ]
    return validate(
        Schema, {"features": features, "tasks": [{"kind": "binary", "name": "click"}], "group": "g", "item": item}
    )


def test_numbers_that_json_does_not_have_become_null() -> None:
    raw = pa.table({"x": [math.inf], "bag": [[math.nan, 1.5]], "n": [math.nan], "click": [1], "g": [1]})
    requests, _ = to_requests(small_schema(None), raw)
    text = json.dumps(requests[0], allow_nan=False)
    encoder = Encoder(*fit(small_schema(None), [raw]))
    assert encoder.encode(as_table(json.loads(text))).to_pydict() == encoder.encode(raw).to_pydict()


@pytest.mark.parametrize(("item", "expected"), [("x", ["a", 1]), (None, [0, 1])])
def test_a_candidate_without_an_id_is_called_by_its_row(item: str | None, expected: list[Any]) -> None:
    raw = pa.table({"x": ["a", None], "bag": [[], []], "n": [1.0, 1.0]})
    (request,), _ = to_requests(small_schema(item), raw)
    assert [candidate["item_id"] for candidate in request["candidates"]] == expected


def test_the_sample_is_spread_over_chunks_and_stops_growing() -> None:
    sample = GoldenSample(builders.schema())
    for chunk in range(6):
        raw = pa.table({"row": [100 * chunk + i for i in range(50 if chunk else 3)]})
        sample.offer(raw, raw)
    rows: list[Any] = [row for table in sample.raw for row in table["row"].to_pylist()]
    assert len(rows) == GOLDEN_ROWS
    assert rows[:3] == [0, 1, 2]
    assert [row // 100 for row in rows[3:]] == [1] * 16 + [2] * 16 + [3] * 16 + [4] * 13
    assert rows[3:19] == [100 + i * 50 // 16 for i in range(16)]
    assert [t["row"].to_pylist() for t in sample.encoded] == [t["row"].to_pylist() for t in sample.raw]


def test_chunks_may_differ_in_their_types(tmp_path: Path) -> None:
    sample = GoldenSample(small_schema("x"))
    for x, n in (([1], pa.nulls(1)), ([2.0], [0.5])):
        sample.offer(pa.table({"x": x, "bag": [[1]], "n": n}), pa.table({"x": pa.array([2], pa.int32())}))
    sample.save(tmp_path)
    assert len((tmp_path / "golden.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert pq.read_table(tmp_path / "golden.parquet").num_rows == 2
