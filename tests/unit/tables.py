"""A world of tables: features of every kind that share them in every way, and three rows of ids."""

from typing import Any

import pyarrow as pa

from recsys_mtl.config import validate
from recsys_mtl.data.batch import Batch, BatchLayout, collate
from recsys_mtl.data.schema import Schema, table_readers
from recsys_mtl.data.spec import Spec, make_spec

ROWS = 3
USER = {"kind": "id", "name": "user", "entity": "user"}
ITEM = {"kind": "id", "name": "item", "entity": "item", "table": "video"}
AUTHOR = {"kind": "id", "name": "author", "entity": "item"}
TAGS = {"kind": "ids", "name": "tags", "entity": "item", "table": "tag", "pooling": "mean"}
TOPICS = {"kind": "ids", "name": "topics", "entity": "user", "table": "topic", "pooling": "sum"}
LOVED_TAG = {"kind": "id", "name": "loved_tag", "entity": "user", "table": "tag"}
PINNED = {"kind": "ids", "name": "pinned", "entity": "user", "table": "video", "pooling": "mean"}
AGE = {"kind": "number", "name": "age", "entity": "user", "boundaries": [18, 30], "dim": 3}
DURATION = {"kind": "number", "name": "duration", "entity": "item"}
HISTORY = {"kind": "sequence", "name": "history", "entity": "user", "max_length": 4, "columns": [
    {"name": "history_video", "table": "video"}, {"name": "history_author", "table": "author"}]}  # fmt: skip
LIKES = {"kind": "sequence", "name": "likes", "entity": "user", "columns": [{"name": "likes_video", "table": "video"}]}
ALL = (TAGS, USER, HISTORY, DURATION, ITEM, AGE, PINNED, AUTHOR, LIKES, LOVED_TAG, TOPICS)

DIMS = {"user": 4, "video": 6, "author": 2, "tag": 5, "topic": 4}
IDS: dict[str, list[Any]] = {
    "user": [2, 0, 5],
    "item": [3, 3, 1],
    "author": [4, 0, 2],
    "tags": [[5, 2, 2], [], [0]],
    "topics": [[3], [1, 2], []],
    "loved_tag": [1, 4, 4],
    "pinned": [[], [6, 1], [2, 2, 2]],
    "age": [0, 4, 2],
    "history_video": [[1, 2, 3, 4], [], [7]],
    "history_author": [[0, 1, 0, 3], [], [2]],
    "likes_video": [[7, 5], [4], []],
}


def spec_of(*features: dict[str, Any], pooling: str | None = None) -> Spec:
    """The specification of a data set with these features; ids have eight values."""
    features = tuple(f | {"pooling": pooling} if pooling and f["kind"] == "ids" else f for f in features)
    tree = {"features": features, "tasks": [{"kind": "binary", "name": "click"}], "group": "user"}
    used = {table for _, table in table_readers(validate(Schema, tree))}
    tables = {name: {"dim": DIMS[name], "encoding": {"kind": "hash", "buckets": 6}} for name in used}
    return make_spec(validate(Schema, tree | {"tables": tables}), {}, {})


def batch_of(spec: Spec) -> Batch:
    layout = BatchLayout.of(spec, ())
    lists = pa.list_(pa.int32())
    columns = {
        k: pa.array(IDS[k], lists if isinstance(IDS[k][0], list) else pa.int32()) for k in layout.pooled + layout.events
    }
    return collate(
        pa.table(columns | {name: pa.array([0.5, -1.0, 2.0], pa.float32()) for name in layout.dense}), layout
    )
