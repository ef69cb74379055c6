"""Connections of clients that do not get to the point: what comes before a request is one has its limits, too."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
"""Of headers; the server itself would take in any number."""
MOST_PER_BODY_BYTE = 8
"""Of what is not body, for each byte of it: a body in chunks of one byte has six bytes around each."""
HEAD_SECONDS = 10.0
"""How long the headers of a request may take, or a new connection be silent."""

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """Counts bytes and time up to where the app can. Between two requests uvicorn's own keep-alive time holds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.taken = self.of_bodies = 0
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_headers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.taken += len(data)
        super().data_received(data)
        if self.taken - self.of_bodies > MOST_HEAD_BYTES + MOST_PER_BODY_BYTE * self.of_bodies:
            self._end(TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin to count a request."""
        self.taken = self.of_bodies = 0
        self._expect_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Leave the rest of the time to the app."""
        self._have_headers()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count a piece of a body, whose size the app looks after."""
        self.of_bodies += len(body)
        super().on_body(body)

    def _expect_headers(self) -> None:
        self._have_headers()
        self.deadline = self.loop.call_later(HEAD_SECONDS, self._end, TOO_SLOW)

    def _have_headers(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _end(self, words: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(words)
            self.transport.close()
