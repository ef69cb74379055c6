"""Judging a version by a policy: champion and candidate on the same rows and the same draws of their users."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from pipelines.compare import Metric, draw
from pipelines.contenders import Contender, Scored, readers_of, score
from pipelines.judging_rows import Rows
from pipelines.latency import latency_findings
from pipelines.policy import CalibrationLimit, HealthLimit, LatencyLimit, MetricLimit, Objective, Policy, Term
from pipelines.rules import Decision, Estimate, Finding, decide, gains, stays_above, stays_within
from pipelines.soundness import health_finding
from recsys_mtl.config import ConfigError
from recsys_mtl.metrics.paired import METRICS, MIN_USERS, Measured, interval
from recsys_mtl.metrics.ranking import Floats
from recsys_mtl.metrics.user_metrics import UserCalibration

CALIBRATION = "calibration"
TOO_FEW = f"no interval from fewer than {MIN_USERS} users with an event, or without"


@dataclass(frozen=True)
class Judged:
    """What the rows say of a candidate."""

    findings: tuple[Finding, ...]
    rows: int
    users: int

    @property
    def decision(self) -> Decision:
        """What follows."""
        return decide(self.findings)


def judge(champion: Contender, candidate: Contender, rows: Rows, policy: Policy, console: Console) -> Judged:
    """Hold a candidate against the champion, rule by rule.

    Raises:
        ConfigError: the rows are not prepared as those of a model, or the policy names what the models do not have.
    """
    rows.require_growth()
    both = readers_of([champion, candidate], rows.newest)
    bench = Bench(score(both, rows.groups, console), policy, console)
    findings = [bench.objective(policy.objective), *bench.lost_tasks()]
    for place, constraint in enumerate(policy.constraints):
        where = f"constraints.{place}"
        if isinstance(constraint, MetricLimit):
            findings += bench.metric(constraint, where)
        elif isinstance(constraint, CalibrationLimit):
            findings += bench.calibration(constraint, where)
        elif isinstance(constraint, HealthLimit):
            findings.append(health_finding(constraint, both, rows.parts[-1], console))
        elif isinstance(constraint, LatencyLimit):
            findings += latency_findings(constraint, both, rows.groups)
    return Judged(tuple(findings), len(bench.scored.users_B), bench.scored.num_users)


class Bench:
    """Two models' metrics on the same draws: the champion's are those of number 0."""

    def __init__(self, scored: Scored, policy: Policy, console: Console) -> None:
        self.scored, self.confidence = scored, policy.confidence
        self.tasks = scored.common_tasks(1)
        limits = [constraint for constraint in policy.constraints if isinstance(constraint, MetricLimit)]
        wanted = sorted({term.metric for term in policy.objective.maximise} | {limit.metric for limit in limits})
        metrics = {
            (number, task, name): metric
            for number in range(2)
            for task in self.tasks
            for name, metric in scored.metrics(number, task, wanted)
        }
        if any(isinstance(constraint, CalibrationLimit) for constraint in policy.constraints):
            events = [(number, task) for number in range(2) for task in self.tasks if scored.kind(task) == "binary"]
            metrics |= {(*key, CALIBRATION): scored.metric(*key, UserCalibration) for key in events}
        self.measured: dict[tuple[int, str, str], Measured] = draw(metrics, scored, policy, console)

    def lost_tasks(self) -> Iterator[Finding]:
        """Complain of a candidate without all of the champion's tasks: whoever asks for their scores gets none."""
        champion, candidate = self.scored.contenders
        if lost := [task for task in champion.tasks if task not in candidate.tasks]:
            counts = float(len(champion.tasks)), float(len(self.tasks))
            note = f"without {', '.join(lost)}"
            yield Finding("tasks", "all of the champion's", *counts, Estimate(counts[1] - counts[0]), False, note=note)

    def objective(self, objective: Objective) -> Finding:
        """Weigh up what is maximised."""
        notes: list[str] = []
        parts = [self._term(term, f"objective.maximise.{n}", notes) for n, term in enumerate(objective.maximise)]
        weights = np.array([term.weight for term in objective.maximise])
        weights /= weights.sum()
        champion, candidate = (float(weights @ [part[number].value for part in parts]) for number in range(2))
        gain_R = weights @ [part[1].replicates_R - part[0].replicates_R for part in parts]
        gain = Estimate(candidate - champion, *interval(gain_R, self.confidence))
        passes, harm = gains(gain, objective.margin)
        name = ", ".join(_named(term.metric, term.task or "mean", term.weight) for term in objective.maximise)
        limit, note = f"> {objective.margin:g}", "; ".join(dict.fromkeys(notes))
        return Finding(name, limit, champion, candidate, gain, passes, harm, note)

    def _term(self, term: Term, where: str, notes: list[str]) -> "tuple[Signed, Signed]":
        """Average both models' metric over the term's tasks."""
        tasks = self._tasks_of(term.metric, term.task, where)
        if few := [task for task in tasks if not self._supported(task, term.metric)]:
            notes.append(f"{', '.join(few)} left out: {TOO_FEW}")
        used = [task for task in tasks if task not in few]
        sign = METRICS[term.metric].sign
        champion, candidate = ([self.measured[number, task, term.metric] for task in used] for number in range(2))
        return Signed.mean(champion, sign), Signed.mean(candidate, sign)

    def metric(self, limit: MetricLimit, where: str) -> Iterator[Finding]:
        """Compare each task's metric with the champion's."""
        sign = METRICS[limit.metric].sign
        for task in self._tasks_of(limit.metric, limit.task, where):
            champion, candidate = (self.measured[number, task, limit.metric] for number in range(2))
            known = self._supported(task, limit.metric)
            ends = interval(sign * (candidate.replicates_R - champion.replicates_R), self.confidence) if known else ()
            estimate = Estimate(sign * (candidate.value - champion.value), *ends)
            passes, harm = stays_above(estimate, limit.not_below, limit.decided_by)
            values, note = (champion.value, candidate.value), "" if known else TOO_FEW
            yield Finding(f"{task} {limit.metric}", f">= {limit.not_below:g}", *values, estimate, passes, harm, note)

    def calibration(self, limit: CalibrationLimit, where: str) -> Iterator[Finding]:
        """Look at each event's calibration."""
        for task in self._tasks_of("auc", limit.task, where):
            champion, candidate = (self.measured[number, task, CALIBRATION] for number in range(2))
            known = self._supported(task, CALIBRATION)
            ends = interval(candidate.replicates_R, self.confidence) if known else ()
            estimate = Estimate(candidate.value, *ends)
            passes, harm = stays_within(estimate, limit.within, champion.value, limit.decided_by)
            values, note = (champion.value, candidate.value), "" if known else TOO_FEW
            bounds = f"{limit.within[0]:g} to {limit.within[1]:g}"
            yield Finding(f"{task} calibration", bounds, *values, estimate, passes, harm, note)

    def _supported(self, task: str, name: str) -> bool:
        return self.measured[1, task, name].metric.support.rarer >= MIN_USERS

    def _tasks_of(self, metric: Metric, task: str | None, where: str) -> list[str]:
        having = [name for name in self.tasks if METRICS[metric].kind == self.scored.kind(name)]
        if task is not None and task not in having:
            problem = f"{where}.task: {task!r} is no task of both models with {metric}; there are: {', '.join(having)}"
            raise ConfigError([f"policy: {problem}"])
        if not having:
            raise ConfigError([f"policy: {where}.metric: the models have no task in common with {metric}"])
        return having if task is None else [task]


@dataclass(frozen=True)
class Signed:
    """A mean of metrics, turned so that more is better; NaN of none."""

    value: float
    replicates_R: Floats

    @classmethod
    def mean(cls, parts: Sequence[Measured], sign: int) -> "Signed":
        """Average."""
        if not parts:
            return cls(np.nan, np.array([np.nan]))
        stacked = np.stack([part.replicates_R for part in parts])
        return cls(sign * float(np.mean([part.value for part in parts])), sign * stacked.mean(0))


def _named(metric: str, task: str, weight: float) -> str:
    return f"{task} {metric}" + ("" if weight == 1 else f" x {weight:g}")
