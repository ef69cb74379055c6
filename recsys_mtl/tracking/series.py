"""Runs that belong together, found by their tags."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recsys_mtl.config import ConfigError
from recsys_mtl.tracking.client import connect
from recsys_mtl.tracking.store import TrackingConfig


@dataclass(frozen=True)
class FoundRun:
    """What the tracking store knows of a run."""

    run_id: str
    name: str
    status: str
    """``FINISHED``, ``RUNNING``, ``FAILED`` or ``KILLED``."""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """Last values."""


def finished_runs(config: TrackingConfig, tags: Mapping[str, str]) -> list[FoundRun]:
    """List the finished runs of an experiment that have these tags, oldest first.

    Raises:
        ConfigError: the tracking store cannot be used, or a tag cannot be searched for.
    """
    if bad := [value for value in tags.values() if '"' in value]:
        raise ConfigError(f"{value!r} has a quotation mark, which MLflow cannot search for" for value in bad)
    query = [f'tags.`{name}` = "{value}"' for name, value in tags.items()]
    return list(_search(config, ["attributes.status = 'FINISHED'", *query]))


def runs_with_tag(config: TrackingConfig, tag: str, value: str) -> list[FoundRun]:
    """List the runs of an experiment that have a tag, however they stand, oldest first.

    Raises:
        ConfigError: the tracking store cannot be used.
    """
    return list(_search(config, [f'tags.`{tag}` = "{value}"']))


def _search(config: TrackingConfig, conditions: list[str]) -> Iterator[FoundRun]:
    client = connect(config.uri, create=True)
    experiment = client.get_experiment_by_name(config.experiment)
    token: str | None = ""
    while experiment is not None and token is not None:
        page = client.search_runs(
            [experiment.experiment_id], " and ".join(conditions), order_by=["start_time ASC"], page_token=token or None
        )
        for r in page:
            yield FoundRun(r.info.run_id, r.info.run_name or "", r.info.status, r.data.tags, r.data.metrics)
        token = page.token or None
