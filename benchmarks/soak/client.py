"""``python -m benchmarks.soak.client ORDER``: the load, as a process of its own, until it is told to end.

Requests are sent when they are due, at a constant rate, whether or not earlier ones have been answered, and their time
counts from when they were due. A client that waits for an answer before it asks again would ask least while the service
stalls, and so leave out the very requests that had to wait ("coordinated omission"). Nothing is sent a second time.
"""

import asyncio
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import orjson

from benchmarks.soak.asks import Ask, Mixture
from benchmarks.soak.checks import Checker, WrongAnswerError
from benchmarks.soak.connections import Connection, Connections
from benchmarks.soak.records import Record
from recsys_mtl.config import Config

PATIENCE = 10.0
"""Seconds until a request has failed."""


class Order(Config):
    """What to send, where to, and where to write what came of it."""

    port: int
    bundle: Path
    """Whose golden requests are sent."""
    versions: tuple[str, ...]
    """Versions that may answer."""
    rate: float
    """Requests per second."""
    with_events: bool
    seed: int
    records: Path


@dataclass
class Client:
    """Sends requests and writes a line for each."""

    order: Order
    out: TextIO

    def __post_init__(self) -> None:
        self.mixture = Mixture(self.order.bundle, seed=self.order.seed, with_events=self.order.with_events)
        self.connections, self.checker = Connections(self.order.port), Checker(self.order.versions)

    async def run(self) -> None:
        """Send until a signal comes; then wait for what is under way."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        start, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while not ended.is_set():
                due = start + number / self.order.rate
                await asyncio.sleep(due - time.monotonic())
                group.create_task(self.send(self.mixture.next(), due))
                number += 1
        self.connections.close()

    async def send(self, ask: Ask, due: float) -> None:
        """Send a request, check its answer, and write down what came of it."""
        port, version, failure, answered = 0, "", "", None
        connection: Connection | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                connection = await self.connections.take()
                port = connection.port
                status, content = await connection.ask(ask.message)
            answered = time.monotonic()
            self.connections.give_back(connection)
            connection = None
            version, failure = self._read(ask, status, content)
        except TimeoutError:
            failure = "timeout"
        except (OSError, EOFError) as error:
            failure = f"{'reset' if port else 'refused'}: {error}"
        if connection is not None:
            connection.writer.close()
        seconds = (answered or time.monotonic()) - due
        self.out.write(orjson.dumps(Record(due, seconds, ask.name, port, version, failure)).decode() + "\n")

    def _read(self, ask: Ask, status: int, content: bytes) -> tuple[str, str]:
        """Return the version that answered, and what is wrong."""
        if status != 200:
            return "", f"{status} {content[:300].decode(errors='replace')}"
        try:
            return self.checker.check(ask, content), ""
        except WrongAnswerError as error:
            return "", f"wrong answer: {error}"


def main() -> None:
    """Follow the order."""
    order = Order.model_validate_json(sys.argv[1])
    with order.records.open("w", encoding="utf-8", buffering=1) as out:
        asyncio.run(Client(order, out).run())


if __name__ == "__main__":
    main()
