"""Connections of the load: each knows its own port, by which it is told later whether its server was killed."""

import asyncio
import re
import time
from collections import deque

LIMIT = 2**24
"""Bytes of headers or of an answer that are waited for at once."""
MOST_USES = 100
"""Requests of a connection. As connections are made anew, they come to a worker that has been started again, too."""
IDLE_SECONDS = 2.0
"""A connection that was idle for longer is not used again: the server closes it after five."""
LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


class Connection:
    """One connection, of one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.port = int(writer.get_extra_info("sockname")[1])
        self.uses, self.used = 0, time.monotonic()

    async def ask(self, message: bytes) -> tuple[int, bytes]:
        """Send a request; return status and body of its answer."""
        self.uses += 1
        self.writer.write(message)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await self.reader.readexactly(int(length[1]) if length else 0)
        self.used = time.monotonic()
        return int(head.split(b" ", 2)[1]), body

    @property
    def is_fresh(self) -> bool:
        """Whether another request may be sent."""
        young = self.uses < MOST_USES and time.monotonic() - self.used < IDLE_SECONDS
        return young and not self.reader.at_eof() and not self.writer.is_closing()


class Connections:
    """As many connections as there are requests at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: deque[Connection] = deque()

    async def take(self) -> Connection:
        """Return the connection that was idle for longest, so that all are used alike, or a new one."""
        while self.idle:
            connection = self.idle.popleft()
            if connection.is_fresh:
                return connection
            connection.writer.close()
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port, limit=LIMIT))

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for another request."""
        self.idle.append(connection)

    def close(self) -> None:
        """Close those that are idle."""
        for connection in self.idle:
            connection.writer.close()
