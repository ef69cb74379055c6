"""Running a function in several processes that form a gloo group, as workers do."""

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from recsys_mtl.data.reader import Worker

TIMEOUT = timedelta(seconds=120)


def run_workers(world: int, directory: Path, work: Callable[..., Any], *args: Any) -> list[Any]:
    """Call ``work(worker, *args)`` in ``world`` processes; return what each of them returned, by rank."""
    spawn(_entry, (world, free_port(), directory, work, args), nprocs=world, join=True)  # type: ignore[no-untyped-call]
    return [torch.load(directory / f"result-{rank}.pt", weights_only=False) for rank in range(world)]


def free_port() -> int:
    """Ask the system for a port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _entry(rank: int, world: int, port: int, directory: Path, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world, timeout=TIMEOUT)
    try:
        torch.save(work(Worker(rank, world), *args), directory / f"result-{rank}.pt")
        dist.barrier()  # nobody takes the group down while another still reads from it
    finally:
        dist.destroy_process_group()
