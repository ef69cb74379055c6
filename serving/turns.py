"""Turns at scoring: so many threads, and so many requests that wait for one."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from serving.errors import Busy

T = TypeVar("T")


class Turns:
    """A request that finds no place is refused at once: it would be answered too late for its client anyway.

    Of those whose client or time is gone, the ones that wait give up their place, and one that is being scored keeps
    its thread to the end: what runs never exceeds the threads.
    """

    def __init__(self, threads: int, most_waiting: int) -> None:
        self.most, self.taken = threads + most_waiting, 0
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="scoring")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place, from a request's first turn to its last. Only the event loop's thread comes here.

        Raises:
            Busy: there is none.
        """
        if self.taken >= self.most:
            raise Busy("too many requests wait already; try again, or elsewhere")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Wait for a thread and work in it."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)
