"""Versions of a registered model, with what is known of them, and notes that are added to one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from recsys_mtl.registry.places import refusals
from recsys_mtl.tracking.client import connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    number: int
    run_id: str | None
    created: datetime
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    description: str
    metrics: Mapping[str, float]
    """Last values of its run; none without a run."""


def versions(tracking_uri: str, name: str) -> list[Version]:
    """List all versions of a registered model, oldest first.

    Raises:
        ConfigError: no such model, or the registry cannot be reached.
    """
    client = connect(tracking_uri)
    with refusals(f"model {name!r}"):
        held = client.get_registered_model(name).aliases
        found = []
        for version in _every(tracking_uri, name):
            metrics = client.get_run(version.run_id).data.metrics if version.run_id else {}
            number = int(version.version)
            aliases = tuple(sorted(alias for alias, of in held.items() if int(of) == number))
            created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
            tags, text = dict(version.tags), version.description or ""
            found.append(Version(number, version.run_id or None, created, aliases, tags, text, metrics))
    return sorted(found, key=lambda version: version.number)


def version_of_run(tracking_uri: str, name: str, run_id: str) -> int | None:
    """Return the version that a run's bundle is.

    Raises:
        ConfigError: the registry cannot be reached.
    """
    with refusals(f"model {name!r}"):
        found = connect(tracking_uri).search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return int(found[0].version) if found else None


def annotate(
    tracking_uri: str, name: str, version: int, *, tags: Mapping[str, str], description: str | None = None
) -> None:
    """Set or replace tags of a version, and its description if one is given.

    Raises:
        ConfigError: no such version, or the registry cannot be reached.
    """
    client = connect(tracking_uri)
    with refusals(f"models:/{name}/{version}"):
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, value)
        if description is not None:
            client.update_model_version(name, str(version), description)


def describe_version(tracking_uri: str, name: str, version: int) -> tuple[str, Mapping[str, str]]:
    """Return a version's description and tags.

    Raises:
        ConfigError: no such version, or the registry cannot be reached.
    """
    with refusals(f"models:/{name}/{version}"):
        found = connect(tracking_uri).get_model_version(name, str(version))
    return found.description or "", dict(found.tags)


def _every(tracking_uri: str, name: str) -> "Iterator[ModelVersion]":
    client, token = connect(tracking_uri), None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return
