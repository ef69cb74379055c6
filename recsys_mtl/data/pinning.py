"""Pinning: batches in page-locked memory, from which a GPU copies them while it still computes the step before."""

from collections.abc import Iterator

import torch

from recsys_mtl.data.batch import Batch


def pinned(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches in memory that ``device`` reads from by itself; for a CPU they stay where they are."""
    if device.type != "cuda":
        yield from batches
        return
    torch.cuda.set_device(device)  # of the thread that this runs in, which would else begin to use the first GPU
    for batch in batches:
        yield batch.pin_memory()
