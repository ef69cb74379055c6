"""The limit: the model's own forward pass of the same candidates, eager and on one thread, without any service."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks.serving.bodies import request_of, rows_of
from benchmarks.training.turns import seconds_of
from recsys_mtl.bundle import Bundle
from recsys_mtl.data.batch import BatchLayout, collate
from recsys_mtl.data.values import array

SECONDS = 0.5


def forwards(bundle: Path, sizes: tuple[int, ...]) -> dict[int, Callable[[], float]]:
    """Return, by number of candidates, what measures a forward pass in milliseconds.

    Rows are encoded and batched already, and looked up in the tables.
    """
    loaded = Bundle.load(bundle)
    layout = BatchLayout.of(loaded.encoder.spec, loaded.tasks)
    batches = {
        size: collate(loaded.encoder.encode(raw_table(rows_of(request_of(bundle, size)))), layout) for size in sizes
    }
    return {size: partial(milliseconds, partial(loaded.model, batch)) for size, batch in batches.items()}


def raw_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Put rows of JSON into columns."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: array([row.get(name) for row in rows]) for name in names})


@torch.inference_mode()
def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return 1e3 * seconds_of(call, SECONDS)
    finally:
        torch.set_num_threads(threads)
