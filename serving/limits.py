"""What one request may take: so many bytes, and so much time."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import answer, problem
from serving.request_log import RequestLog, note_of
from serving.settings import Settings

DIGITS = 15
"""A length of more is too long, whatever number it is."""


class Refused(Exception):
    """A body that is not read to its end."""

    def __init__(self, status: int, message: str, word: str) -> None:
        super().__init__(message)
        self.status, self.message, self.word = status, message, word

    def answer(self) -> ASGIApp:
        """Say so, and end the connection: the rest of the body is not waited for."""
        return answer(self.status, [problem(("body",), self.message, self.word)], {"Connection": "close"})


class Gone(Exception):
    """The client has left before it had sent its request."""


class Limits:
    """Reads the whole body before anything else is done; pure ASGI, since it is on the path of every request."""

    def __init__(self, app: ASGIApp, settings: Settings, log: RequestLog) -> None:
        self.app, self.log = app, log
        self.most_bytes, self.seconds = settings.max_body_bytes, settings.request_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body, and answer for it if it takes too long."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, timeout = Request(scope, receive, send), asyncio.timeout(self.seconds)
        try:
            async with timeout:
                await request.read(self.most_bytes)
                if self.log.wants_body():
                    note_of(scope).body = request.body
                await self.app(scope, request.receive, request.send)
        except TimeoutError:
            if not timeout.expired() or request.is_answered:
                raise  # half an answer is out: the connection must break
            await self._too_late(request)(scope, receive, send)
        except Refused as refused:
            await refused.answer()(scope, receive, send)
        except Gone:
            return

    def _too_late(self, request: "Request") -> ASGIApp:
        if request.body is None:
            return Refused(408, f"did not arrive within {self.seconds:g} s", "too_slow").answer()
        message = f"the service has not answered within {self.seconds:g} s"
        return answer(504, [problem((), message, "timeout")], {"Retry-After": "1"})


class Request:
    """A request whose body is read once, in time, and then handed on as one piece."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers, self._receive, self._send = Headers(scope=scope), receive, send
        self.body: bytes | None = None
        self.is_read = self.is_answered = False

    async def read(self, most: int) -> None:
        """Take the body in, counting.

        Raises:
            Refused: it is too large, or packed.
            Gone: the client has left.
        """
        self._check_headers(most)
        message = await self._message()
        if not message.get("more_body", False) and len(message.get("body", b"")) <= most:
            self.body = message.get("body", b"")
            return
        read = bytearray()
        while True:
            read += message.get("body", b"")
            if len(read) > most:
                raise too_large(most)
            if not message.get("more_body", False):
                break
            message = await self._message()
        self.body = bytes(read)

    def _check_headers(self, most: int) -> None:
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"", "identity"}:
            raise Refused(415, "is packed (Content-Encoding), which this service does not take", "encoded")
        length = self.headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > DIGITS or int(length) > most):
            raise too_large(most)

    async def _message(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        return message

    async def receive(self) -> Message:
        """Hand the body on; after it there is only the client's leaving."""
        if self.is_read:
            return await self._receive()
        self.is_read = True
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Pass an answer on."""
        self.is_answered = True
        await self._send(message)


def too_large(most: int) -> Refused:
    """Refuse a body for its size."""
    return Refused(413, f"is larger than {most} bytes, the most that this service takes", "too_large")
