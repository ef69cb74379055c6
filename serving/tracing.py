"""Trace headers of the W3C (``traceparent``, ``tracestate``), as OpenTelemetry sends them: logged and passed on."""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]{0,200})?")
"""Version, trace, span and flags; versions after 00 may have more behind them."""
MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
MOST_MEMBERS, LONGEST_STATE = 32, 512


@dataclass(frozen=True)
class Trace:
    """Where a request belongs in its client's trace. The service makes no spans of its own."""

    parent: str
    state: str
    trace_id: str
    span_id: str

    def pass_on(self, headers: MutableHeaders) -> None:
        """Put the headers into an answer, as they came."""
        headers[TRACEPARENT] = self.parent
        if self.state:
            headers[TRACESTATE] = self.state


def read_trace(headers: Headers) -> Trace | None:
    """Read a request's trace; headers that are not in order count as not there."""
    parents = headers.getlist(TRACEPARENT)
    found = PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None or (found[1] == "00" and found[4]):
        return None
    return Trace(parents[0], read_state(headers.getlist(TRACESTATE)), found[2], found[3])


def read_state(values: list[str]) -> str:
    """Join what systems on the way have added, if it is in order."""
    members = [member.strip(" \t") for value in values for member in value.split(",")]
    members = [member for member in members if member]
    state = ",".join(members)
    is_sound = len(members) <= MOST_MEMBERS and len(state) <= LONGEST_STATE and all(map(MEMBER.fullmatch, members))
    return state if is_sound else ""
