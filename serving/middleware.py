"""Around every request: its id and trace, its place in metrics and log, and the last catch for errors."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import answer, problem
from serving.gate import SCOPES
from serving.request_log import Note, RequestLog
from serving.service import Service
from serving.tracing import read_trace

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
ACCEPTED_ID = re.compile(r"[!-~]{1,128}")
"""Printable ASCII without spaces: what fits a header and a line of a log."""


class Observe:
    """Pure ASGI, since it is on the path of every request."""

    def __init__(self, app: ASGIApp, service: Service, log: RequestLog) -> None:
        self.app, self.service, self.log = app, service, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = Headers(scope=scope)
        note = Note(request_id_of(headers), read_trace(headers))
        scope.setdefault("state", {})["note"] = note
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._sign(MutableHeaders(scope=message), note)
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Exception:
            log.exception("request %s failed", note.request_id)
            if status:
                raise  # half an answer is out: the connection must break
            await answer(500, [problem((), "internal error", "internal_error")])(scope, receive, observed)
        finally:
            route, seconds = route_of(scope), time.perf_counter() - start
            self.service.metrics.answered(route, status or 499, seconds)
            self.log.write(note, scope["method"], route, status or 499, seconds)

    def _sign(self, headers: MutableHeaders, note: Note) -> None:
        headers[REQUEST_ID] = note.request_id
        if note.trace is not None:
            note.trace.pass_on(headers)
        if self.service.is_draining:
            headers["Connection"] = "close"  # a client with a connection to keep is to make its next one elsewhere


def request_id_of(headers: Headers) -> str:
    """Take the client's id if it is a fit one; make one otherwise."""
    given = headers.get(REQUEST_ID, "")
    return given if ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex


def route_of(scope: Scope) -> str:
    """Name the route and not the path, so that clients cannot make metrics grow."""
    path: str = scope["path"]
    return getattr(scope.get("route"), "path", path if path in SCOPES else "unmatched")
