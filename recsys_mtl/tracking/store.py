"""Where runs and registered models are kept: which stores there are, and whether this one can be reached.

A wrong address is found here within seconds. MLflow itself would try again for minutes, or for hours on a database.
"""

import re
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from pydantic import Field, NonNegativeFloat, field_validator, model_validator

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.storage import absolute as absolute_place

SQLITE = "sqlite:///"
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Default port of every kind of store that is reached over a network."""
ALLOWED = f"a SQLite file {SQLITE}mlruns/mlflow.db, an MLflow server http://HOST:PORT, or a database postgresql://..."
PATIENCE_SECONDS = 10.0
"""How long a server may refuse connections, as it does while it restarts."""


class UnreachableError(ConfigError):
    """Nobody answers at the address of a server."""


def problem_of(uri: str) -> str | None:
    """Say why MLflow does not write to such a store, and what to use instead; None where it does."""
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme == "file" or (scheme == "" and uri not in {"", "databricks"}):
        problem = "is a folder, and MLflow keeps runs in plain files no longer"
    elif scheme == "sqlite" and (not uri.startswith(SQLITE) or sqlite_path(uri).name in {"", ":memory:"}):
        problem = "names no file that several processes could share"
    elif scheme not in {*PORTS, "sqlite", "databricks"} and uri != "databricks":
        problem = "is no store that MLflow knows"
    else:
        return None
    return f"{hide_passwords(uri)!r} {problem}: use {ALLOWED}"


class TrackingConfig(Config):
    """Where the run is recorded."""

    uri: str = f"{SQLITE}mlruns/mlflow.db"
    """A SQLite file, with the runs' files beside it; the address of an MLflow server; or the URL of a database."""
    experiment: Annotated[str, Field(min_length=1, max_length=500)] = "recsys-mtl"
    """Groups runs that are compared with each other."""
    artifacts: Annotated[str, Field(min_length=1)] | None = None
    """Where an experiment that is new keeps its runs' files: a folder or ``s3://BUCKET/PREFIX``. Beside a SQLite file
    by default; an MLflow server decides by itself."""
    buffer: Annotated[str, Field(min_length=1)] | None = None
    """Folder where metrics and files wait until the server has them, each run's in a folder of its own. Beside a SQLite
    file, or ``mlruns/unsent``, where it is not given. On a cluster it is best one that all machines reach."""
    patience_s: NonNegativeFloat = 300.0
    """How long the end of a run waits for a server that does not answer. Training itself never waits."""

    @field_validator("uri")
    @classmethod
    def _is_a_store(cls, uri: str) -> str:
        if problem := problem_of(uri):
            raise ValueError(problem)
        return uri

    @model_validator(mode="after")
    def _artifacts_are_ours_to_place(self) -> Self:
        if self.artifacts is not None and self.uri.startswith(("http", "databricks")):
            raise ConfigError(["artifacts: an MLflow server places the files of runs itself: leave this out"])
        return self

    @property
    def artifact_folder(self) -> str | None:
        """Where a new experiment keeps files; None where the server decides."""
        return artifact_folder(self.uri) if self.artifacts is None else absolute_place(self.artifacts)

    @property
    def absolute_uri(self) -> str:
        """The same store for processes that work in other directories, as workers do."""
        return absolute(self.uri)

    @property
    def absolute(self) -> "TrackingConfig":
        """The same, for processes that work in other directories."""
        artifacts = None if self.artifacts is None else absolute_place(self.artifacts)
        places = {"uri": self.absolute_uri, "buffer": str(self._buffer.absolute()), "artifacts": artifacts}
        return self.model_copy(update=places)

    @property
    def _buffer(self) -> Path:
        if self.buffer is not None:
            return Path(self.buffer)
        return sqlite_path(self.uri).with_name("unsent") if self.uri.startswith(SQLITE) else Path("mlruns/unsent")

    def folder(self, run_id: str) -> Path:
        """Where a run's metrics and files wait."""
        return self._buffer / run_id

    @property
    def ui(self) -> str:
        """What to open, or to run, to look at the runs."""
        if self.uri.startswith(("http:", "https:")):
            return hide_passwords(self.uri)
        return f"mlflow ui --backend-store-uri {hide_passwords(self.absolute_uri)}"


def absolute(uri: str) -> str:
    """Make the path of a SQLite file absolute; leave other addresses alone."""
    if not uri.startswith(SQLITE):
        return uri
    _, mark, options = uri.partition("?")
    return f"{SQLITE}{sqlite_path(uri).absolute()}{mark}{options}"


def sqlite_path(uri: str) -> Path:
    """Path of a SQLite file."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def artifact_folder(uri: str) -> str | None:
    """Where files of runs go: beside a SQLite file; None where the server decides."""
    return str(sqlite_path(absolute(uri)).with_name("artifacts")) if uri.startswith(SQLITE) else None


def hide_passwords(text: str) -> str:
    """Blank out user and password wherever ``text`` has an address with them."""
    return re.sub(r"(\w://)[^/@\s\"']+@", r"\1***@", text)


def require_reachable(uri: str, *, create: bool, may_be_away: bool) -> None:
    """Look whether the store can be used.

    ``create`` allows a SQLite file that does not exist yet, ``may_be_away`` a server that does not answer.

    Raises:
        ConfigError: no such file, not a database, or no permission.
        UnreachableError: nobody answers at the address.
    """
    if uri.startswith(SQLITE):
        _open_sqlite(sqlite_path(uri), create=create)
    parts = urlsplit(uri)
    if (
        not may_be_away and parts.hostname and parts.scheme not in getproxies()
    ):  # a proxy answers for hosts that cannot be reached directly
        _call(parts, uri)


def _open_sqlite(path: Path, *, create: bool) -> None:
    if not create and not path.exists():
        raise ConfigError(
            [f"{path}: no such tracking database on this machine: a run creates it, workers elsewhere need a server"]
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        raise ConfigError([f"{path}: not usable as a tracking database: {error}"]) from None


def _call(parts: SplitResult, uri: str) -> None:
    address = (parts.hostname, parts.port or PORTS[parts.scheme.partition("+")[0]])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(address, timeout=PATIENCE_SECONDS).close()
        except ConnectionRefusedError as error:
            if time.monotonic() >= deadline:
                raise UnreachableError([f"{hide_passwords(uri)}: nobody answers there: {error.strerror}"]) from None
            time.sleep(0.5)
        except OSError as error:
            raise UnreachableError(
                [f"{hide_passwords(uri)}: nobody answers there: {error.strerror or error}"]
            ) from None
        else:
            return
