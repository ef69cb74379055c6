"""What workers do together beside training: by one for all, and in the background."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def on_first(work: Callable[[], T], group: dist.ProcessGroup | None = None) -> T:
    """Do something on the first worker alone; return its result, or raise its error, on all. A collective."""
    box: list[Any] = [None, None]
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            box[0] = work()
        except Exception as error:
            box[1] = error
    if dist.is_initialized():
        dist.broadcast_object_list(box, group=group)
    if box[1] is not None:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]


class Background:
    """Does things one after the other in a thread, on all workers alike, while training goes on.

    Messages between the threads have a process group of their own: they would get mixed up with those of training.
    """

    def __init__(self, timeout_s: float) -> None:
        """A thread gives up when it has waited ``timeout_s`` for the others'. A collective."""
        together = dist.is_initialized()
        self.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s)) if together else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")

    def start(self, work: Callable[[dist.ProcessGroup | None], T]) -> "Future[T]":
        """Begin something that gets the threads' process group for its messages."""
        return self._thread.submit(work, self.group)
