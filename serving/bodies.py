"""How bodies of requests are read: by orjson, or later by the model that answers."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute


class JSONRequest(Request):
    """Reads bodies with orjson: fast, and strict about what JSON is (no NaN, no infinity, no endless nesting)."""

    async def json(self) -> Any:
        """Parse the body."""
        return orjson.loads(await self.body())


class UnparsedRequest(Request):
    """Hands the body of a JSON request on as it is: the model that answers knows best how to parse it."""

    async def json(self) -> Any:
        """Return the body."""
        return await self.body()


class JSONRoute(APIRoute):
    """A route whose body is read by `JSONRequest`."""

    request: type[Request] = JSONRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def handle_body(request: Request) -> Response:
            return await handle(self.request(request.scope, request.receive))

        return handle_body


class UnparsedRoute(JSONRoute):
    """A route whose body is read by `UnparsedRequest`."""

    request = UnparsedRequest
