"""MLflow's client, quiet, and a run as any process sees it."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_mtl.config import ConfigError
from recsys_mtl.tracking.store import absolute, hide_passwords, problem_of, require_reachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUIET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # migrations of the database, line by line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # usage reports to MLflow's makers
}
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # five seconds; MLflow's own seven take four minutes for each request
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""A server that is away is to be noticed: what has to reach it is tried again by ourselves, for as long as is asked."""
"""What MLflow reads from the environment."""


def connect(uri: str, *, create: bool = False, may_be_away: bool = False) -> "MlflowClient":
    """Return a client of the runs and models at ``uri``.

    ``create`` allows a SQLite file that does not exist yet, ``may_be_away`` a server that does not answer. What a
    person has set of MLflow's own settings in the environment stays.

    Raises:
        ConfigError: no such store, or it cannot be reached.
    """
    if problem := problem_of(uri):
        raise ConfigError([problem])
    uri = absolute(uri)
    require_reachable(uri, create=create, may_be_away=may_be_away)
    for name, value in (QUIET | IMPATIENT).items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, ImportError) as error:  # a database of another version; no driver for it
        raise ConfigError([f"{hide_passwords(uri)}: {error}"]) from None


class RunHandle:
    """A run by its id, to which any process may add files and tags."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def log_text(self, text: str, path: str) -> None:
        """Keep a text as ``path`` among the run's files."""
        self.client.log_text(self.run_id, text, path)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log values that belong to the run as a whole."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self.client.log_batch(self.run_id, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])

    def log_artifacts(self, directory: Path, path: str | None = None) -> None:
        """Keep all files of ``directory`` among the run's files, under ``path`` if it is given."""
        self.client.log_artifacts(self.run_id, str(directory), path)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags; MLflow shows ``mlflow.note.content`` as the run's description."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
