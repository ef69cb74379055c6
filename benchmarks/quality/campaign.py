"""All runs of a report: learning rates chosen on validation, then every seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.quality.flops import Size, size_of
from benchmarks.quality.plan import Data, Entry, Job, Plan, Variant, choose, job, variants
from benchmarks.quality.runs import Runner
from benchmarks.results import Result
from recsys_mtl.config import ConfigError
from recsys_mtl.tasks import task_names

ABLATION_SEEDS = 2


@dataclass(frozen=True)
class Choice:
    """What a person asks for on the command line."""

    seeds: int = 3
    models: tuple[str, ...] = ()
    """All of the plan where none is named."""
    quick: bool = False
    ablations: bool = False
    tasks: tuple[str, ...] = ()
    """Those of the plan where none is named."""
    extra: tuple[str, ...] = ()
    """Overrides for every run."""

    def entries(self, plan: Plan) -> tuple[dict[str, Entry], dict[str, Entry]]:
        """Return the models and the ablations to train; with an ablation comes the model it takes its rate from.

        Raises:
            ConfigError: a name that the plan does not have.
        """
        everything = plan.models | (plan.ablations if self.ablations else {})
        default = plan.quick if self.quick and not self.models else tuple(everything)
        named = choose(everything, self.models or default, "--models")
        ablations = {name: entry for name, entry in named.items() if name not in plan.models}
        likes = [entry.like for entry in ablations.values() if entry.like is not None]
        return choose(plan.models, [*(named.keys() & plan.models.keys()), *likes], "ablations"), ablations


@dataclass
class Campaign:
    """Runs what a report needs, or finds what there is of it."""

    plan: Plan
    data: Data
    choice: Choice
    runner: Runner
    only_find: bool = False
    rates: dict[str, float] = field(default_factory=dict)
    """Chosen learning rates by variant."""
    results: list[Result] = field(default_factory=list)
    """Of the chosen learning rates."""
    missing: list[str] = field(default_factory=list)
    """Names of the runs without a result."""

    def __post_init__(self) -> None:
        models, ablations = self.choice.entries(self.plan)
        tasks = self.tasks
        self.models = variants(self.plan, models, self.data, tasks)
        self.ablations = variants(self.plan, ablations, self.data, tasks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that all models learn."""
        return self.choice.tasks or self.plan.tasks

    def sizes(self) -> dict[str, list[Size]]:
        """Build every model and return its size; several where it is one for each task. What cannot run shows here.

        Raises:
            ConfigError: every problem of every model at once.
        """
        found: dict[str, list[Size]] = {}
        problems: list[str] = []
        for variant in [*self.models, *self.ablations]:
            try:
                run = self._job(variant, 0, None).run
                run.trainer.select.check(task_names(run.tasks.of(self.data.spec.tasks)), "trainer.select")
                found.setdefault(variant.model, []).append(size_of(run, self.data.spec))
            except ConfigError as error:
                problems += [f"{variant.name}: {problem}" for problem in error.problems]
        if problems:
            raise ConfigError(problems)
        return found

    def run(self) -> None:
        """Choose the rates, then train every seed of every model, seed by seed so that a part is comparable, too."""
        rates = (None,) if self.choice.quick else self.plan.rates
        for variant in self.models:
            self.rates[variant.name] = self._choose(variant, rates)
        seeds = 1 if self.choice.quick else self.choice.seeds
        for seed in range(seeds):
            for variant in self.models:
                self._keep(variant, seed)
        for variant in self.ablations:
            rate = None if variant.like is None else self.rates[variant.like]
            self.rates[variant.name] = self._job(variant, 0, rate).rate
        for seed in range(min(seeds, ABLATION_SEEDS)):
            for variant in self.ablations:
                self._keep(variant, seed)

    def _choose(self, variant: Variant, rates: Sequence[float | None]) -> float:
        """Return the best rate on validation by the metric that the run keeps its weights by; the test split is out."""
        jobs = [self._job(variant, 0, rate) for rate in rates]
        if len(jobs) == 1:
            return jobs[0].rate
        return best_rate(jobs, [self._do(one) for one in jobs])

    def _keep(self, variant: Variant, seed: int) -> None:
        result = self._do(self._job(variant, seed, self.rates[variant.name]))
        if result is not None:
            self.results.append(result)

    def _do(self, one: Job) -> Result | None:
        result = self.runner.find(one) if self.only_find else self.runner.run(one)
        if result is None and one.name not in self.missing:
            self.missing.append(one.name)
        return result

    def _job(self, variant: Variant, seed: int, rate: float | None) -> Job:
        return job(variant, self.data, seed=seed, rate=rate, extra=self.choice.extra)


def best_rate(jobs: Sequence[Job], results: Sequence[Result | None]) -> float:
    """Return the rate of the run with the best validation score; the first rate where no run has one."""
    best, best_value = jobs[0].rate, math.nan
    for one, result in zip(jobs, results, strict=True):
        value = math.nan if result is None or result["judged"] is None else result["judged"]
        if one.run.trainer.select.better(value, best_value):
            best, best_value = one.rate, value
    return best
