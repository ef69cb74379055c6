"""Which code and whose hands a run comes from."""

import getpass
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GIT_SECONDS = 10
SOURCE = "recsys-mtl"
"""Program that MLflow's pages name as a run's source."""


def origin_tags(directory: Path = Path()) -> dict[str, str]:
    """Return the user, the commit checked out at ``directory`` and this library's version, where there are any."""
    tags: dict[str, str] = {}
    if commit := git_commit(directory):
        tags |= {"git_commit": commit, "mlflow.source.git.commit": commit}
    with suppress(PackageNotFoundError):  # run from a source tree that is not installed
        tags["recsys_mtl_version"] = version("recsys-mtl")
    return {**tags, "mlflow.user": user(), "mlflow.source.name": SOURCE, "mlflow.source.type": "LOCAL"}


def user() -> str:
    """Return who runs this, as far as the system knows: the user number of a container often has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def git_commit(directory: Path) -> str | None:
    """Return the commit, with ``-dirty`` where tracked files were changed since; None outside of a repository."""
    command = ["git", "-C", str(directory), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or one without a commit
        return None
    return answer.stdout.strip()
