"""Copies of a run's tensors in main memory, to be written while training goes on and changes the originals."""

from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard


def staged(state: Any) -> Any:
    """Copy the tensors of a state, of those that are sharded what this worker holds."""
    if isinstance(state, dict):
        return {name: staged(value) for name, value in state.items()}
    if isinstance(state, ShardedTensor):
        return _staged_shards(state)
    return state.detach().to("cpu", copy=True) if isinstance(state, Tensor) else state


def _staged_shards(weight: ShardedTensor) -> ShardedTensor:
    """Make the same sharded tensor in main memory, wherever the original is."""
    whole = weight.metadata()
    everyones = replace(whole, shards_metadata=[_in_memory(part) for part in whole.shards_metadata])
    mine = [Shard(staged(shard.tensor), _in_memory(shard.metadata)) for shard in weight.local_shards()]
    return ShardedTensor._init_from_local_shards_and_global_metadata(
        mine, sharded_tensor_metadata=everyones, process_group=weight._process_group
    )


def _in_memory(part: ShardMetadata) -> ShardMetadata:
    assert part.placement is not None
    return ShardMetadata(part.shard_offsets, part.shard_sizes, f"rank:{part.placement.rank()}/cpu")
