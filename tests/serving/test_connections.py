import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from serving import connections
from serving.connections import GuardedProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


async def echo(_: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(length).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def talked(talk: Talk) -> bytes:
    """Talk to a server on a connection of its own."""

    async def run() -> bytes:
        config = uvicorn.Config(echo, http=GuardedProtocol, port=0, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        address = server.servers[0].sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address[:2])
        try:
            return await asyncio.wait_for(talk(reader, writer), 60)
        finally:
            writer.close()
            server.should_exit = True
            await serving

    return asyncio.run(run())


def sent(*pieces: bytes, more: bytes = b"") -> bytes:
    """Send pieces, then more and more until the server says something."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for piece in pieces:
            writer.write(piece)
        answer = asyncio.create_task(reader.read())
        try:
            while more and not answer.done():
                writer.write(more)
                await writer.drain()
                await asyncio.sleep(0)
            return await answer
        except ConnectionError:
            await asyncio.gather(answer, return_exceptions=True)
            return b""

    return talked(talk)


def test_a_request_in_order_is_answered() -> None:
    assert sent(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000).endswith(b"100000")
    assert sent(HEAD + b"X-Long: " + b"x" * 30_000 + b"\r\n\r\n").endswith(b"0")


def test_a_body_in_the_smallest_chunks_is_answered() -> None:
    assert sent(CHUNKED + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n").endswith(b"20000")


@pytest.mark.parametrize(
    ("pieces", "more"),
    [
        ([HEAD, b"X-Endless: "], b"x" * 10_000),
        ([HEAD], b"X-Many: 1\r\n" * 1000),
        ([b"GET /"], b"x" * 10_000),
        ([CHUNKED, b"1;extension="], b"x" * 10_000),
        ([CHUNKED, b"1\r\nx\r\n0\r\nX-Trailer: "], b"x" * 10_000),
    ],
    ids=["a header", "headers", "a path", "a chunk's extension", "a trailer"],
)
def test_what_never_ends_is_ended(pieces: list[bytes], more: bytes) -> None:
    answer = sent(*pieces, more=more)
    assert answer == b"" or answer.split()[1] in {b"431", b"400"}


@pytest.mark.parametrize("pieces", [[], [b"GET"], [HEAD], [HEAD, b"X-Slow: x"]])
def test_a_connection_that_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    assert sent(*pieces).startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_is_left_to_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(HEAD + b"Content-Length: 2\r\n\r\nx")
        await asyncio.sleep(1)
        writer.write(b"x")
        return await reader.read()

    assert talked(talk).endswith(b"2")
