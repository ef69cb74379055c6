"""Counts of a split: rows, known and positive labels, unknown and missing values."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.data.encode import raw_column
from recsys_mtl.data.feature_kinds import MISSING_ID, UNKNOWN_ID, NumberFeature, column_of, parts_of
from recsys_mtl.data.labels import label_name
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import as_numbers, single_array
from recsys_mtl.tasks import BinaryTask, Task


class SplitStats:
    """Accumulates over the tables of one split."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows = 0
        self.labels = {task.name: np.zeros(2) for task in schema.tasks}
        """Known labels of each task, and their sum."""
        parts = (part for feature in schema.features for part in parts_of(feature))
        self.fields = {part: np.zeros(3, np.int64) for part in parts}
        """Values of each field, and how many of them are unknown and missing."""

    def update(self, raw: pa.Table, encoded: pa.Table) -> None:
        """Add raw rows and what they were encoded to."""
        self.rows += encoded.num_rows
        for name, sums in self.labels.items():
            labels = encoded[label_name(name)]
            sums += len(labels) - labels.null_count, pc.sum(labels).as_py() or 0.0
        for part, counts in self.fields.items():
            if isinstance(part, NumberFeature) and part.boundaries is None:
                numbers = as_numbers(raw_column(raw, column_of(part)), part.name)
                counts += numbers.size, 0, np.isnan(numbers).sum()
            else:
                ids = flat_ids(encoded, part.name)
                counts += ids.size, (ids == UNKNOWN_ID).sum(), (ids == MISSING_ID).sum()

    def as_dict(self) -> dict[str, object]:
        """Return what ``stats.json`` says of a split."""
        return {
            "rows": self.rows,
            "tasks": {task.name: self._task(task) for task in self.schema.tasks},
            "fields": {
                part.name: dict(zip(("values", "unknown", "missing"), counts.tolist(), strict=True))
                for part, counts in self.fields.items()
            },
        }

    def _task(self, task: Task) -> dict[str, float | int | None]:
        known, total = self.labels[task.name].tolist()
        mean = total / known if known else None
        if isinstance(task, BinaryTask):
            return {"known": int(known), "positives": int(total), "rate": mean}
        return {"known": int(known), "mean": mean}


def flat_ids(encoded: pa.Table, name: str) -> npt.NDArray[np.int32]:
    """Return the ids of a column, of all rows' lists one after another."""
    column = single_array(encoded[name])
    return (column.flatten() if isinstance(column, pa.ListArray) else column).to_numpy()
