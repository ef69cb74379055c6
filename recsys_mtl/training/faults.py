"""Faults of a run's data, batches without a finite loss and unreadable row groups: what is left out is counted."""

from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor

from recsys_mtl.config import ConfigError
from recsys_mtl.data.reader import Cursor, TrainReader
from recsys_mtl.data.shards import row_order
from recsys_mtl.training.step import NotFiniteError, all_sum, world_size

SHOWN = 3
"""Damaged row groups that an error names."""


def count_damage(reader: TrainReader, cursor: Cursor, damaged: dict[str, int], *, like: Tensor) -> None:
    """Add the rows of a global batch that could not be read to ``damaged``, by row group: the same on all workers.

    A collective, if damage is allowed at all; ``like`` is any tensor of the device for that.

    Raises:
        ConfigError: more row groups than the run may leave out.
    """
    if reader.config.skip_damaged == 0:
        return
    rows, reasons = _unread(reader, cursor)
    if all_sum(like.new_tensor([float(sum(rows.values()))])).item() == 0:
        return
    everyones = _gather((rows, reasons))
    for theirs, _ in everyones:
        for name, count in theirs.items():
            damaged[name] = damaged.get(name, 0) + count
    if len(damaged) > reader.config.skip_damaged:
        found = {reason: None for _, theirs in everyones for reason in theirs}
        allowed = f"{reader.config.skip_damaged} may be left out (data.reader.skip_damaged)"
        raise ConfigError([f"{len(damaged)} row groups cannot be read, {allowed}", *list(found)[:SHOWN]])


def _unread(reader: TrainReader, cursor: Cursor) -> tuple[dict[str, int], list[str]]:
    """Return the rows of this worker's part of a global batch that it could not read, and why."""
    rows: dict[str, int] = {}
    reasons: list[str] = []
    for lane in reader.lanes(reader.worker.rank) if reader.damage else ():
        for piece in reader.pieces(lane, cursor):
            if error := reader.damage.get((lane, piece.group.number)):
                name = f"{piece.group.path.name} row group {piece.group.index}"
                rows[name] = rows.get(name, 0) + piece.end - piece.start
                reasons += error.problems
    return rows, reasons


def _gather(mine: Any) -> list[Any]:
    if world_size() == 1:
        return [mine]
    everyones: list[Any] = [None] * world_size()
    dist.all_gather_object(everyones, mine)
    return everyones


def batch_record(reader: TrainReader, cursor: Cursor, error: NotFiniteError) -> dict[str, Any]:
    """Say where all rows of a global batch lie, so that a person can look them up."""
    return {
        "step": cursor.epoch * reader.steps + cursor.step + 1,
        "epoch": cursor.epoch + 1,
        "batch": cursor.step + 1,
        "problem": f"{error} is not a finite number",
        "workers": list(error.workers),
        "places": [
            {
                "worker": rank,
                "lane": lane,
                "file": str(piece.group.path),
                "row_group": piece.group.index,
                "rows": row_order(piece.group, (reader.seed, cursor.epoch))[piece.start : piece.end].tolist(),
            }
            for rank in range(reader.worker.world)
            for lane in reader.lanes(rank)
            for piece in reader.pieces(lane, cursor)
        ],
    }


def record_file(record: Mapping[str, Any]) -> str:
    """Name the file of a batch's record among a run's files."""
    return f"not_finite/step-{record['step']:06d}.json"


def explain(record: Mapping[str, Any], error: NotFiniteError) -> str:
    """Say what happened, what can be done about it, and where to look."""
    place = f"step {record['step']} (batch {record['batch']} of epoch {record['epoch']})"
    if error.learnt:
        problem = "is not a finite number although its losses are, and the tables have learnt from it"
        advice = "lower optim.dense.lr or optim.sparse.lr; the newest checkpoint is from before"
    else:
        problem = "is not a finite number, and nothing was learnt from it"
        advice = (
            "lower optim.dense.lr or optim.sparse.lr, look for labels or weights that are too large, "
            "or leave such batches out with trainer.skip_not_finite"
        )
    return f"{place}: {error} {problem}; {advice}; the rows: {record_file(record)} among the run's files"
