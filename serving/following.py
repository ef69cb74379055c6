"""Following the registry: every model's first load, and the change to another version while requests go on."""

import fcntl
import gc
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from recsys_mtl.config import ConfigError
from recsys_mtl.registry import BundlePlace, copy_of, discard, discard_old
from recsys_mtl.registry import describe as look_up
from serving import last_good
from serving.lineup import Lineup
from serving.loading import Load, Served, admit
from serving.metrics import Metrics
from serving.settings import Settings, is_remote
from serving.slot import Slot

log = logging.getLogger(__name__)

REST_SECONDS = 0.01
"""Between two golden requests of a model that is to follow one that answers."""
FIRST_LOOK_SECONDS = 20.0
"""How long a start waits for a registry that neither answers nor refuses, where there is a last good version."""


class Follower:
    """Keeps every slot at what its address means. One thread; requests never wait for it."""

    def __init__(self, lineup: Lineup, settings: Settings, metrics: Metrics, load: Load) -> None:
        self.lineup, self.settings, self.metrics, self.load = lineup, settings, metrics, load
        self.settled, self.stopping = threading.Event(), threading.Event()

    def start(self) -> None:
        """Begin; what is still under way at the end of the process ends with it."""
        threading.Thread(target=self.run, name="models", daemon=True).start()

    def run(self) -> None:
        """Fill the slots, then look after them until told to stop."""
        for slot in self.lineup.slots:
            self.look(slot, FIRST_LOOK_SECONDS if self._last_good(slot) else None)
            if slot.served is None:
                self.fall_back(slot)
            self.report(slot)
        self.settled.set()
        while not self.stopping.wait(self.settings.poll_seconds):
            for slot in self.lineup.slots:
                if is_followed(slot):
                    self.look(slot)
                    self.report(slot)

    def look(self, slot: Slot, patience: float | None = None) -> None:
        """See what the address means now, and change to that."""
        try:
            place = in_time(lambda: look_up(slot.uri, self.settings.tracking_uri), patience)
            if not slot.keeps(place):
                self.change(slot, place)
        except Exception as error:  # whatever a registry answers, the thread goes on asking
            slot.lost(error)
        else:
            slot.found()

    def change(self, slot: Slot, place: BundlePlace) -> None:
        """Bring a bundle here, let it prove itself, and let requests in to it.

        Raises:
            Exception: it could not be brought here, which may work another time.
        """
        start = time.monotonic()
        with self._turn(slot):
            served = self._known(slot, place)
            if served is None:
                settings = self.settings
                path = copy_of(place, settings.tracking_uri, into=settings.cache_dir, uri=slot.uri)
                served = self._admitted(slot, path, place)
        if served is not None:
            self._swap(slot, served, time.monotonic() - start)

    def fall_back(self, slot: Slot) -> None:
        """Serve the last version that was good, where there is no better one to be had."""
        start, place = time.monotonic(), self._last_good(slot)
        if place is None or slot.keeps(place):
            return
        why, refused = slot.reason, slot.refused
        served = self._admitted(slot, place.copy_in(self.settings.cache_dir), place)
        if served is not None:
            self._swap(slot, served, time.monotonic() - start)
            slot.reason = f"version {served.name.version} from the cache: {why}"
            log.warning("%s: %s", slot.uri, slot.reason)
        slot.refused = refused  # of the copy nothing follows: a new one may be sound

    def report(self, slot: Slot) -> None:
        """Tell the metrics how long the registry has been away."""
        self.metrics.stale.labels(slot.role, slot.uri).set(slot.stale_seconds)

    def _last_good(self, slot: Slot) -> BundlePlace | None:
        uri, settings = slot.uri, self.settings
        return last_good.recall(uri, settings.tracking_uri, cache=settings.cache_dir) if is_remote(uri) else None

    def _known(self, slot: Slot, place: BundlePlace) -> Served | None:
        """Find the model among those of the other addresses, as that of a challenger that became the champion."""
        found = (served for served in self.lineup.served() if served.place == place and place.final)
        return next((served.moved_to(slot.role, slot.uri) for served in found), None)

    def _admitted(self, slot: Slot, path: Path, place: BundlePlace) -> Served | None:
        rest_seconds = REST_SECONDS if self.settled.is_set() else 0.0
        try:
            with no_collections():
                return admit(self.load(path, place), slot.role, slot.uri, rest_seconds=rest_seconds)
        except Exception as error:  # whatever is wrong with a bundle, the process stays up to say so
            slot.refuse(place, error)
            self.metrics.swaps.labels(slot.role, "refused").inc()
            if not place.is_local:
                discard(path)  # it may be the copy that is broken: the next start takes another
            return None

    def _swap(self, slot: Slot, served: Served, seconds: float) -> None:
        before = slot.served
        spare_the_collector(is_first=before is None)
        self.metrics.serves(before, served)
        slot.fill(served, seconds)
        if before is not None:
            self.metrics.swaps.labels(slot.role, "swapped").inc()
        if is_remote(slot.uri):
            self._keep_house(slot.uri, served.place)

    def _keep_house(self, uri: str, place: BundlePlace) -> None:
        settings = self.settings
        try:
            last_good.remember(place, uri, settings.tracking_uri, cache=settings.cache_dir)
        except ConfigError as error:
            log.warning("%s cannot be remembered for a start without a registry: %s", uri, error)
        used = {served.place.copy_in(settings.cache_dir) for served in self.lineup.served()}
        try:
            discard_old(place, into=settings.cache_dir, most=settings.cache_versions, used=used)
        except OSError as error:
            log.warning("old copies of %s cannot be deleted: %s", place.name, error)

    @contextmanager
    def _turn(self, slot: Slot) -> Iterator[None]:
        """Let one process of this machine change its model at a time, so that the others answer as fast as ever."""
        if slot.served is None:  # nobody waits for its answers yet
            yield
            return
        self.settings.cache_dir.mkdir(parents=True, exist_ok=True)
        with (self.settings.cache_dir / ".turn").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def is_followed(slot: Slot) -> bool:
    """Say whether an address may mean something else later: an alias does, and what could not be looked up."""
    alias = re.fullmatch(r"models:/[^/@]+@[^/@]+", slot.uri) is not None
    return alias or (is_remote(slot.uri) and (slot.served is None or slot.stale_since is not None))


def in_time(look: Callable[[], BundlePlace], seconds: float | None) -> BundlePlace:
    """Return what ``look`` finds, and do not wait for ever for it.

    Raises:
        Exception: what it raises; TimeoutError when the time is over.
    """
    if seconds is None:
        return look()
    outcome: Future[BundlePlace] = Future()

    def ask() -> None:
        try:
            outcome.set_result(look())
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=ask, name="look", daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"the registry has not answered for {seconds:g} s") from None


@contextmanager
def no_collections() -> Iterator[None]:
    """Build a model's many objects, none of them garbage, without the collector's walking over them all the while."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def spare_the_collector(*, is_first: bool) -> None:
    """Keep what stays for good (libraries, models) out of later garbage collections.

    A full collection walks all of it: 0.2 s in which every request waits, several times a minute under load. So it is
    put aside with the first model. What comes later is small beside it, 3 ms, and not for good: put aside as well, the
    remains of every model that has been replaced would stay.
    """
    gc.collect()
    if is_first:
        gc.freeze()
