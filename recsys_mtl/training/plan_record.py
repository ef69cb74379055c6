"""The plan of a checkpoint: on which workers the tables of a run were when it was saved."""

import logging
from typing import Any

import torch.distributed as dist
from torch import nn

logger = logging.getLogger(__name__)

Record = dict[str, dict[str, Any]]
"""By table: ``sharding``, and ``parts``, each as worker, first row, first column, rows and columns."""


def recorded_plan(model: nn.Module) -> Record:
    """Describe the plan of a sharded model as plain values; an unsharded one has none."""
    plan = getattr(model, "plan", None)
    if plan is None:
        return {}
    tables = {table: how for module in plan.plan.values() for table, how in module.items()}
    return {
        table: {"sharding": how.sharding_type, "parts": [_part(shard) for shard in _shards(how)]}
        for table, how in sorted(tables.items())
    }


def tell_changes(before: Record, now: Record) -> None:
    """Log the tables that go on in another way. Weights and moments follow: they are saved by their place in a table.

    Only the first worker does.
    """
    if dist.is_initialized() and dist.get_rank() > 0:
        return
    moved = [
        f"{table} from {before[table]['sharding']} to {now[table]['sharding']}"
        for table in before
        if table in now and before[table]["sharding"] != now[table]["sharding"]
    ]
    if moved:
        logger.warning("tables are sharded anew, with their optimiser's moments: %s", ", ".join(moved))


def _shards(how: Any) -> list[Any]:
    return [] if how.sharding_spec is None else list(how.sharding_spec.shards)


def _part(shard: Any) -> list[int]:
    return [shard.placement.rank(), *shard.shard_offsets, *shard.shard_sizes]
