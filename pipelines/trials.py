"""One trial of a search: a training run with settings of its own, inside of Ray Tune's process for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from pipelines.monitor import Event
from pipelines.quiet import quiet
from pipelines.run import TrainRun
from pipelines.search_space import Dimension, applied, overrides
from pipelines.train import Finished, train
from recsys_mtl.training.select import Criterion

JUDGED = "judged"
"""The number by which trials are stopped early: the run's own, of its best evaluation so far."""
PARENT, TRIAL = "mlflow.parentRunId", "tune.trial"
"""Tags of a trial's run: the search in MLflow's tree of runs, and the trial's place in it."""
LOG = "log.txt"
"""What the run would have printed, in the trial's folder."""


@dataclass(frozen=True)
class Trials:
    """What all trials of a search have in common; Ray Tune calls it in a process for each of them."""

    run: TrainRun
    space: Mapping[str, Dimension]
    goals: Sequence[Criterion]
    name: str
    parent: str
    """Run of the search in MLflow."""
    verbose: bool = False

    def __call__(self, point: Mapping[str, Any]) -> None:
        """Train, reporting after every evaluation. Where Ray Tune stops a trial early it ends this process."""
        quiet(self.verbose)
        trial = tune.get_context().get_trial_name()
        run = applied(self.run, overrides(self.space, point)).model_copy(update={"run_name": f"{self.name}-{trial}"})
        score = Score(run.trainer.select, self.goals)

        def watch(event: Event) -> None:
            if event.kind == "evaluation":
                tune.report(score.after(event))

        with Path(tune.get_context().get_trial_dir(), LOG).open("a", encoding="utf-8") as file:
            finished = train(
                run,
                Console(file=file, width=160),
                verbose=self.verbose,
                tags={PARENT: self.parent, TRIAL: trial},
                watch=watch,
            )
        tune.report(score.at_the_end(finished))


class Score:
    """What a trial reports: its numbers at the best of its evaluations so far, as the run keeps the best weights."""

    def __init__(self, select: Criterion, goals: Sequence[Criterion]) -> None:
        self.select, self.goals = select, goals
        self.best: dict[str, float] = {}

    def after(self, event: Event) -> dict[str, Any]:
        """Take in an evaluation."""
        value = self.select.value(event.metrics)
        if not self.best or self.select.better(value, self.best[JUDGED]):
            values = {goal_key(i): goal.value(event.metrics) for i, goal in enumerate(self.goals)}
            self.best = {JUDGED: value, **values}
        return {**self.best, "step": event.step}

    def at_the_end(self, finished: Finished) -> dict[str, Any]:
        """Say what the weights that are kept are worth; a run that went on from a checkpoint has it all here, too."""
        goals = {goal_key(i): goal.value(finished.outcome["valid"]) for i, goal in enumerate(self.goals)}
        judged = {JUDGED: finished.outcome["best_value"], **goals}
        return {**judged, "step": finished.outcome["steps"], "run_id": finished.run_id}


def goal_key(index: int) -> str:
    """Name an objective in reports: names of tasks may hold characters that Ray Tune takes for its own."""
    return f"objective_{index}"
