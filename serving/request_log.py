"""The log's line for every request: who asked which model for how much, and what came of it."""

import logging
import random
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serving.tracing import Trace

if TYPE_CHECKING:
    from serving.settings import Settings

log = logging.getLogger(__name__)

UNLOGGED = frozenset({"/healthz", "/readyz", "/metrics"})
"""What monitors ask for every few seconds."""
LONGEST_BODY = 10_000


@dataclass
class Note:
    """What is found out about a request on its way. Values of features are not among it, unless bodies are sampled."""

    request_id: str
    trace: Trace | None = None
    key: str | None = None
    """Name of the API key."""
    candidates: int | None = None
    model: str | None = None
    body: bytes | None = None
    """Of the sampled share alone."""


def note_of(scope: MutableMapping[str, Any]) -> Note:
    """Return a request's note."""
    note: Note = scope["state"]["note"]
    return note


class RequestLog:
    """Writes at level INFO, to the logger ``serving.request_log``."""

    def __init__(self, settings: "Settings") -> None:
        self.share, self.bodies_share = settings.log_requests, settings.log_bodies_share

    def wants_body(self) -> bool:
        """Tell whether to keep a request's body."""
        return self.bodies_share > 0 and random.random() < self.bodies_share

    def write(self, note: Note, method: str, route: str, status: int, seconds: float) -> None:
        """Write a line, unless the request is not in the sample."""
        if route in UNLOGGED or not log.isEnabledFor(logging.INFO):
            return
        if note.body is None and not (self.share > 0 and random.random() < self.share):
            return
        trace = note.trace
        fields = {
            "request_id": note.request_id, "method": method, "route": route, "status": status,
            "seconds": round(seconds, 6), "candidates": note.candidates, "model": note.model, "key": note.key,
            "trace_id": trace and trace.trace_id, "span_id": trace and trace.span_id,
            "body": None if note.body is None else note.body[:LONGEST_BODY].decode(errors="backslashreplace"),
        }  # fmt: skip
        log.info("request", extra={"fields": {name: value for name, value in fields.items() if value is not None}})
