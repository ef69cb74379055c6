"""The decision about a day's version: judged like any other, and made again without harm where it was cut short."""

from rich.console import Console

from pipelines.daily_steps import Result
from pipelines.judging_rows import Rows
from pipelines.notes import DECISION, LINE
from pipelines.policy import Policy
from pipelines.promote import CHAMPION, beforehand, judged, opponents, settle
from pipelines.run import TrainRun
from pipelines.verdict import Verdict
from recsys_mtl.config import ConfigError
from recsys_mtl.registry import aliases, describe_version, version_of_run


def decide(config: TrainRun, run_id: str, rows: Rows, policy: Policy, console: Console) -> tuple[Result, Verdict]:
    """Judge the version of a run against the champion and settle it; return what came of it, and the whole verdict.

    Raises:
        ConfigError: the version and the champion cannot be held against each other.
    """
    uri, model = config.tracking.uri, config.registry.name
    version, before = version_of_run(uri, model, run_id), aliases(uri, model).get(CHAMPION)
    if version is None:
        raise ConfigError([f"registry: run {run_id} has no version of {model} any more"])
    verdict = beforehand(model, version, before)
    if verdict is None:
        verdict = _against(model, before or 0, version, rows, policy, uri, console)
    verdict.show(console)
    settle(verdict, uri, console)
    found = {
        "decision": verdict.decision,
        "verdict": verdict.line,
        "version": version,
        "champion": aliases(uri, model).get(CHAMPION),
        "champion_before": before,
        "run_id": run_id,
        "rows": verdict.rows,
    }
    if before == version:  # settled by a process that was stopped before it could say so
        tags = describe_version(uri, model, version)[1]
        found |= {"decision": tags.get(DECISION, "promote"), "verdict": tags.get(LINE, verdict.line)}
    return found, verdict


def _against(
    model: str, champion: int, version: int, rows: Rows, policy: Policy, uri: str, console: Console
) -> Verdict:
    try:
        return judged(model, opponents(model, champion, version, uri), rows, policy, console)
    except ConfigError as error:
        way_out = f"`recsys-mtl promote {model} --version {version} --force` promotes it unjudged"
        raise ConfigError([*error.problems, f"{model} version {version} is not judged: {way_out}"]) from None
