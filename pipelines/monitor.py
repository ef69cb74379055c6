"""The monitor: how the driver sees what its workers do while they do it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from recsys_mtl.training.progress import Progress
from recsys_mtl.training.select import Metrics

POLL_S = 0.5


@dataclass(frozen=True)
class Event:
    """Something that the first worker tells the driver."""

    kind: str
    """``stage``, ``progress``, ``evaluation``, ``problem`` or ``final``."""
    step: int = 0
    total_steps: int = 0
    rows_per_s: float = 0.0
    waited: float = 0.0
    text: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    best: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def progress(cls, p: Progress) -> "Event":
        """Wrap a step's progress."""
        return cls("progress", p.step, p.total_steps, p.rows_per_s, p.waited, losses=p.losses)


class EventBox:
    """Keeps events until the driver fetches them; of progress only the newest."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.hopeless = False

    def put(self, event: Event) -> None:
        """Add an event."""
        self.hopeless |= event.kind == "problem"
        if event.kind == "progress" and self.events and self.events[-1].kind == "progress":
            if not event.losses:
                return
            self.events.pop()
        self.events.append(event)

    def is_hopeless(self) -> bool:
        """Tell whether workers found a problem that they would find again."""
        return self.hopeless

    def drain(self) -> list[Event]:
        """Return all events since the last call."""
        events, self.events = self.events, []
        return events


class Monitor:
    """Runs an `EventBox` as a Ray actor and hands its events to the driver, in a thread."""

    def __init__(self, show: Callable[[Event], None]) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        # on the driver's node, whose loss ends the run anyway: elsewhere events could be lost with a node
        box = ray.remote(EventBox).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
        self.box: Any = box.remote()
        self.show = show
        self.final: Event | None = None
        self.problems: list[str] = []
        """What workers found that the user can mend."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="monitor")

    def __enter__(self) -> "Monitor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_S):
            self._fetch()
        self._fetch()

    def _fetch(self) -> None:
        try:
            events = ray.get(self.box.drain.remote(), timeout=10)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
            return  # the cluster is going down: the driver hears of that from the run itself
        for event in events:
            if event.kind == "final":
                self.final = event
            elif event.kind == "problem" and event.text not in self.problems:
                self.problems.append(event.text)
            self.show(event)
