"""Errands: what is brought to a server in the background, where only the newest of a kind counts."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

logger = logging.getLogger(__name__)


class Errands:
    """Runs jobs one after another in a thread of its own, so that training never waits for the server.

    A job that fails is tried again with the next one, unless a newer one of its name has taken its place. Only
    ``close`` waits, and only ``close`` raises.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="errands")
        self._lock = threading.Lock()
        self._waiting: dict[str, Callable[[], None]] = {}
        self._is_running = False

    def put(self, name: str, job: Callable[[], None]) -> None:
        """Do ``job`` soon, instead of the one of that name that still waits."""
        with self._lock:
            self._waiting[name] = job
            if not self._is_running:
                self._is_running = True
                self._thread.submit(self._run_quietly)

    def is_waiting(self, name: str) -> bool:
        """Tell whether a job of that name is still to be done."""
        with self._lock:
            return name in self._waiting

    def _run_quietly(self) -> None:
        try:
            self._run()
        except Exception as error:
            logger.warning("%d tables or tags wait: the tracking server did not take them: %s", self._stop(), error)

    def _stop(self) -> int:
        with self._lock:
            self._is_running = False
            return len(self._waiting)

    def _run(self) -> None:
        while (errand := self._next()) is not None:
            name, job = errand
            job()
            with self._lock:
                if self._waiting.get(name) is job:
                    del self._waiting[name]

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        with self._lock:
            self._is_running = bool(self._waiting)  # under the lock: what is put after this starts the thread again
            return next(iter(self._waiting.items()), None)

    def close(self) -> None:
        """Do everything that is left and wait for it.

        Raises:
            Exception: what a job raised on its last try.
        """
        self._thread.shutdown()
        self._run()
