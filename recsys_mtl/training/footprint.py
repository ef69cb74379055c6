"""The footprint of a sharding plan: which worker holds how much of which table."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from torchrec.distributed.types import ShardingPlan

from recsys_mtl.training.optim import SparseConfig
from recsys_mtl.training.sharding import dense_parameters
from recsys_mtl.training.sharding_rules import Kind, TableFacts, moments

FLOAT_BYTES = 4
DENSE_COPIES = 4
"""Numbers per dense weight on every worker: itself, its gradient and Adam's two moments."""


@dataclass(frozen=True)
class TablePart:
    """What one worker holds of a table."""

    table: str
    kind: Kind
    sharding: str
    """torchrec's name for the way in which the table is spread."""
    worker: int
    first_column: int
    rows: int
    dim: int
    weight_bytes: int
    moment_bytes: int


def table_parts(plan: ShardingPlan, tables: list[TableFacts], sparse: SparseConfig) -> list[TablePart]:
    """List every part of every table, the largest first."""
    ways = {name: how for module in plan.plan.values() for name, how in module.items()}
    parts = []
    for table in tables:
        how = ways[table.name]
        for worker, first_column, rows, dim in _places(table, how):
            if rows:
                kept, weights = moments(sparse, rows, dim), rows * dim
                sizes = (FLOAT_BYTES * weights, FLOAT_BYTES * kept)
                place = (worker, first_column, rows, dim)
                parts.append(TablePart(table.name, table.kind, how.sharding_type, *place, *sizes))
    return sorted(parts, key=lambda part: (-part.weight_bytes, part.table, part.worker))


def dense_bytes(model: nn.Module) -> int:
    """Return what the dense part takes on every worker while it is trained, without activations."""
    return DENSE_COPIES * gradient_bytes(model)


def gradient_bytes(model: nn.Module) -> int:
    """Return the bytes of the dense part's gradient."""
    return FLOAT_BYTES * sum(parameter.numel() for parameter in dense_parameters(model))


def _places(table: TableFacts, how: Any) -> list[tuple[int, int, int, int]]:
    """Return worker, first column, rows and columns of each part; a replicated table is one part on each worker."""
    if how.sharding_spec is None:
        return [(rank, 0, table.rows, table.dim) for rank in how.ranks]
    shards = how.sharding_spec.shards
    return [(shard.placement.rank(), shard.shard_offsets[1], *shard.shard_sizes) for shard in shards]
