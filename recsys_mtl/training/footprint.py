"""The footprint of a sharding plan: which worker holds how much of which table."""

from dataclasses import dataclass

from torch import nn
from torchrec.distributed.types import ShardingPlan

from recsys_mtl.training.optim import SparseConfig
from recsys_mtl.training.sharding import dense_parameters

FLOAT_BYTES = 4
DENSE_COPIES = 4
"""Numbers per dense weight on every worker: itself, its gradient and Adam's two moments."""


@dataclass(frozen=True)
class TablePart:
    """What one worker holds of a table."""

    table: str
    sharding: str
    """torchrec's name for the way in which the table is spread."""
    worker: int
    rows: int
    dim: int
    weight_bytes: int
    moment_bytes: int


def table_parts(plan: ShardingPlan, sparse: SparseConfig) -> list[TablePart]:
    """List every part of every table, the largest first."""
    parts = []
    for module in plan.plan.values():
        for table, sharding in module.items():
            for shard in sharding.sharding_spec.shards:
                rows, dim = shard.shard_sizes
                numbers = {"rowwise_adagrad": rows, "adagrad": rows * dim, "sgd": 0}[sparse.kind]
                weight_bytes, moment_bytes = FLOAT_BYTES * rows * dim, FLOAT_BYTES * numbers
                worker = shard.placement.rank()
                parts.append(TablePart(table, sharding.sharding_type, worker, rows, dim, weight_bytes, moment_bytes))
    return sorted(parts, key=lambda part: (-part.weight_bytes, part.table, part.worker))


def dense_bytes(model: nn.Module) -> int:
    """Return what the dense part takes on every worker while it is trained, without activations."""
    return DENSE_COPIES * FLOAT_BYTES * sum(parameter.numel() for parameter in dense_parameters(model))
