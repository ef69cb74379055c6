"""Around every request: its id, its place in the metrics, and the last catch for errors."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import answer, problem
from serving.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
ACCEPTED_ID = re.compile(r"[!-~]{1,128}")
"""Printable ASCII without spaces: what fits a header and a line of a log."""


class Observe:
    """Pure ASGI, since it is on the path of every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        request_id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Exception:
            log.exception("request %s failed", request_id)
            if status:
                raise  # half an answer is out: the connection must break
            await answer(500, [problem((), "internal error", "internal_error")])(scope, receive, observed)
        finally:
            self.metrics.answered(route_of(scope), status or 499, time.perf_counter() - start)


def request_id_of(scope: Scope) -> str:
    """Take the client's id if it is a fit one; make one otherwise."""
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex


def route_of(scope: Scope) -> str:
    """Name the route and not the path, so that clients cannot make metrics grow."""
    return getattr(scope.get("route"), "path", "unmatched")
