"""Handing a run over to MLflow: what its workers have left, the model version, and that it is finished."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.monitor import Event
from pipelines.run import TrainRun
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.registry import RegistryConfig, register
from recsys_mtl.tracking import Ending, MetricLog, UndeliveredError, connect, find_unfinished, may_pass, patiently

Say = Callable[[str], None]


def hand_over(
    run: TrainRun, run_id: str, final: Event, *, description: str, tags: Mapping[str, str], console: Console
) -> int:
    """Deliver what is left of a trained run and register its bundle; return the version.

    Raises:
        UndeliveredError: the server is away for longer than the run waits; everything is on disk.
        ConfigError: the registry refuses.
    """
    kept = {"registry": run.registry.model_dump(), "description": description, "tags": dict(tags)}
    result = {**kept, "metrics": final.metrics, "extra": dict(final.extra)}
    ending = Ending(run_id=run_id, status="FINISHED", tracking=run.tracking.absolute, result=result)
    has_waited = final.extra.get("undelivered") is not None
    try:
        return complete(ending, console, patience_s=0.0 if has_waited else run.tracking.patience_s)
    except Exception as error:
        if not may_pass(error):
            raise
        raise UndeliveredError(ending.save()) from None


def complete(ending: Ending, console: Console, *, patience_s: float) -> int:
    """Tell the server all that it does not know of a run that is over; return its version, 0 if it has none to make."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    def tell() -> int:
        MetricLog(ending.tracking, ending.run_id, say=say).deliver()
        version = 0
        if (result := ending.result) is not None:
            registry = validate(RegistryConfig, result["registry"])
            what = {"description": result["description"], "tags": result["tags"]}
            version = register(ending.tracking.uri, ending.run_id, registry=registry, **what)
        connect(ending.tracking.uri).set_terminated(ending.run_id, ending.status)
        ending.drop()
        return version

    return patiently(tell, seconds=patience_s, say=say)


def left_over(run: TrainRun) -> Ending | None:
    """Find a run of this name that was trained to its end when the server was away."""
    unfinished = find_unfinished(run.tracking, run.run_name or "")
    ending = None if unfinished is None else Ending.load(run.tracking.folder(unfinished))
    return ending if ending is not None and ending.status == "FINISHED" else None


def deliver(folder: Path, console: Console) -> None:
    """Deliver what waits in a run's folder.

    Raises:
        ConfigError: nothing waits there, or the server is still away.
    """
    ending = Ending.load(folder)
    if ending is None:
        raise ConfigError([f"{folder}: no run waits there for its tracking server"])
    here = ending.tracking.model_copy(update={"buffer": str(folder.absolute().parent)})
    ending = ending.model_copy(update={"tracking": here})
    try:
        version = complete(ending, console, patience_s=ending.tracking.patience_s)
    except Exception as error:
        if not may_pass(error):
            raise
        raise ConfigError([f"{folder}: the tracking server still does not answer: {error}"]) from None
    console.print(delivered(ending, version), highlight=False, soft_wrap=True)


def delivered(ending: Ending, version: int) -> str:
    """Say what was delivered."""
    done = f"run {ending.run_id} is delivered: {ending.status}"
    return f"{done}, version {version} of {ending.result['registry']['name']}" if ending.result else done


def final_event(result: Mapping[str, Any]) -> Event:
    """Return the final report that a run's result was made of."""
    return Event("final", metrics=result["metrics"], extra=result["extra"])
