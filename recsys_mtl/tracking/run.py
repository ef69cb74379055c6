"""A run as the process sees it that owns it: from the first parameter to its end."""

import atexit
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import yaml

from recsys_mtl.config import ConfigError
from recsys_mtl.tracking.artifacts import require_usable
from recsys_mtl.tracking.client import RunHandle, connect
from recsys_mtl.tracking.ending import Ending, Status
from recsys_mtl.tracking.ownership import is_another, is_gone, owner, stop_signals_raise, was_stopped
from recsys_mtl.tracking.parameters import flatten
from recsys_mtl.tracking.patience import UndeliveredError, may_pass, patiently
from recsys_mtl.tracking.provenance import origin_tags
from recsys_mtl.tracking.store import TrackingConfig, hide_passwords

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Record

logger = logging.getLogger(__name__)

PARAMS_PER_REQUEST = 100
OWNER = "recsys_mtl.owner"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment by which MLflow opens the pages for trained models, not those for language models."""
RESUMES = "recsys_mtl.resumes"


class Run(RunHandle):
    """A run that this process owns: it ends as FINISHED, FAILED or KILLED, whatever happens.

    A server that is away at the end is waited for; what it then does not know waits on disk.
    """

    def __init__(self, client: "MlflowClient", run_id: str, config: TrackingConfig) -> None:
        super().__init__(client, run_id)
        self.config = config.absolute
        self.patience_s = config.patience_s

    @classmethod
    @contextmanager
    def start(
        cls, config: TrackingConfig, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> Iterator[Self]:
        """Begin a run; ``params`` is the resolved configuration, a tree of plain values.

        Raises:
            ConfigError: the tracking store cannot be used.
        """
        client = connect(config.uri, create=True)
        experiment = _experiment(client, config)
        _end_orphans(client, experiment)
        with stop_signals_raise():
            record = client.create_run(experiment, run_name=name, tags={**origin_tags(), **tags, OWNER: owner()})
            run = cls(client, record.info.run_id, config)
            with run._owned():
                run._log_params(params, already={})
                yield run

    @classmethod
    @contextmanager
    def resume(cls, config: TrackingConfig, run_id: str, *, params: Mapping[str, Any]) -> Iterator[Self]:
        """Go on with an unfinished run. Logged parameters cannot change: a tag says which are different now.

        Raises:
            ConfigError: another process is at it, it is finished, or the tracking store cannot be used.
        """
        client = connect(config.uri)
        record = client.get_run(run_id)
        _require_free(record)
        with stop_signals_raise():
            run = cls(client, run_id, config)
            run._ending("FAILED").drop()  # of before
            with run._owned():
                client.update_run(run_id, status="RUNNING")
                run.set_tags(_resume_tags(record))
                run._log_params(params, already=record.data.params)
                yield run

    @contextmanager
    def _owned(self) -> Iterator[None]:
        # The exit handler is for a block that never unwinds, as in a thread that dies with its process.
        atexit.register(self._record_end_at_last, "KILLED")
        try:
            yield
        except UndeliveredError:  # how it ended waits on disk with the rest
            atexit.unregister(self._record_end_at_last)
            raise
        except BaseException as error:
            self._end_after(error)
            raise
        self._end("FINISHED")

    def _end_after(self, error: BaseException) -> None:
        try:
            self._end(_status_after(error))
        except UndeliveredError as undelivered:
            logger.warning("%s", undelivered)
        except Exception:  # the error that ended the run is the one to be seen
            logger.exception("run %s: its end could not be recorded", self.run_id)

    def _end(self, status: Status) -> None:
        atexit.unregister(self._record_end_at_last)
        atexit.register(
            self._record_end_at_last, status
        )  # another try when the process ends, if the server is away now
        patience_s = 0.0 if status == "KILLED" else self.patience_s  # who stops a process does not wait for long
        try:
            patiently(lambda: self._record_end(status), seconds=patience_s, say=logger.warning)
        except Exception as error:
            if not may_pass(error):
                raise
            raise UndeliveredError(self._ending(status).save()) from error

    def _record_end(self, status: Status) -> None:
        self.client.set_terminated(self.run_id, status)
        self._ending(status).drop()
        atexit.unregister(self._record_end_at_last)

    def _record_end_at_last(self, status: Status) -> None:
        with suppress(Exception):  # there is nobody left to hear of it
            self._record_end(status)

    def _ending(self, status: Status) -> Ending:
        return Ending(run_id=self.run_id, status=status, tracking=self.config)

    def _log_params(self, params: Mapping[str, Any], *, already: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        flat = flatten(params)
        new = [Param(key, value) for key, value in flat.items() if key not in already]
        for start in range(0, len(new), PARAMS_PER_REQUEST):
            self.client.log_batch(self.run_id, params=new[start : start + PARAMS_PER_REQUEST])
        if changed := [key for key in already if flat.get(key, "") != already[key]]:
            lines = [f"{key}: {already[key]} -> {flat.get(key, '(none)')}" for key in changed]
            self.set_tags({f"{RESUMES}.changed": "\n".join(lines)})
        self.log_text(hide_passwords(yaml.safe_dump(dict(params), sort_keys=False)), "config.yaml")


def find_unfinished(config: TrackingConfig, run_name: str) -> str | None:
    """Return the newest run of that name that failed, was killed, or whose process vanished; None if there is none.

    Raises:
        ConfigError: the tracking store cannot be used.
    """
    client = connect(config.uri, create=True)
    if '"' in run_name:
        raise ConfigError([f"run_name: {run_name!r} has a quotation mark, which MLflow cannot search for"])
    unfinished = f"attributes.run_name = \"{run_name}\" and attributes.status != 'FINISHED'"
    found = client.search_runs([_experiment(client, config)], unfinished, order_by=["start_time DESC"], max_results=1)
    return found[0].info.run_id if found else None


def _experiment(client: "MlflowClient", config: TrackingConfig) -> str:
    """Return the experiment's id; create it on first use."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(config.experiment)
    if found is None:
        try:
            client.create_experiment(config.experiment, artifact_location=config.artifact_folder, tags=KIND)
        except MlflowException:  # another run was faster
            if client.get_experiment_by_name(config.experiment) is None:
                raise
        found = client.get_experiment_by_name(config.experiment)
        assert found is not None
    if found.lifecycle_stage != "active":
        raise ConfigError([f"tracking.experiment: {config.experiment!r} was deleted: restore it or choose another"])
    require_usable(config, found.artifact_location)
    return found.experiment_id


def _end_orphans(client: "MlflowClient", experiment: str) -> None:
    """Mark runs as killed whose process on this machine ended without a chance to say so, as when memory ran out."""
    for record in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if OWNER in record.data.tags and is_gone(record.data.tags[OWNER]):
            client.set_terminated(record.info.run_id, "KILLED")


def _require_free(record: "Record") -> None:
    name, holder = record.info.run_name, record.data.tags.get(OWNER)
    if record.info.status == "FINISHED":
        raise ConfigError([f"run_name: run {name!r} is finished and cannot be resumed; choose another name"])
    if record.info.status == "RUNNING" and holder and is_another(holder):
        pid = holder.split()[0]
        raise ConfigError([f"run_name: process {pid} is training run {name!r}; stop it or choose another name"])


def _resume_tags(record: "Record") -> dict[str, str]:
    count = int(record.data.tags.get(RESUMES, 0)) + 1
    return {OWNER: owner(), RESUMES: str(count), **{f"{RESUMES}.{key}": tag for key, tag in origin_tags().items()}}


def _status_after(error: BaseException) -> Status:
    if was_stopped(error):
        return "KILLED"
    return "FINISHED" if isinstance(error, SystemExit) and not error.code else "FAILED"
