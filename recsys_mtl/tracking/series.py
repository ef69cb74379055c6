"""Runs that belong together, found by their tags."""

from collections.abc import Mapping
from dataclasses import dataclass

from recsys_mtl.config import ConfigError
from recsys_mtl.tracking.client import connect
from recsys_mtl.tracking.store import TrackingConfig

PARENT = "mlflow.parentRunId"
"""Tag by which MLflow's pages show a run under another."""


@dataclass(frozen=True)
class FinishedRun:
    """What the tracking store knows of a finished run."""

    run_id: str
    name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """Last values."""


def finished_runs(config: TrackingConfig, tags: Mapping[str, str]) -> list[FinishedRun]:
    """List the finished runs of an experiment that have these tags, oldest first.

    Raises:
        ConfigError: the tracking store cannot be used, or a tag cannot be searched for.
    """
    return _found(config, "attributes.status = 'FINISHED'", tags)


def unfinished_tags(config: TrackingConfig, tags: Mapping[str, str]) -> list[Mapping[str, str]]:
    """Return the tags of the runs of an experiment that have these among them and have not come to their end.

    Raises:
        ConfigError: the tracking store cannot be used, or a tag cannot be searched for.
    """
    return [run.tags for run in _found(config, "attributes.status != 'FINISHED'", tags)]


def _found(config: TrackingConfig, condition: str, tags: Mapping[str, str]) -> list[FinishedRun]:
    if bad := [value for value in tags.values() if '"' in value]:
        raise ConfigError(f"{value!r} has a quotation mark, which MLflow cannot search for" for value in bad)
    client = connect(config.uri, create=True)
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:
        return []
    query = " and ".join([condition, *(f'tags.`{name}` = "{value}"' for name, value in tags.items())])
    found: list[FinishedRun] = []
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], query, order_by=["start_time ASC"], page_token=token)
        found += [FinishedRun(r.info.run_id, r.info.run_name or "", r.data.tags, r.data.metrics) for r in page]
        token = page.token
        if not token:
            return found
