"""A day's pipeline in MLflow: one run for the day, and under it one for each step, which is done once."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from recsys_mtl.tracking import Run, TrackingConfig, find_unfinished
from recsys_mtl.tracking.series import PARENT, finished_runs

STEP, INPUTS, RESULT = "pipeline.step", "pipeline.inputs", "pipeline.result"
"""Tags of a step's run: its name, the digest of what it was given, and what came of it, as JSON."""
PIPELINE, PIPELINE_DAY = "pipeline.series", "pipeline.day"
"""Tags of a day's run."""

Result = dict[str, Any]


class Steps:
    """The steps of one day."""

    def __init__(self, run: Run, name: str, say: Callable[[str], None]) -> None:
        """``run`` is the day's, and ``name`` what the steps' runs are called by."""
        self.run, self.name, self.say = run, name, say

    def once(self, step: str, inputs: Mapping[str, Any], work: Callable[[Run], Result]) -> Result:
        """Do a step, unless it was done with the same inputs; return what came of it."""
        given = digest(inputs)
        tags = {PARENT: self.run.run_id, STEP: step, INPUTS: given}
        if done := finished_runs(self.run.config, tags):
            self.say(f"{step}: done before")
            found: Result = json.loads(done[-1].tags[RESULT])
            return found
        with Run.start(self.run.config, f"{self.name}-{step}", params=inputs, tags=tags) as child:
            result = work(child)
            child.set_tags({RESULT: json.dumps(result)})
        return result


def digest(inputs: Mapping[str, Any]) -> str:
    """Hash what a step is given."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def day_run(tracking: TrackingConfig, series: str, day: str, params: Mapping[str, Any]) -> Iterator[Run]:
    """Open a day's run, or go on with the one that was stopped, for as long as the context lasts.

    Raises:
        ConfigError: another process is at the day, or the tracking store cannot be used.
    """
    name = f"{series}-{day}-pipeline"
    unfinished = find_unfinished(tracking, name)
    if unfinished is None:
        tags = {PIPELINE: series, PIPELINE_DAY: day}
        with Run.start(tracking, name, params=params, tags=tags) as run:
            yield run
    else:
        with Run.resume(tracking, unfinished, params=params) as run:
            yield run
