"""Turns at scoring: so many threads, and so many requests that wait for one."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from serving.errors import Busy
from serving.reader import Body
from serving.request_log import Note
from serving.store.base import LookUp


@dataclass(frozen=True)
class Ask:
    """What a client wants."""

    body: Body
    note: Note
    arrow: bool
    """Whether it wants a stream and not JSON."""


@dataclass(frozen=True)
class Turn:
    """A request that waits, and what comes of it."""

    ask: Ask
    look_up: LookUp | None
    outcome: "Future[bytes]" = field(default_factory=Future)

    def settle(self, answer: Callable[[], bytes]) -> None:
        """Give the client its answer, or why there is none."""
        try:
            self.outcome.set_result(answer())
        except Exception as error:
            self.outcome.set_exception(error)


NextTurn = Callable[[], Turn | None]
"""Takes the request that has waited longest, if any."""


class Turns:
    """A request that finds no place is refused at once: it would be answered too late for its client anyway.

    Of those whose client or time is gone, the ones that wait give up their place, and one that is being scored keeps
    its thread to the end: what runs never exceeds the threads.
    """

    def __init__(self, threads: int, most_waiting: int, answer_waiting: Callable[[NextTurn], None]) -> None:
        """``answer_waiting`` settles the next turn, and may take more with it."""
        self.most, self.taken = threads + most_waiting, 0
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="scoring")
        self.waiting: deque[Turn] = deque()
        self.answer_waiting = answer_waiting

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

    async def run(self, ask: Ask, look_up: LookUp | None) -> bytes:
        """Wait for a thread and for what it answers."""
        turn = Turn(ask, look_up)
        self.waiting.append(turn)
        self.threads.submit(self.answer_waiting, self.next)  # which finds nothing if an earlier one took this turn, too
        return await asyncio.wrap_future(turn.outcome)

    def next(self) -> Turn | None:
        """Take the request that has waited longest and is still waited for."""
        while self.waiting:
            try:
                turn = self.waiting.popleft()
            except IndexError:  # another thread was faster
                return None
            if turn.outcome.set_running_or_notify_cancel():
                return turn
        return None
