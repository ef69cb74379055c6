"""What happens to the service while it is under load, one thing after the other."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.serving.bodies import as_ours
from benchmarks.soak.asks import Mixture
from benchmarks.soak.features import FeatureStore
from benchmarks.soak.judgement import AFTER, STEADY, SWAPS, Observed, Verdict
from benchmarks.soak.records import Phase, Swap
from benchmarks.soak.registry import BROKEN, SOUND, Registry
from benchmarks.soak.service import Service

LONGEST = 120.0
"""Seconds until something that was to happen has not."""
TICK = 0.2
PROBE_CANDIDATES = 20


@dataclass(frozen=True)
class Plan:
    """How long everything takes, in seconds, and how often the alias moves."""

    warm_up: int = 30
    steady: int = 45
    swaps: int = 20
    pause: float = 1.0
    """Between two swaps."""
    outage: int = 12
    """Of every part that goes away, and after every return."""


QUICK = Plan(warm_up=5, steady=8, swaps=5, pause=0.5, outage=3)


@dataclass
class Timeline:
    """Goes through it, and notes what it sees."""

    plan: Plan
    service: Service
    registry: Registry
    store: FeatureStore | None
    mixture: Mixture
    observed: Observed
    say: Callable[[str], None]
    version: str = SOUND[0]
    """Where the alias points."""

    def run(self) -> None:
        """From beginning to end."""
        self.wait("warm-up", self.plan.warm_up)
        self.wait(STEADY, self.plan.steady)
        self.swaps()
        self.broken_bundle()
        self.killed_worker()
        if self.store is not None:
            self.store_away(self.store)
        self.registry_away()
        self.wait(AFTER, self.plan.steady)

    def wait(self, name: str, seconds: int) -> None:
        """Let nothing happen."""
        with self.phase(name):
            time.sleep(seconds)

    def swaps(self) -> None:
        """Move the alias back and forth."""
        with self.phase(SWAPS):
            for _ in range(self.plan.swaps):
                self.swap()
                time.sleep(self.plan.pause)

    def swap(self) -> Swap:
        """Move the alias to the other version, and wait until all workers answer with it."""
        self.version = next(version for version in SOUND if version != self.version)
        start = time.monotonic()
        self.registry.point(self.version)
        swap = Swap(self.version, start, self.until(lambda: self.service.all_answer_with(self.version)))
        self.observed.swaps.append(swap)
        return swap

    def broken_bundle(self) -> None:
        """Give the alias to a bundle whose scores are not what they should be, then take it back."""
        with self.phase("broken bundle"):
            self.registry.point(BROKEN)
            seconds = self.until(self.is_refused)
            time.sleep(self.plan.outage / 2)
            stays = self.service.all_answer_with(self.version)
            self.registry.point(self.version)
            self.until(lambda: self.service.readiness()["refused"] is None)
            time.sleep(self.plan.outage / 2)
        kept = seconds is not None and stays
        self.promise("all workers refuse a broken bundle, and the old one goes on", kept, seconds)

    def is_refused(self) -> bool:
        """Say whether every worker has refused a bundle."""
        return self.service.metrics("recsys_model_swaps_total", result="refused") >= self.service.workers

    def killed_worker(self) -> None:
        """Kill a worker, and wait for the one that follows it."""
        with self.phase("killed worker"):
            killed = self.service.kill_worker()
            self.until(lambda: not self.service.all_answer_with(self.version))
            back = self.until(lambda: self.service.all_answer_with(self.version))
            seconds = None if back is None else time.monotonic() - killed.at
            self.observed.killed.append(replace(killed, seconds=seconds))
            time.sleep(self.plan.outage)
        self.promise("a killed worker is followed by another, which answers", seconds is not None, seconds)

    def store_away(self, store: FeatureStore) -> None:
        """Let the feature store hang, then end it and start it again."""
        known = self.stored()
        for name, away in (("Redis hangs", store.hanging), ("Redis away", store.ended)):
            with self.counted(name), self.phase(name, store_away=True):
                with away():
                    time.sleep(self.plan.outage)
                    others = self.scores()
                back = self.until(lambda: self.scores() == known)
                time.sleep(self.plan.outage / 2)
            kept = back is not None and others != known
            self.promise(f"{name}: answers go on without features, then have them again", kept, back)

    @contextmanager
    def counted(self, name: str) -> Iterator[None]:
        """Note how many look-ups of users came to nothing meanwhile, by the service's own count."""
        before = self.lookups()
        yield
        found = {result: count - before[result] for result, count in self.lookups().items()}
        self.observed.facts[f"look-ups, {name}"] = ", ".join(f"{count:.0f} {result}" for result, count in found.items())
        self.promise(f"{name}: look-ups that failed or were left out are counted", sum(found.values()) > found["hit"])

    def lookups(self) -> dict[str, float]:
        """Return the number of look-ups of users by what came of them."""
        results = ("hit", "timeout", "error", "skipped")
        name = "recsys_store_lookups_total"
        return {result: self.service.metrics(name, entity="user", result=result) for result in results}

    def stored(self) -> list[Any]:
        """Return the scores of ids alone, when two tries agree: one may have had its time-out."""
        known = self.scores()
        while (again := self.scores()) != known:
            known = again
        return known

    def scores(self) -> list[Any]:
        """Ask with ids alone, for users who do nothing meanwhile."""
        bodies = (as_ours(self.mixture.bare(number, PROBE_CANDIDATES)) for number in self.mixture.still)
        return [self.service.score(body)["candidates"] for body in bodies]

    def registry_away(self) -> None:
        """End the registry and start it again; then a swap works as before."""
        with self.phase("registry away"):
            self.registry.program.end()
            time.sleep(self.plan.outage)
            stale = self.until(lambda: bool(self.service.readiness()["stale"]))
            self.registry.program.start()
            swap = self.swap()
            time.sleep(self.plan.outage / 2)
        kept = stale is not None and swap.seconds is not None
        self.promise("registry away: the service says so, and changes its model afterwards", kept, swap.seconds)

    def promise(self, text: str, is_kept: bool, seconds: float | None = None) -> None:
        """Note whether something has happened, and how long it took."""
        found = "yes" if is_kept else "no"
        if is_kept and seconds is not None:
            found = f"after {seconds:.1f} s"
        self.observed.verdicts.append(Verdict(text, found, is_kept))

    @contextmanager
    def phase(self, name: str, *, store_away: bool = False) -> Iterator[None]:
        """Note when a phase begins and ends."""
        start = time.monotonic()
        self.say(f"{name} ...")
        yield
        self.observed.phases.append(Phase(name, start, time.monotonic(), store_away))

    def until(self, is_so: Callable[[], bool]) -> float | None:
        """Wait for something; return how long it took, or None where it has not happened."""
        start = time.monotonic()
        while time.monotonic() - start < LONGEST:
            with suppress(OSError):  # the worker that was asked may be the one that was killed
                if is_so():
                    return time.monotonic() - start
            time.sleep(TICK)
        return None
