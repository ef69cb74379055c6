"""What a day begins with, and what it is judged by: which of the days before count."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pipelines.daily_plan import DATA_TAG, DAY_TAG, Step, dated
from pipelines.judging_rows import Rows
from pipelines.notes import DECISION
from pipelines.prepare.days import BASE
from pipelines.promote import CHAMPION
from pipelines.rollback import ROLLED_BACK
from pipelines.run import TrainRun
from recsys_mtl.config import ConfigError
from recsys_mtl.data.dataset import STATS
from recsys_mtl.data.day import day_facts
from recsys_mtl.registry import BUNDLE, aliases, describe
from recsys_mtl.storage import Place, locate
from recsys_mtl.tracking.series import FoundRun

FROM_TAG = "daily.from"
"""Tag of a day's run: the address of the model that it began with."""
REFUSED = {"reject", ROLLED_BACK}


def starting_point(
    runs: Sequence[FoundRun], rule: Literal["accepted", "champion", "newest"], champion: str | None
) -> str | None:
    """Return the address of the model that the next day begins with; None where a series has nothing yet.

    Args:
        runs: The series' finished ones, in any order.
        champion: Address of the champion, if there is one.
    """
    learnt = sorted(runs, key=_age)
    if rule == "newest" and learnt:
        return address(learnt[-1])
    if rule == "accepted" and (good := list(sound(learnt))):
        return address(good[-1])
    return champion or (address(learnt[-1]) if learnt and rule != "accepted" else None)


def sound(runs: Sequence[FoundRun]) -> Iterator[FoundRun]:
    """Yield the runs, oldest first, that were not refused, and come from none that was."""
    by_address = {address(run): run for run in runs}
    return (run for run in sorted(runs, key=_age) if not _is_tainted(run, by_address))


def _is_tainted(run: FoundRun, by_address: Mapping[str, FoundRun]) -> bool:
    one: FoundRun | None = run
    while one is not None:
        if one.tags.get(DECISION) in REFUSED:
            return True
        one = by_address.get(one.tags.get(FROM_TAG, ""))
    return False


def address(run: FoundRun) -> str:
    """Return where a run's model is."""
    return f"runs:/{run.run_id}/{BUNDLE}"


def _age(run: FoundRun) -> str:
    """Order runs by their day, the base first."""
    return "" if run.tags[DAY_TAG] == BASE else run.tags[DAY_TAG]


def beginning(
    config: TrainRun, runs: Sequence[FoundRun], rule: Literal["accepted", "champion", "newest"]
) -> str | None:
    """Return the address of the model that the next day of a series goes on from.

    Raises:
        ConfigError: the registry cannot be reached.
    """
    if not runs:
        return None
    uri, name = config.tracking.uri, config.registry.name
    version = aliases(uri, name).get(CHAMPION)
    if version is None:
        return starting_point(runs, rule, None)
    run_id = describe(f"models:/{name}/{version}", uri).run_id
    return starting_point(runs, rule, f"runs:/{run_id}/{BUNDLE}" if run_id else f"models:/{name}/{version}")


def require_held_out(steps: Sequence[Step], share: float | None) -> None:
    """Make sure, before anything starts, that every day that is due can be judged.

    Raises:
        ConfigError: the days that cannot, or a ``share`` of days to come that is nothing.
    """
    if share == 0:
        raise ConfigError(["prepare.hold_out: 0 leaves no rows to judge by"])
    hint = "no rows are held out to judge by: prepare it with --hold-out 0.1"
    if lacking := [step for step in steps if step.name != BASE and step.prepared and not step.held_out]:
        raise ConfigError(f"{step.data}: {hint}" for step in lacking)


def judging_rows(directory: Place, step: Step, runs: Sequence[FoundRun], days: int) -> Rows:
    """Choose the rows that a day's version is judged by: its own held-out ones, and those of good days before.

    A day whose version was refused is not among them: wrong labels would speak for what has learnt them. The base's
    version is judged by its test rows.
    """
    if step.name == BASE:
        return Rows(((step.data, "test"),))
    good = {run.tags[DAY_TAG]: run.tags[DATA_TAG] for run in sound(runs)}
    base = locate(directory) / BASE
    parts: list[tuple[Place, str]] = [(base, "valid")] if (base / STATS).exists() else []
    for day, path in dated(directory).items():
        if str(day) < step.name and good.get(str(day)) == (facts := day_facts(path)).digest and facts.held_out:
            parts.append((path, "valid"))
    return Rows((*parts[max(len(parts) - days + 1, 0) :], (step.data, "valid")))
