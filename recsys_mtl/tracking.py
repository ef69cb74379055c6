"""Runs in MLflow: parameters, metrics by global step, pictures and files, and how a run ends.

Importing MLflow takes about three seconds, which neither ``--help`` nor a worker that logs nothing should wait for: it is
imported where it is first used. This module and ``registry`` are the only ones that do.
"""

import atexit
import json
import logging
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import yaml

from recsys_mtl.config import ConfigError
from recsys_mtl.outbox import Outbox, Point
from recsys_mtl.provenance import code_tags, is_alive, is_gone, owner, signals_raise, was_signalled
from recsys_mtl.tracking_store import TrackingConfig, absolute, artifact_folder, check, redacted, require_reachable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run as Record

__all__ = ["MetricLog", "Run", "RunHandle", "TrackingConfig", "connect", "find_unfinished"]

Status = Literal["FINISHED", "FAILED", "KILLED"]

logger = logging.getLogger(__name__)

QUIET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # migrations of the database, line by line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # usage reports to MLflow's makers
}
"""What MLflow reads from the environment; what a person set there stays."""
VALUE_LENGTH = 6000
PARAMS_PER_REQUEST = 100
OWNER_TAG = "recsys_mtl.owner"
RESUMES_TAG = "recsys_mtl.resumes"


def connect(uri: str, *, create: bool = False) -> "MlflowClient":
    """Return a client of the runs and models at ``uri``; ``create`` allows a SQLite file that does not exist yet.

    Raises:
        ConfigError: no such store, or it cannot be reached.
    """
    uri = absolute(check(uri))
    require_reachable(uri, create=create)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, ImportError) as error:  # a database of another version; no driver for it
        raise ConfigError([f"{redacted(uri)}: {error}"]) from None


class RunHandle:
    """A run by its id, to which any process may add files and tags."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def log_figure(self, figure: "Figure", path: str) -> None:
        """Keep a picture as ``path`` among the run's files."""
        self.client.log_figure(self.run_id, figure, path)

    def log_text(self, text: str, path: str) -> None:
        """Keep a text as ``path`` among the run's files."""
        self.client.log_text(self.run_id, text, path)

    def log_artifacts(self, directory: Path, path: str) -> None:
        """Keep all files of ``directory`` under ``path`` among the run's files."""
        self.client.log_artifacts(self.run_id, str(directory), path)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags; MLflow shows ``mlflow.note.content`` as the run's description."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])


class Run(RunHandle):
    """A run that this process owns: it ends as FINISHED, FAILED or KILLED, whatever happens."""

    @classmethod
    @contextmanager
    def start(
        cls, config: TrackingConfig, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> Iterator[Self]:
        """Begin a run; ``params`` is the resolved configuration as a tree of plain values.

        Raises:
            ConfigError: the tracking store cannot be used.
        """
        client = connect(config.uri, create=True)
        experiment = _experiment(client, config)
        _end_orphans(client, experiment)
        with signals_raise():
            record = client.create_run(experiment, run_name=name, tags={**code_tags(), **tags, OWNER_TAG: owner()})
            run = cls(client, record.info.run_id)
            with run._owned():
                run._log_params(params)
                yield run

    @classmethod
    @contextmanager
    def resume(cls, config: TrackingConfig, run_id: str, *, params: Mapping[str, Any]) -> Iterator[Self]:
        """Go on with an unfinished run. Parameters of a run cannot change: a tag says which are different now.

        Raises:
            ConfigError: another process is still at it, it is finished, or the store cannot be used.
        """
        client = connect(config.uri)
        record = client.get_run(run_id)
        _require_free(record)
        with signals_raise():
            run = cls(client, run_id)
            resumes = int(record.data.tags.get(RESUMES_TAG, 0)) + 1
            run.set_tags({OWNER_TAG: owner(), RESUMES_TAG: str(resumes), **code_tags()})
            with run._owned():
                client.update_run(run_id, status="RUNNING")
                run._log_params(params, already=record.data.params)
                yield run

    @contextmanager
    def _owned(self) -> Iterator[None]:
        # the exit handler is for a run whose block never unwinds, as in a thread that dies with its process
        atexit.register(self._end, "KILLED")
        try:
            yield
        except BaseException as error:
            try:
                self._end(_status_after(error))
            except Exception:
                logger.exception("run %s could not be marked as ended", self.run_id)
            raise
        self._end("FINISHED")

    def _end(self, status: Status) -> None:
        self.client.set_terminated(self.run_id, status)
        atexit.unregister(self._end)

    def _log_params(self, params: Mapping[str, Any], *, already: Mapping[str, str] | None = None) -> None:
        from mlflow.entities import Param

        old = already or {}
        flat = flatten(params)
        new = [Param(key, value) for key, value in flat.items() if key not in old]
        for start in range(0, len(new), PARAMS_PER_REQUEST):
            self.client.log_batch(self.run_id, params=new[start : start + PARAMS_PER_REQUEST])
        if changed := [f"{key}: {old[key]} -> {flat[key]}" for key in flat if old.get(key, flat[key]) != flat[key]]:
            self.set_tags({f"{RESUMES_TAG}.changed": "\n".join(changed)})
        self.log_text(hide_passwords(yaml.safe_dump(dict(params), sort_keys=False)), "config.yaml")


def find_unfinished(config: TrackingConfig, run_name: str) -> str | None:
    """Return the newest run of that name that did not finish."""
    try:
        client = connect(config.uri)
    except ConfigError:
        if not 
    experiment = client.get_experiment_by_name(config.experiment)
