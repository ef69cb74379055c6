"""What ``recsys-mtl tune`` varies, and how it searches: one typed tree, from a YAML file."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipelines.run import TrainRun
from recsys_mtl.config import Config, ConfigError, merge, validate
from recsys_mtl.training.select import Criterion

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


KINDS = ("choice", "uniform", "log_uniform", "integer")


class Dimension(Config):
    """Values of one field of a run: exactly one of these."""

    choice: Annotated[tuple[Any, ...], Field(min_length=2)] | None = None
    """Any of these values: ``{choice: [4, 8, 16]}``, ``{choice: [[128, 64], [256, 128]]}``."""
    uniform: tuple[float, float] | None = None
    """Any number between two."""
    log_uniform: tuple[float, float] | None = None
    """Any number between two, the same chance for every factor."""
    integer: tuple[int, int] | None = None
    """Any whole number from one to another."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ConfigError([f"expected exactly one of {', '.join(KINDS)}, got {', '.join(given) or 'none'}"])
        if self.choice is None and self.ends[0] >= self.ends[1]:
            raise ConfigError([f"{given[0]}: {self.ends[0]} is not below {self.ends[1]}"])
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ConfigError([f"log_uniform: {self.log_uniform[0]} has no logarithm"])
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return the lowest and the highest value; all of a choice."""
        found: tuple[Any, ...] = next(value for kind in KINDS if (value := getattr(self, kind)) is not None)
        return found

    @property
    def first(self) -> Any:
        """Return the first value as the search knows it."""
        return self.encoded(self.ends[0])

    def distribution(self) -> "BaseDistribution":
        """Say it in Optuna's words; choices as JSON, since it takes none but plain values."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choice is not None:
            return CategoricalDistribution([json.dumps(value) for value in self.choice])
        if self.integer is not None:
            return IntDistribution(*self.integer)
        low, high = self.ends
        return FloatDistribution(low, high, log=self.log_uniform is not None)

    def encoded(self, value: Any) -> Any:
        """Turn a field's value into what the search knows it by; None if it is not among the values."""
        if self.choice is not None:
            texts = [json.dumps(choice) for choice in self.choice]
            return json.dumps(value) if json.dumps(value) in texts else None
        low, high = self.ends
        return value if isinstance(value, int | float) and low <= value <= high else None

    def decoded(self, value: Any) -> Any:
        """Undo `encoded`."""
        return json.loads(value) if self.choice is not None else value


class Halving(Config):
    """Asynchronous successive halving (Li et al., MLSys 2020): the worse trials stop early."""

    grace: PositiveInt = 1
    """Evaluations that every trial gets."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """One trial in so many goes on to so many times the evaluations."""


class TuneConfig(Config):
    """A search over settings of a training run."""

    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """What is varied, by path: ``optim.dense.lr: {log_uniform: [0.0003, 0.01]}``."""
    objectives: tuple[Criterion, ...] = ()
    """What is sought; the run's own ``trainer.select`` where none is named. Several have a Pareto front."""
    trials: PositiveInt = 20
    """Runs in all; the first has the settings of the run itself as far as they lie in the space."""
    search: Literal["optuna", "random"] = "optuna"
    """Learn from the trials before (tree-structured Parzen estimators), or not."""
    asha: Halving | None = Halving()
    """Stop the worse trials early, by ``trainer.select``; null lets all go on to their end. Trials need several
    evaluations for that: see ``trainer.eval_every``."""
    max_concurrent: PositiveInt | None = None
    """Trials at a time; as many as the cluster has room for where it is not given."""
    time_budget_s: PositiveInt | None = None
    """Begin no trial after so many seconds, and end those that run then."""
    seed: NonNegativeInt = 0
    """Of the search. Runs have their own."""

    def goals(self, run: TrainRun) -> tuple[Criterion, ...]:
        """Return what is sought."""
        return self.objectives or (run.trainer.select,)


def overrides(space: Mapping[str, Dimension], point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a point of the search sets."""
    return {path: space[path].decoded(value) for path, value in point.items() if path in space}


def applied(run: TrainRun, fields: Mapping[str, Any]) -> TrainRun:
    """Set fields of a run.

    Raises:
        ConfigError: they do not fit.
    """
    tree: Any = run.model_dump(mode="json")
    for path, value in fields.items():
        for key in reversed(path.split(".")):
            value = {key: value}  # from the leaf to the root
        tree = merge(tree, value)
    return validate(TrainRun, tree)


def first_point(run: TrainRun, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return the run's own settings as a point of the search; of what lies outside of the space, its first value."""
    tree = run.model_dump(mode="json")
    found = {path: dimension.encoded(at(tree, path)) for path, dimension in space.items()}
    return {path: space[path].first if own is None else own for path, own in found.items()}


def check(run: TrainRun, config: TuneConfig, tasks: Sequence[str]) -> None:
    """Try every field at the ends of its values, before anything is started.

    Raises:
        ConfigError: every path or value that the run does not take, and every task that it does not learn.
    """
    problems: list[str] = []
    for path, dimension in config.space.items():
        for value in dimension.ends:
            try:
                applied(run, {path: value})
            except ConfigError as error:
                problems += [f"space.{path}: {value!r}: {problem}" for problem in error.problems]
                break
    for number, goal in enumerate(config.objectives):
        try:
            goal.check(tasks, f"objectives.{number}")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def at(tree: Any, path: str) -> Any:
    """Return what a path leads to; None if it leads nowhere."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
