"""Sharding: tables spread over workers, and their weights brought in and out whole."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
import xxhash
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard
from torch.distributed.optim.apply_optimizer_in_backward import (
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError, PlannerErrorType
from torchrec.distributed.types import ModuleSharder, ShardingPlan, ShardingType

from recsys_mtl.config import ConfigError
from recsys_mtl.training.optim import SparseConfig

OUT_OF_MEMORY = {PlannerErrorType.INSUFFICIENT_STORAGE, PlannerErrorType.PARTITION}
"""Reasons of torchrec's planner: in all, or of some table on any worker."""


def shard(
    model: nn.Module, sparse: SparseConfig, device: torch.device, *, memory_gib: float | None = None
) -> DistributedModelParallel:
    """Spread the tables of ``model`` over the process group, with their optimiser fused into the backward pass.

    Weights of sharded tables are undefined until `initialise_tables` or a checkpoint sets them: torchrec throws away
    whatever they held before.
    """
    optimizer, arguments = sparse.optimizer
    apply_optimizer_in_backward(optimizer, table_parameters(model), arguments)
    plan = make_plan(model, dist.get_world_size(), device, memory_gib=memory_gib)
    return DistributedModelParallel(module=model, device=device, plan=plan, sharders=sharders())


def sharders() -> list[ModuleSharder[nn.Module]]:
    """Everything of a model that can be sharded."""
    return [EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()]


def make_plan(model: nn.Module, world: int, device: torch.device, *, memory_gib: float | None = None) -> ShardingPlan:
    """Decide which worker holds which table.

    Every worker computes the plan for itself: it depends on nothing that differs between them, and a plan that cannot
    be made is then an error on all of them instead of a hang (torchrec's collective plan raises on one).

    Raises:
        ConfigError: the tables do not fit into the memory of the workers.
    """
    cap = {} if memory_gib is None else {"hbm_cap" if device.type == "cuda" else "ddr_cap": int(memory_gib * 2**30)}
    topology = Topology(world_size=world, local_world_size=world, compute_device=device.type, **cap)
    constraint = ParameterConstraints(
        sharding_types=[ShardingType.TABLE_WISE.value], compute_kernels=[EmbeddingComputeKernel.FUSED.value]
    )
    tables = {name.split(".")[-2] for name, _ in model.named_parameters() if _is_table(name)}
    planner = EmbeddingShardingPlanner(
        topology=topology,
        constraints=dict.fromkeys(tables, constraint),
        storage_reservation=FixedPercentageStorageReservation(percentage=0.1),
    )
    try:
        return planner.plan(model, sharders())
    except PlannerError as error:
        if error.error_type not in OUT_OF_MEMORY:
            raise
        raise ConfigError([_does_not_fit(model, world, memory_gib)]) from None


def _does_not_fit(model: nn.Module, world: int, memory_gib: float | None) -> str:
    sizes = {name.split(".")[-2]: p.numel() * 4 / 2**30 for name, p in model.named_parameters() if _is_table(name)}
    largest = max(sizes, key=lambda name: sizes[name])
    limit = "their memory" if memory_gib is None else f"{memory_gib:g} GiB (cluster.memory_gib)"
    return (
        f"cluster.workers: {world} workers with {limit} each cannot hold the tables, {sum(sizes.values()):.3g} GiB and "
        f"at most as much again for the optimiser; the largest, {largest}, has {sizes[largest]:.3g} GiB and stays on "
        "one worker. More workers or memory, fewer buckets or smaller widths would help"
    )


def table_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Weights of all tables of an unsharded model."""
    return [parameter for name, parameter in model.named_parameters() if _is_table(name)]


def dense_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Weights of everything but the tables, sharded model or not."""
    return [parameter for name, parameter in model.named_parameters() if not _is_table(name)]


def initialise_tables(model: nn.Module, seed: int, *, deviation: float) -> None:
    """Fill all tables with normal numbers that depend on the seed and the table's name, not on how it is sharded."""
    for name, weight in model.state_dict().items():
        if _is_table(name):
            generator = torch.Generator().manual_seed(xxhash.xxh32_intdigest(f"{seed} {name}".encode()))
            full = torch.randn(tuple(weight.shape), generator=generator) * deviation
            for part, offsets in local_parts(weight):
                index = tuple(slice(o, o + s) for o, s in zip(offsets, part.shape, strict=True))
                part.detach().copy_(full[index])


def local_parts(weight: Any) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Yield what this worker holds of a weight, with its place in the whole."""
    if not isinstance(weight, ShardedTensor):
        yield weight, (0,) * weight.dim()
        return
    for part in weight.local_shards():
        yield part.tensor, tuple(part.metadata.shard_offsets)


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """Bring all weights to rank 0, whole and under the names of the unsharded model; elsewhere return nothing.

    A collective: every worker must call it.
    """
    gathered: dict[str, Tensor] = {}
    rank = dist.get_rank()
    for name, weight in model.state_dict().items():
        if isinstance(weight, ShardedTensor):
            whole = torch.empty(weight.size(), dtype=weight.dtype)
            weight.gather(dst=0, out=whole if rank == 0 else None)
        else:
            whole = weight.detach().cpu()
        if rank == 0:
            gathered[name] = whole
    return gathered


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Copy all weights and buffers by name; of those that are sharded, what this worker holds."""
    return {name: _copy(weight) for name, weight in model.state_dict().items()}


def restore(model: nn.Module, copies: Mapping[str, Any]) -> None:
    """Put a snapshot back."""
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            for (part, _), (copy, _) in zip(local_parts(weight), local_parts(copies[name]), strict=True):
                part.copy_(copy)


def _copy(weight: Any) -> Any:
    if not isinstance(weight, ShardedTensor):
        return weight.detach().clone()
    shards = [Shard(shard.tensor.detach().clone(), shard.metadata) for shard in weight.local_shards()]
    return ShardedTensor._init_from_local_shards_and_global_metadata(
        shards, sharded_tensor_metadata=weight.metadata(), process_group=weight._process_group
    )


def _is_table(name: str) -> bool:
    return ".embedding_bags." in name or ".embeddings." in name
