"""Memory, files and threads of the service, measured beside everything else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.soak.judgement import Observed
from benchmarks.soak.service import Service

EVERY_SECONDS = 1.0


@contextmanager
def sampled(service: Service, observed: Observed) -> Iterator[None]:
    """Sample the service's processes every second."""
    done = threading.Event()

    def sample() -> None:
        while not done.wait(EVERY_SECONDS):
            observed.samples.append(service.sample())

    thread = threading.Thread(target=sample, name="vitals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
