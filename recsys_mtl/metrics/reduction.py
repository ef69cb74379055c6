"""How workers put their parts of a metric together."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

Group: TypeAlias = "dist.ProcessGroup | None"
"""The workers that reduce together; all of them where it is None."""


def is_distributed() -> bool:
    """Tell whether this process is one of several workers."""
    return dist.is_available() and dist.is_initialized()


def sum_over_workers_(tensors: Sequence[Tensor], group: Group = None) -> None:
    """Replace every tensor by its sum over the workers, in one all-reduce per dtype; alone, leave them as they are."""
    if not is_distributed():
        return
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1).to(exchange_device(group)) for tensor in same])
        dist.all_reduce(flat, group=group)
        for tensor, total in zip(same, torch.split(flat, [tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(total.view_as(tensor))


def gather_rows(rows: Tensor, group: Group = None) -> Tensor:
    """Return the rows of all workers, in rank order, whatever number each of them holds."""
    if not is_distributed():
        return rows
    device = exchange_device(group)
    count = torch.tensor([len(rows)], device=device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size(group))]
    dist.all_gather(counts, count, group=group)
    lengths = [int(count) for count in counts]
    padded = rows.new_zeros((max(lengths), *rows.shape[1:]), device=device)
    padded[: len(rows)] = rows.to(device)
    pieces = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(pieces, padded, group=group)
    return torch.cat([piece[:length] for piece, length in zip(pieces, lengths, strict=True)]).to(rows.device)


def exchange_device(group: Group) -> torch.device:
    """Pick memory that the workers' backend can send: NCCL sends GPU memory only."""
    return torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
