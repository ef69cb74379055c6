"""Golden requests: raw rows with their encoded twins, the proof that serving and training see the same inputs."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.data.feature_kinds import Entity, column_of, parts_of
from recsys_mtl.data.schema import Schema

GOLDEN_ROWS = 64
ROWS_PER_CHUNK = 16


class GoldenSample:
    """Keeps a few rows of the test split, raw and encoded."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.raw: list[pa.Table] = []
        self.encoded: list[pa.Table] = []

    def offer(self, raw: pa.Table, encoded: pa.Table) -> None:
        """Take evenly spaced rows of a chunk until the sample is full."""
        room = min(ROWS_PER_CHUNK, GOLDEN_ROWS - sum(table.num_rows for table in self.raw), raw.num_rows)
        if room > 0:
            rows = pa.array([i * raw.num_rows // room for i in range(room)])
            self.raw.append(raw.take(rows))
            self.encoded.append(encoded.take(rows))

    def save(self, directory: Path) -> None:
        """Write one request a line, and the encoded rows in the order of the requests' candidates."""
        if not self.raw:
            return
        requests, order = to_requests(self.schema, pa.concat_tables(self.raw, promote_options="permissive"))
        pq.write_table(pa.concat_tables(self.encoded).take(pa.array(order)), directory / "golden.parquet")
        lines = [json.dumps(request, ensure_ascii=False, default=str) for request in requests]
        (directory / "golden.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def columns_by_entity(schema: Schema) -> dict[Entity, list[str]]:
    """Group the raw columns that features read by the part of a request that carries them."""
    columns: dict[Entity, dict[str, None]] = {"user": {}, "item": {}, "context": {}}
    for feature in schema.features:
        columns[feature.entity] |= dict.fromkeys(column_of(part) for part in parts_of(feature))
    return {entity: list(names) for entity, names in columns.items()}


def to_requests(schema: Schema, raw: pa.Table) -> tuple[list[dict[str, Any]], list[int]]:
    """Turn raw rows into ranking requests: rows that share user and context become one request's candidates.

    Returns the requests and the rows in the order in which their candidates stand.
    """
    columns = columns_by_entity(schema)
    requests: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for row, values in enumerate(raw.to_pylist()):
        parts = {entity: {name: _json(values.get(name)) for name in names} for entity, names in columns.items()}
        item_id = values.get(schema.item) if schema.item else None
        head = {"user": parts["user"], "context": parts["context"], "candidates": []}
        request, rows = requests.setdefault(json.dumps(head, default=str), (head, []))
        request["candidates"].append({"item_id": row if item_id is None else item_id, **parts["item"]})
        rows.append(row)
    return [request for request, _ in requests.values()], [row for _, rows in requests.values() for row in rows]


def _json(value: Any) -> Any:
    """Write a number that JSON does not have as null, which encodes alike."""
    if isinstance(value, list):
        return [_json(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
