"""The Ray cluster of a run: joined, or started for it and ended with it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipelines.run import ClusterConfig
from recsys_mtl.config import ConfigError


@contextmanager
def cluster(config: ClusterConfig, *, verbose: bool, dashboard: bool = False) -> Iterator[None]:
    """Connect to the cluster, or start one for this run and end it afterwards.

    ``dashboard``: one that is started has Ray's, and with it the state API. Without that, Ray Train does not find out
    that a run's driver was ended from outside, and never gives back the processors that the run had.
    """
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": "INFO" if verbose else "ERROR", "log_to_driver": verbose}
    if config.address == "local":
        cpus = max(os.cpu_count() or 1, config.max_workers * config.cpus_per_worker)
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard}
    else:
        options |= {"address": config.address}
    try:
        with signals_kept():
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError([f"cluster.address: no Ray cluster at {config.address!r}: {error}"]) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def signals_kept() -> Iterator[None]:
    """Put the handler of SIGTERM back: Ray sets one that ends the process, where ours ends the run first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
