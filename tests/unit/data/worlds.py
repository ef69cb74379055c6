"""Small encoders, data sets of numbered rows, and directories as values."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import validate
from recsys_mtl.data.batch import Batch, BatchLayout
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.fit import fit
from recsys_mtl.data.labels import GROUP
from recsys_mtl.data.schema import Schema

HASHED = {"encoding": {"kind": "hash", "buckets": 1000}}


def encoder(train: dict[str, Any], *features: dict[str, Any], tables: dict[str, Any] | None = None) -> Encoder:
    tree = {
        "features": [{"entity": "user", "kind": "id", "name": "x"} | feature for feature in features or ({},)],
        "tasks": [{"kind": "binary", "name": "click"}],
        "tables": tables or {},
        "group": "g",
    }
    return Encoder(*fit(validate(Schema, tree), [pa.table(train)]))


def encoded(made: Encoder, name: str = "x", **columns: Any) -> list[Any]:
    return made.encode(pa.table(columns))[name].to_pylist()


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


LAYOUT = BatchLayout(pooled=("row",), events=("list",), dense=("half",), labels=("label.odd",), weighted=False)


def write_shards(directory: Path, files: Sequence[Sequence[int]], *, rows_per_group: int = 3) -> Path:
    """Write a training split of numbered rows; ``files`` holds the lengths of each file's row groups."""
    (directory / "train").mkdir(parents=True)
    start = 0
    for number, sizes in enumerate(files):
        tables = []
        for size in sizes:
            tables.append(numbered(range(start, start + size), rows_per_group))
            start += size
        with pq.ParquetWriter(directory / "train" / f"part-{number}.parquet", tables[0].schema) as file:
            for table in tables:
                file.write_table(table)
    return directory


def numbered(rows: range, rows_per_group: int = 3) -> pa.Table:
    """Make encoded rows that tell their number in every column."""
    return pa.table(
        {
            "row": pa.array(rows, pa.int32()),
            "list": pa.array([[row] * (row % 3) for row in rows], pa.list_(pa.int32())),
            "half": pa.array([row / 2 for row in rows], pa.float32()),
            "label.odd": pa.array([row % 2 if row % 5 else None for row in rows], pa.float32()),
            GROUP: pa.array([row // rows_per_group for row in rows], pa.int64()),
        }
    )


def rows_of(batch: Batch) -> list[int]:
    """Return the numbers of a batch's rows after checking that all columns agree; none for a blank batch."""
    rows: list[int] = batch.pooled["row"].values().tolist()
    if rows == [0] and batch.events["list"].lengths().tolist() == [1]:  # the row 0 that is real has an empty list
        assert batch.labels_BT.isnan().all()
        return []
    assert [list(map(int, x)) for x in batch.events["list"].to_dense()] == [[row] * (row % 3) for row in rows]
    assert batch.dense_BC.squeeze(1).tolist() == [row / 2 for row in rows]
    labels = [math.nan if row % 5 == 0 else row % 2 for row in rows]
    np.testing.assert_array_equal(batch.labels_BT.squeeze(1), labels)
    assert len(batch) == len(rows)
    return rows
