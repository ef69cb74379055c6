"""Sharding: tables spread over workers, and their weights brought in and out whole."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
import xxhash
from torch import Tensor, nn
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard
from torch.distributed.remote_device import _remote_device
from torchrec.distributed.model_parallel import DistributedModelParallel

from recsys_mtl.config import ConfigError
from recsys_mtl.training.optim import SparseConfig
from recsys_mtl.training.planning import is_table, make_plan, sharders
from recsys_mtl.training.replicated import ReplicatedTables
from recsys_mtl.training.sharding_rules import ShardingConfig

BLOCK_NUMBERS = 1 << 22
"""How many numbers are drawn at a time; 16 MiB of floats."""
DRAWN_TOGETHER = 16
"""torch draws normal numbers in groups of so many, and in another way where there are fewer: blocks of whole groups,
the last of one at the least, hold the numbers that a single draw would give."""


def shard(
    model: nn.Module,
    sparse: SparseConfig,
    device: torch.device,
    *,
    sharding: ShardingConfig | None = None,
    memory_gib: float | None = None,
) -> DistributedModelParallel:
    """Spread the tables of ``model`` over the process group, with their optimiser fused into the backward pass.

    Those that every worker holds whole have theirs in ``replicated``, for the training step to call.

    Weights of sharded tables are undefined until `initialise_tables` or a checkpoint sets them: torchrec throws away
    whatever they held before.
    """
    sharding = sharding or ShardingConfig()
    world = dist.get_world_size()
    check_nodes(sharding, world)
    plan = make_plan(model, world, device, sparse, sharding=sharding, memory_gib=memory_gib)
    sharded = DistributedModelParallel(module=model, device=device, plan=plan, sharders=sharders())
    ways = {table: how.sharding_type for module in plan.plan.values() for table, how in module.items()}
    tables = ((name, weight) for name, weight in sharded.named_parameters() if is_table(name))
    whole = {name: weight for name, weight in tables if ways[name.split(".")[-2]] == "data_parallel"}
    sharded.replicated = ReplicatedTables(whole, sparse)
    return sharded


def check_nodes(sharding: ShardingConfig, world: int) -> None:
    """Make sure that machines have as many workers as the plan thinks: torchrec asks the launcher, the plan the user.

    Raises:
        ConfigError: they have not.
    """
    here, said = os.environ.get("LOCAL_WORLD_SIZE"), sharding.workers_per_node
    if here is not None and said is not None and int(here) != min(said, world):
        raise ConfigError([f"cluster.sharding.workers_per_node: is {said}, but this machine has {here} workers"])


def table_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Weights of all tables of an unsharded model."""
    return [parameter for name, parameter in model.named_parameters() if is_table(name)]


def dense_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Weights of everything but the tables, sharded model or not."""
    return [parameter for name, parameter in model.named_parameters() if not is_table(name)]


def initialise_tables(model: nn.Module, seed: int, *, deviation: float) -> None:
    """Fill all tables with normal numbers that depend on the seed and the table's name, not on how it is sharded.

    They are drawn by blocks of rows, so that a table that no worker could hold whole needs no more memory than its
    parts, and only as far as this worker's parts reach.
    """
    for name, weight in model.state_dict().items():
        if is_table(name):
            parts = [(part.detach(), offsets) for part, offsets in local_parts(weight)]
            rows = max((first + len(part) for part, (first, _) in parts), default=0)
            generator = torch.Generator().manual_seed(xxhash.xxh32_intdigest(f"{seed} {name}".encode()))
            for start, block in normal_blocks(tuple(weight.shape), generator, rows):
                block *= deviation
                for part, offsets in parts:
                    _copy_rows(part, offsets, block, start)


def normal_blocks(shape: tuple[int, int], generator: torch.Generator, rows: int) -> Iterator[tuple[int, Tensor]]:
    """Draw the first ``rows`` rows, or a few more, of what ``torch.randn(shape)`` is: first row, and block (R, D)."""
    size = max(DRAWN_TOGETHER, BLOCK_NUMBERS // shape[1] // DRAWN_TOGETHER * DRAWN_TOGETHER)
    start = 0
    while start < rows:
        end = start + size if start + size + DRAWN_TOGETHER <= shape[0] else shape[0]
        yield start, torch.randn(end - start, shape[1], generator=generator)
        start = end


def _copy_rows(part: Tensor, offsets: tuple[int, ...], block: Tensor, start: int) -> None:
    """Copy into a part of a table what a block of its rows, which begins with row ``start``, has of it."""
    first, column = offsets
    begin, end = max(first, start), min(first + part.shape[0], start + block.shape[0])
    if begin < end:
        columns = slice(column, column + part.shape[1])
        part[begin - first : end - first].copy_(block[begin - start : end - start, columns])


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
    is_first = dist.get_rank() == 0
    gathered: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        whole = torch.empty(tuple(weight.shape), dtype=weight.dtype) if is_first else None
        if isinstance(weight, ShardedTensor):
            _bring(weight, whole)
        elif whole is not None:
            whole.copy_(weight.detach())
        if whole is not None:
            gathered[name] = whole
    return gathered


def _bring(weight: ShardedTensor, whole: Tensor | None) -> None:
    """Fill ``whole``, which rank 0 has, from everyone's parts, some rows at a time.

    `ShardedTensor.gather` takes the size of the largest part from rank 0 for each worker, and main memory from NCCL.
    """
    mine = {offsets: part.detach() for part, offsets in local_parts(weight) if part.numel()}
    for shard in weight.metadata().shards_metadata:
        (row, column), (rows, columns) = shard.shard_offsets, shard.shard_sizes
        part, owner = mine.get((row, column)), _owner(shard)
        size = max(BLOCK_NUMBERS // max(columns, 1), 1)
        for start in range(0, rows, size):
            count = min(size, rows - start)
            block = _sent_to_first(
                None if part is None else part[start : start + count], owner, (count, columns), weight
            )
            if whole is not None and block is not None:
                whole[row + start : row + start + count, column : column + columns].copy_(block)


def _owner(shard: ShardMetadata) -> int:
    assert isinstance(shard.placement, _remote_device)
    rank = shard.placement.rank()
    assert rank is not None
    return rank


def _sent_to_first(block: Tensor | None, owner: int, shape: tuple[int, int], like: ShardedTensor) -> Tensor | None:
    """Return on rank 0 the block that its owner has."""
    if dist.get_rank() != 0:
        if block is not None:
            dist.send(block.contiguous(), 0)
        return None
    if block is None:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        block = torch.empty(shape, dtype=like.dtype, device=device)
        dist.recv(block, owner)
    return block


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
