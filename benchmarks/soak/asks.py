"""What the load consists of: rankings in every way of asking for them, and events."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from benchmarks.serving.bodies import Json, as_ours, golden_of, widened

SIZES = (1, 10, 50, 200)
"""Numbers of candidates."""
JSON_TYPE, STREAM = "application/json", "application/vnd.apache.arrow.stream"
EVENTS = "/v1/events"
EVENT_EVERY = 25
"""One request in so many reports an event."""


@dataclass(frozen=True)
class Ask:
    """A request."""

    name: str
    path: str
    body: bytes
    candidates: int = 0
    complete: bool = False
    """Whether it brings all features, so that a model gives it the same scores whatever becomes of the store."""
    content_type: str = JSON_TYPE
    accept: str = JSON_TYPE

    @property
    def message(self) -> bytes:
        """The request as it goes over the connection."""
        lines = [f"POST {self.path} HTTP/1.1", "Host: localhost", f"Content-Type: {self.content_type}"]
        lines += [f"Accept: {self.accept}", f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode() + self.body


class Mixture:
    """Requests of every kind and size, drawn at random; each user of the golden requests has some of them.

    One more user does things, so that the stored histories of all others stay what they are.
    """

    def __init__(self, bundle: Path, *, seed: int, with_events: bool) -> None:
        spec = yaml.safe_load((bundle / "spec.yaml").read_text(encoding="utf-8"))
        self.golden, self.user_key, self.chance = golden_of(bundle), str(spec["group"]), random.Random(seed)
        self.actor = self._user(-1)
        others = [number for number in range(len(self.golden)) if self._user(number) != self.actor]
        sequences = [one["name"] for one in spec["features"] if one["kind"] == "sequence"]
        self.sequence = sequences[0] if with_events and sequences and others else None
        self.still = others or [0]
        """Numbers of the golden requests whose users do nothing."""
        self.asks = list(self._asks())
        self.drawn = 0

    def next(self) -> Ask:
        """Draw a request."""
        self.drawn += 1
        return self.chance.choice(self.asks) if self.sequence is None or self.drawn % EVENT_EVERY else self._event()

    def bare(self, number: int, candidates: int) -> Json:
        """Leave nothing of a golden request but ids and the context: the feature store has the rest."""
        request = widened(self.golden, number, candidates)
        items = [{"item_id": candidate["item_id"]} for candidate in request["candidates"]]
        return {**request, "user": {"user_id": self._user(number)}, "candidates": items}

    def _user(self, number: int) -> Any:
        user = self.golden[number]["user"]
        return user.get("user_id", user.get(self.user_key))

    def _asks(self) -> Iterator[Ask]:
        for number in self.still:
            for size in SIZES:
                full, about = widened(self.golden, number, size), f"{size} candidates, user {number}"
                for path in ("/v1/rank", "/v1/score"):
                    yield Ask(f"{path}, {about}", path, as_ours(full), size, complete=True)
                    yield Ask(f"{path}, ids of {about}", path, as_ours(self.bare(number, size)), size)
                stream = as_stream(full)
                yield Ask(f"Arrow, {about}", "/v1/rank", stream, size, True, STREAM)
                yield Ask(f"Arrow both ways, {about}", "/v1/score", stream, size, True, STREAM, STREAM)

    def _event(self) -> Ask:
        item = self.chance.choice(self.golden)["candidates"][0]["item_id"]
        event = {"item_id": item, "sequence": self.sequence, "event_id": f"soak-{self.drawn}"}
        return Ask("event", EVENTS, as_ours({"user_id": self.actor, "events": [event]}))


def as_stream(request: Json) -> bytes:
    """Write a request as an Arrow stream."""
    candidates = pa.Table.from_pylist(request["candidates"])
    head = {name: value for name, value in request.items() if name != "candidates"}
    table = candidates.replace_schema_metadata({"request": json.dumps(head)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
