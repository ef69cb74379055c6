"""Counts of a split: rows, known and positive labels, unknown and missing values."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.data.labels import label_name
from recsys_mtl.data.schema import MISSING_ID, UNKNOWN_ID, Schema
from recsys_mtl.data.values import single_array
from recsys_mtl.tasks import BinaryTask


class SplitStats:
    """Accumulates over the encoded tables of one split."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows = 0
        self.tasks = {task.name: np.zeros(2) for task in schema.tasks}
        self.values: dict[str, npt_counts] = {}

    def update(self, table: pa.Table) -> None:
        """Add a table of encoded rows."""
        self.rows += table.num_rows
        for name, sums in self.tasks.items():
            labels = table[label_name(name)]
            sums += len(labels) - labels.null_count, pc.sum(labels).as_py() or 0.0
        for field in table.schema:
            ids = _ids(table, field)
            if ids is not None:
                counts = np.array([ids.size, (ids == UNKNOWN_ID).sum(), (ids == MISSING_ID).sum()])
                self.values[field.name] = self.values.get(field.name, 0) + counts

    def as_dict(self) -> dict[str, object]:
        """Return what ``stats.json`` says of a split."""
        return {
            "rows": self.rows,
            "tasks": {task.name: self._task(task.name, isinstance(task, BinaryTask)) for task in self.schema.tasks},
            "fields": {
                name: {"values": int(total), "unknown": int(unknown), "missing": int(missing)}
                for name, (total, unknown, missing) in self.values.items()
            },
        }

    def _task(self, name: str, binary: bool) -> dict[str, float | int | None]:
        known, total = self.tasks[name]
        mean = float(total / known) if known else None
        return {"known": int(known), "positives": int(total), "rate": mean} if binary else {"known": int(known), "mean": mean}


npt_counts = np.ndarray[tuple[int], np.dtype[np.int64]]


def _ids(table: pa.Table, field: pa.Field) -> np.ndarray | None:  # type: ignore[type-arg]
    """Flat ids of a column; None for columns that hold none."""
    if pa.types.is_list(field.type):
        return single_array(table[field.name]).flatten().to_numpy()
    return table[field.name].to_numpy() if pa.types.is_int32(field.type) else None
