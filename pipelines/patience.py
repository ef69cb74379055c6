"""Patience: how long a run waits for room, for a worker that hangs, and what it says when it waits no longer."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.controller.state import (
    InitializingState,
    ReschedulingState,
    ResizingState,
    RestartingState,
    SchedulingState,
    TrainControllerState,
)

from pipelines.resources import no_room
from pipelines.run import ClusterConfig
from recsys_mtl.config import ConfigError

TRY_S = 20
"""Seconds that Ray waits for a group of workers at a time. Between tries it looks at the nodes anew: what it believes
about them is as old, and without a new look it would wait for a node that is gone."""
PAUSE_S = 0.5
WITHOUT_WORKERS = (InitializingState, SchedulingState, ReschedulingState, RestartingState, ResizingState)
TIMED_OUT = re.compile(r"timed? ?out|HealthCheckTimeout", re.IGNORECASE)


class Patience(ControllerCallback):
    """Ends a run that has waited too long for room; Ray by itself waits for ever."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.waiting_since: float | None = None

    def after_controller_state_update(
        self, previous_state: TrainControllerState, current_state: TrainControllerState
    ) -> None:
        """Look at the clock whenever Ray's controller takes a step."""
        if not isinstance(current_state, WITHOUT_WORKERS):
            self.waiting_since = None
            return
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()
        if type(previous_state) is type(current_state):
            time.sleep(PAUSE_S)  # nothing has changed: Ray's controller would ask again at once, and burn a processor
        if time.monotonic() - self.waiting_since > self.config.start_timeout_s:
            waited = f"Waited {self.config.start_timeout_s} s for it (cluster.start_timeout_s)"
            raise ConfigError([f"{no_room(self.config)}. {waited}"])


@contextmanager
def patience(config: ClusterConfig) -> Iterator[None]:
    """Let Ray Train's own time limits follow ours; what a person set in the environment stays."""
    limits = {
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": min(TRY_S, config.start_timeout_s),
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": config.collective_timeout_s,
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": config.collective_timeout_s,
    }
    mine = {name: str(seconds) for name, seconds in limits.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]


def reason(error: Exception, config: ClusterConfig) -> str:
    """Say in one line why a run ended; which setting it was if somebody waited too long."""
    last = str(error).strip().splitlines()[-1]
    if not TIMED_OUT.search(str(error)):
        return last
    return f"a worker did not answer for {config.collective_timeout_s} s (cluster.collective_timeout_s): {last}"
