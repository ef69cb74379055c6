"""The limit: the model's own forward pass of the same candidates, eager and on one thread, without any service."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks.serving.bodies import request_of, rows_of
from recsys_mtl.bundle import Bundle
from recsys_mtl.data.batch import BatchLayout, collate
from recsys_mtl.data.values import array

REPEATS = 200


@dataclass(frozen=True)
class Limit:
    """Milliseconds, medians."""

    dense: float
    """Everything above the tables."""
    model: float
    """With the look-ups in the tables."""


def limits(bundle: Path, sizes: tuple[int, ...]) -> dict[int, Limit]:
    """Measure the forward pass by number of candidates."""
    loaded, threads = Bundle.load(bundle), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {size: measured(loaded, raw_table(rows_of(request_of(bundle, size)))) for size in sizes}
    finally:
        torch.set_num_threads(threads)


def measured(bundle: Bundle, raw: pa.Table) -> Limit:
    """Time the model on rows that are encoded and batched already."""
    batch = collate(bundle.encoder.encode(raw), BatchLayout.of(bundle.encoder.spec, bundle.tasks))
    with torch.inference_mode():
        features = bundle.model.embeddings(batch)
        return Limit(
            dense=milliseconds(lambda: bundle.model.ranker(features)), model=milliseconds(lambda: bundle.model(batch))
        )


def raw_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Put rows of JSON into columns."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: array([row.get(name) for row in rows]) for name in names})


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
