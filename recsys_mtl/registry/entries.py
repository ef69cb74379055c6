"""How a run's bundle becomes a version of a registered model."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.registry.alias import set_alias
from recsys_mtl.registry.places import refusals
from recsys_mtl.tracking.client import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

BUNDLE = "bundle"
"""Where a run keeps its bundle among its files."""


class RegistryConfig(Config):
    """Where a finished run's bundle goes."""

    enabled: bool = True
    """Whether it becomes a version at all; it is among the run's files in any case."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$")] = "recsys-mtl"
    """Registered model that the bundle becomes a version of."""
    alias: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "challenger"
    """Alias that moves to the new version."""

    @field_validator("alias")
    @classmethod
    def _is_no_version(cls, alias: str) -> str:
        if re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
            raise ValueError(f"{alias!r} reads like a version, which MLflow refuses; choose a word such as challenger")
        return alias


def register(
    tracking_uri: str, run_id: str, *, registry: RegistryConfig, description: str, tags: Mapping[str, str]
) -> int:
    """Make a run's bundle a version, move the alias to it and return its number; 0 where the registry is off.

    A run that comes again, resumed after a crash, gets the version that it has.

    Raises:
        ConfigError: the run has no bundle, or the registry refuses.
    """
    if not registry.enabled:
        return 0
    client = connect(tracking_uri)
    with refusals(f"registry.name: {registry.name!r}"):
        if not client.list_artifacts(run_id, BUNDLE):
            raise ConfigError([f"run {run_id}: it has no files under {BUNDLE!r} to register"])
        _ensure_model(client, registry.name)
        found = client.search_model_versions(f"name = '{registry.name}' and run_id = '{run_id}'")
        source = f"runs:/{run_id}/{BUNDLE}"
        made = found or [
            client.create_model_version(registry.name, source, run_id, tags=dict(tags), description=description)
        ]
    version = int(made[0].version)
    set_alias(tracking_uri, registry.name, alias=registry.alias, version=version)
    return version


def _ensure_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
