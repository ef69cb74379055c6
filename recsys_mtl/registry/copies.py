"""Copies of bundles on local disk."""

import os
import re
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recsys_mtl.config import ConfigError
from recsys_mtl.registry.places import BundlePlace, describe, refusals
from recsys_mtl.storage import locate
from recsys_mtl.tracking.client import connect


@dataclass(frozen=True)
class Fetched:
    """A bundle on local disk, and where it comes from."""

    path: Path
    place: BundlePlace


def fetch(uri: str, tracking_uri: str, *, into: Path) -> Fetched:
    """Bring a bundle to local disk, once: a later call finds the copy in ``into``. A local directory stays where it is.

    Raises:
        ConfigError: no such model, version, alias, run or directory, or the registry cannot be reached.
    """
    place = describe(uri, tracking_uri)
    return Fetched(copy_of(place, tracking_uri, into=into, uri=uri), place)


def copy_of(place: BundlePlace, tracking_uri: str, *, into: Path, uri: str) -> Path:
    """Bring the bundle that ``uri`` was found to mean to local disk, whatever the address means by now.

    Raises:
        ConfigError: its files are gone, or cannot be reached.
    """
    target = place.copy_in(into)
    if not (place.is_local or (place.final and target.exists())):
        with refusals(uri):
            _download(place, tracking_uri, target)
    return target


def discard(copy: Path) -> None:
    """Delete a copy. It is out of the way at once: half of one would be taken for a whole."""
    doomed = Path(tempfile.mkdtemp(prefix=".partial-", dir=copy.parent))
    try:
        with suppress(FileNotFoundError):  # another process was faster
            copy.rename(doomed / "copy")
    finally:
        shutil.rmtree(doomed, ignore_errors=True)


def discard_old(place: BundlePlace, *, into: Path, most: int, used: Collection[Path]) -> None:
    """Keep the ``most`` copies of a registered model that were used last, ``place`` the latest, and those in use."""
    if place.version is None:
        return
    latest = place.copy_in(into)
    os.utime(latest)
    copies = [path for path in latest.parent.iterdir() if re.match(r"\d+-", path.name)]
    for copy in sorted(copies, key=lambda path: path.stat().st_mtime, reverse=True)[most:]:
        if copy not in used:
            discard(copy)


def _download(place: BundlePlace, tracking_uri: str, target: Path) -> None:
    """Put a copy at ``target``, as a whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        copy = _copy(place, tracking_uri, partial)
        if not copy.is_dir() or not any(copy.iterdir()):
            raise ConfigError([f"{place.location}: there are no files"])
        if target.exists() and not place.final:
            target.rename(partial / "replaced")
        _rename(copy, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy(place: BundlePlace, tracking_uri: str, directory: Path) -> Path:
    if place.is_directory:
        locate(place.location).download(directory / "bundle")
        return directory / "bundle"
    from mlflow.artifacts import download_artifacts

    uri = connect(tracking_uri).tracking_uri
    return Path(download_artifacts(place.location, dst_path=str(directory), tracking_uri=uri))


def _rename(copy: Path, target: Path) -> None:
    try:
        copy.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was faster, with the same files
            raise
