"""What an address of a bundle means: a version in the registry, a run's files, or a directory."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_mtl.config import ConfigError
from recsys_mtl.storage import locate
from recsys_mtl.storage.stores import is_address
from recsys_mtl.tracking.artifacts import explain, store_errors
from recsys_mtl.tracking.client import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/bundle, s3://BUCKET/DIRECTORY, or a directory"


@dataclass(frozen=True)
class BundlePlace:
    """Which bundle an address means, and where its files are."""

    name: str
    """Of the registered model, or of the run, or of the directory."""
    version: int | None
    """Of the registered model; None outside of the registry."""
    run_id: str | None
    location: str
    """What its files are read from."""
    final: bool
    """Whether a copy of the files stays right: a run that has not finished may still change them."""

    @property
    def is_local(self) -> bool:
        """Whether it is a directory of this machine that the user named."""
        return self.is_directory and not is_address(self.location)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory that the user named, here or in an object store."""
        return self.version is None and self.run_id is None

    @property
    def folder(self) -> str:
        """Name for a copy. The run is part of it because a registry that is set up anew counts from 1 again."""
        origin = self.run_id or hashlib.sha256(self.location.encode()).hexdigest()[:32]
        if self.is_directory:
            return f"directories/{origin}"
        return f"runs/{origin}" if self.version is None else f"{self.name}/{self.version}-{origin}"

    def copy_in(self, directory: Path) -> Path:
        """Name the copy among those in ``directory``; a directory of this machine is used where it is."""
        return Path(self.location) if self.is_local else directory / self.folder


def describe(uri: str, tracking_uri: str) -> BundlePlace:
    """Say which bundle an address means now, without fetching it.

    Raises:
        ConfigError: no such model, version, alias, run or directory, or the registry cannot be reached.
    """
    if found := re.fullmatch(r"models:/([^/@]+)@([^/@]+)", uri):
        return _by_alias(connect(tracking_uri), found[1], found[2])
    if found := re.fullmatch(r"models:/([^/@]+)/(\d+)", uri):
        return _by_number(connect(tracking_uri), found[1], int(found[2]))
    if found := re.fullmatch(r"runs:/(\w+)/.+", uri):
        return _by_run(connect(tracking_uri), uri, found[1])
    if re.match(r"(models|runs):", uri) or not locate(uri).is_directory():
        raise ConfigError([f"{uri}: there is no such bundle; expected {FORMS}"])
    if is_address(uri):
        return BundlePlace(locate(uri).name, None, None, uri, final=False)
    return BundlePlace(Path(uri).resolve().name, None, None, uri, final=True)


@contextmanager
def refusals(place: str) -> Iterator[None]:
    """Turn what the registry or the disk refuses into an error for the user, who is told the place."""
    from mlflow.exceptions import MlflowException

    refused: tuple[type[Exception], ...] = (MlflowException, OSError, *store_errors())
    try:
        yield
    except refused as error:
        raise ConfigError([f"{place}: {explain(error)}"]) from error


def _by_alias(client: "MlflowClient", name: str, alias: str) -> BundlePlace:
    from mlflow.exceptions import MlflowException

    try:
        return _place(client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        missing = _what_there_is(client, name, f"alias {alias!r}")
        raise ConfigError([f"models:/{name}@{alias}: {missing or error}"]) from None


def _by_number(client: "MlflowClient", name: str, version: int) -> BundlePlace:
    from mlflow.exceptions import MlflowException

    try:
        return _place(client.get_model_version(name, str(version)))
    except MlflowException as error:
        missing = _what_there_is(client, name, f"version {version}")
        raise ConfigError([f"models:/{name}/{version}: {missing or error}"]) from None


def _by_run(client: "MlflowClient", uri: str, run_id: str) -> BundlePlace:
    with refusals(uri):
        info = client.get_run(run_id).info
    return BundlePlace(info.run_name or run_id, None, run_id, uri.rstrip("/"), final=info.status == "FINISHED")


def _place(found: "ModelVersion") -> BundlePlace:
    uri = f"models:/{found.name}/{found.version}"
    return BundlePlace(found.name, int(found.version), found.run_id or None, found.source or uri, final=True)


def _what_there_is(client: "MlflowClient", name: str, wanted: str) -> str | None:
    """Say that ``wanted`` does not exist and what does; None where the registry cannot even say that."""
    from mlflow.exceptions import MlflowException

    try:
        models = {model.name: model for model in client.search_registered_models()}
        versions = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
    except MlflowException:
        return None
    if name not in models:
        return f"no registered model {name!r}; there are: {', '.join(models) or 'none, a training run registers one'}"
    held = ", ".join(f"{alias} -> {version}" for alias, version in sorted(models[name].aliases.items()))
    numbers = ", ".join(map(str, versions))
    return f"model {name!r} has no {wanted}; aliases: {held or 'none'}; versions: {numbers or 'none'}"
