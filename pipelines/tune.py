"""A search over settings on Ray Tune: trials are runs of their own, below one run that sums them up."""

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console

from pipelines.cluster import cluster
from pipelines.display import number
from pipelines.launch import for_workers
from pipelines.resources import require_room, room
from pipelines.run import TrainRun
from pipelines.search_space import TuneConfig, check, first_point, overrides
from pipelines.train import preflight
from pipelines.trials import JUDGED, TRIAL, Trials, goal_key
from pipelines.tune_report import TrialResult, keep, words
from recsys_mtl.config import ConfigError
from recsys_mtl.data.encode import Encoder
from recsys_mtl.storage import absolute, locate
from recsys_mtl.tasks import task_names
from recsys_mtl.tracking import Run, connect, find_unfinished
from recsys_mtl.tracking.series import PARENT, all_runs

STATE = "tune.state"
"""Tag of a trial's run: what became of it."""
NO_END = 1_000_000
"""Evaluations that no run has: trials that are not stopped go on to their own end."""
DRIVER = {"node:__internal_head__": 0.001}
"""What a trial's own process takes: a place on the head node. Its workers take the processors."""
SETTINGS = {
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # how often it writes down where the search stands
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the search here, and does not look like its end
}
"""What Ray Tune reads from the environment."""
FOLDER = "tune"
"""Where searches are kept, beside the checkpoints of runs."""


class Tune:
    """A search; the same name goes on with it."""

    def __init__(self, run: TrainRun, config: TuneConfig, *, name: str) -> None:
        """Check everything that can be checked before anything is started.

        Raises:
            ConfigError: the run, the space or the objectives cannot be used.
        """
        if run.run_name is not None:
            raise ConfigError(["run_name: would be ignored: trials are named by --name and their number"])
        self.run = run.model_copy(update={"registry": run.registry.model_copy(update={"enabled": False})})
        self.config, self.name, self.goals = config, name, config.goals(run)
        self.folder = absolute(str(locate(run.trainer.checkpoint.path) / FOLDER))
        spec = Encoder.load(locate(run.data.path)).spec
        check(run, config, task_names(run.tasks.of(spec.tasks)))
        preflight(run)

    def search(self, console: Console, *, verbose: bool = False) -> tuple[str, list[TrialResult]]:
        """Run the trials that are left; return the id of the search's run, and all trials in the order they began.

        Raises:
            ConfigError: the cluster or the tracking store cannot be used.
        """
        with self._tracked() as tracked, cluster(self.run.cluster, verbose=verbose, dashboard=True):
            require_room(self.run.cluster, lambda text: console.print(text, highlight=False))
            trials = Trials(for_workers(self.run), self.config.space, self.goals, self.name, tracked.run_id, verbose)
            os.environ.update(SETTINGS)
            optuna.logging.set_verbosity(optuna.logging.INFO if verbose else optuna.logging.ERROR)  # it sets its own
            Watch.console, Watch.tune = console, self
            found = self._tuner(trials).fit()
            results = [self.result(found[i]) for i in range(len(found))]
            end_stopped(self.run, tracked.run_id, results)
            keep(tracked, self.goals, results)
            return tracked.run_id, results

    @contextmanager
    def _tracked(self) -> Iterator[Run]:
        """Open the run of the search: the unfinished one of this name, or a new one."""
        params = {"search": self.config.model_dump(mode="json"), "run": self.run.model_dump(mode="json")}
        if (unfinished := find_unfinished(self.run.tracking, self.name)) is not None:
            with Run.resume(self.run.tracking, unfinished, params=params) as tracked:
                yield tracked
        else:
            shutil.rmtree(Path(self.folder) / self.name, ignore_errors=True)  # of a search that has come to its end
            with Run.start(self.run.tracking, self.name, params=params, tags={"model": "search"}) as tracked:
                yield tracked

    def _tuner(self, trials: Trials) -> tune.Tuner:
        """Begin, or go on where Ray Tune has kept this name."""

        def trial(point: dict[str, Any]) -> None:
            trials(point)

        place, trainable = f"{self.folder}/{self.name}", tune.with_resources(trial, DRIVER)
        if tune.Tuner.can_restore(place):
            return tune.Tuner.restore(place, trainable, resume_unfinished=True)
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=self._algorithm(),
                scheduler=self._scheduler(),
                num_samples=self.config.trials,
                max_concurrent_trials=self.concurrent,
                time_budget_s=self.config.time_budget_s,
                trial_name_creator=short_name,
                trial_dirname_creator=short_name,
            ),
            run_config=tune.RunConfig(name=self.name, storage_path=self.folder, verbose=0, callbacks=[Watch()]),
        )

    def result(self, found: tune.Result) -> TrialResult:
        """Say what became of a trial."""
        reported = found.metrics or {}
        ended = "finished" if "run_id" in reported else "stopped early" if JUDGED in reported else "not begun"
        return TrialResult(
            name=Path(found.path).name,
            state="failed" if found.error is not None else ended,
            fields=overrides(self.config.space, found.config or {}),
            values=tuple(reported.get(goal_key(i), math.nan) for i in range(len(self.goals))),
        )

    @property
    def concurrent(self) -> int:
        """Return how many trials run at a time."""
        possible = max(room(self.run.cluster) // self.run.cluster.max_workers, 1)
        return min(self.config.max_concurrent or possible, possible)

    def _algorithm(self) -> OptunaSearch:
        sampler: BaseSampler = (TPESampler if self.config.search == "optuna" else RandomSampler)(seed=self.config.seed)
        return OptunaSearch(
            space={path: dimension.distribution() for path, dimension in self.config.space.items()},
            metric=[goal_key(i) for i in range(len(self.goals))],
            mode=[goal.mode for goal in self.goals],
            points_to_evaluate=[first_point(self.run, self.config.space)],
            sampler=sampler,
        )

    def _scheduler(self) -> TrialScheduler:
        if self.config.asha is None:
            return FIFOScheduler()  # type: ignore[no-untyped-call]
        return AsyncHyperBandScheduler(
            metric=JUDGED,
            mode=self.run.trainer.select.mode,
            max_t=NO_END,
            grace_period=self.config.asha.grace,
            reduction_factor=self.config.asha.reduction,
        )


class Watch(tune.Callback):
    """Tells a person how trials end.

    Ray Tune makes it anew from a file when a search goes on, hence what it needs belongs to the class.
    """

    console: ClassVar[Console]
    tune: ClassVar[Tune]

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002  Ray Tune's
        """Print a line for a trial."""
        self._tell(trials, trial, "finished" if "run_id" in trial.last_result else "stopped early")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002  Ray Tune's
        """Print why a trial has failed."""
        error = trial.get_pickled_error()
        self._tell(trials, trial, f"failed: {error.cause if isinstance(error, RayTaskError) else error}")

    def _tell(self, trials: list[Trial], trial: Trial, state: str) -> None:
        fields = overrides(self.tune.config.space, trial.config)
        values = [trial.last_result.get(goal_key(i)) for i in range(len(self.tune.goals))]
        named = [f"{goal.name} {number(value)}" for goal, value in zip(self.tune.goals, values, strict=True) if value]
        over = sum(other.status in (Trial.TERMINATED, Trial.ERROR) for other in trials)
        place = f"trial {trial.trial_id} ({over} of {self.tune.config.trials})"
        self.console.print(f"{place} {state}: {', '.join([*named, *words(fields)])}", highlight=False, soft_wrap=True)


def short_name(trial: Trial) -> str:
    """Name a trial by its id."""
    return str(trial.trial_id)


def end_stopped(run: TrainRun, parent: str, results: Sequence[TrialResult]) -> None:
    """Say in MLflow of trials that were stopped early that they are over: their processes were ended from outside."""
    states = {result.name: result.state for result in results}
    client = connect(run.tracking.uri)
    for child in all_runs(run.tracking, {PARENT: parent}):
        client.set_tag(child.run_id, STATE, states.get(child.tags.get(TRIAL, ""), "not begun"))
        if child.status == "RUNNING":
            client.set_terminated(child.run_id, "KILLED")
