"""Prepared Parquet files as peers' users read them: into a frame, and from there into arrays."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]
import torch
from torch import Tensor

from benchmarks.training.stopwatch import Pace

BATCHES = 8
"""Batches in memory, which come again and again."""


@dataclass(frozen=True)
class Inputs:
    """A training split in memory."""

    ids: dict[str, npt.NDArray[np.int32]]
    labels_NT: npt.NDArray[np.float32]
    seconds: float
    """What reading it took."""

    @classmethod
    def read(cls, job: dict[str, Any]) -> "Inputs":
        """Read ids and labels."""
        started = time.perf_counter()
        fields, tasks = field_names(job), [f"label.{name}" for name in task_names(job)]
        frame = pd.read_parquet(Path(job["data"]) / "train", columns=[*fields, *tasks])
        ids = {name: np.array(frame[name]) for name in fields}  # pandas' own arrays are read-only
        return cls(ids, np.array(frame[tasks]), time.perf_counter() - started)

    def batches(self, batch_size: int) -> list[tuple[dict[str, Tensor], Tensor]]:
        """Cut a few whole batches, as tensors."""
        count = min(BATCHES, len(self.labels_NT) // batch_size)
        slices = [slice(i * batch_size, (i + 1) * batch_size) for i in range(count)]
        return [
            ({name: torch.from_numpy(column[rows]) for name, column in self.ids.items()}, torch.from_numpy(labels))
            for rows, labels in ((rows, self.labels_NT[rows]) for rows in slices)
        ]


def field_names(job: dict[str, Any]) -> list[str]:
    """Name the id columns."""
    return [f"field{i}" for i in range(job["shape"]["fields"])]


def task_names(job: dict[str, Any]) -> list[str]:
    """Name the tasks."""
    return [f"task{i}" for i in range(job["shape"]["tasks"])]


def table_rows(job: dict[str, Any]) -> int:
    """Return the rows of every table: those of values, and the two for unknown and missing ones."""
    return int(job["shape"]["vocabulary"]) + 2


def pace_of(job: dict[str, Any]) -> Pace:
    """Return how long to measure."""
    return Pace(**job["pace"])


def sizes(model: torch.nn.Module) -> dict[str, int]:
    """Count weights."""
    tables = {id(w) for m in model.modules() if isinstance(m, torch.nn.Embedding) for w in m.parameters()}
    counts = {"dense": 0, "tables": 0}
    for weight in model.parameters():
        counts["tables" if id(weight) in tables else "dense"] += weight.numel()
    return counts
