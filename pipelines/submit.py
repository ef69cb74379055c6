"""The same training run as a Ray job: checked here, trained on the cluster, once."""

import fnmatch
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xxhash
import yaml
from ray.job_submission import JobDetails, JobStatus
from rich.console import Console

import pipelines
import recsys_mtl
from pipelines.jobs import RUN_NAME, STOP_WAIT_S, Jobs, first_line
from pipelines.run import TrainRun
from pipelines.submission import VARIABLE, attempt_of, submission_id
from pipelines.train import default_name, preflight
from recsys_mtl.config import ConfigError
from recsys_mtl.tracking.store import SQLITE, hide_passwords, sqlite_path

CONFIG = "run.yaml"
"""The resolved configuration among the files of a job."""
SETTINGS = "settings"
"""Entry of a job's metadata: a hash of its configuration."""
FAILED = {JobStatus.FAILED, JobStatus.STOPPED}


@dataclass(frozen=True)
class Submitted:
    """A job that trains a run, or has trained it."""

    submission: str
    is_new: bool
    status: JobStatus


def submit(run: TrainRun, address: str, console: Console, *, env: Sequence[str] = (), ship: bool = True) -> Submitted:
    """Hand a run to the cluster, unless it is there already or has been trained.

    Args:
        env: Environment variables that the job gets: a name or pattern of those here, or ``NAME=VALUE``.
        ship: Send this package along; otherwise the cluster has it.

    Raises:
        ConfigError: something that the user can mend; nothing has been submitted.
    """
    run = run.model_copy(update={"run_name": run.run_name or default_name(run)})
    variables = checked(run, env)
    if Path(run.data.path).is_dir():
        preflight(run)
    else:
        console.print(f"data.path: {run.data.path} is not on this machine: the job will check it", highlight=False)
    jobs, tree = Jobs(address), for_job(run).model_dump(mode="json")
    if (there := already(jobs, run, tree)) is not None:
        return there
    submission = submission_id(run.run_name or "", next_attempt(jobs, run))
    variables |= {VARIABLE: submission, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    with files(tree, ship=ship) as folder:
        environment = {"working_dir": str(folder), "env_vars": variables}
        metadata = {RUN_NAME: run.run_name or "", SETTINGS: fingerprint(tree)}
        try:
            jobs.client.submit_job(
                entrypoint=f"python -m pipelines.cli train {CONFIG}",
                submission_id=submission,
                runtime_env=environment,
                metadata=metadata,
            )
        except (RuntimeError, ConnectionError) as error:
            if (there := already(jobs, run, tree)) is not None:  # somebody else was faster
                return there
            raise ConfigError([f"--address: {address} does not take the job: {first_line(error)}"]) from None
    return Submitted(submission, True, JobStatus.PENDING)


def already(jobs: Jobs, run: TrainRun, tree: object) -> Submitted | None:
    """Find the job that trains this run or has trained it; None if there is none, or the last one failed.

    Raises:
        ConfigError: it is that of another run with the same name.
    """
    newest = last_job(jobs, run)
    if newest is None or newest.status in FAILED:
        return None
    if (newest.metadata or {}).get(SETTINGS) != fingerprint(tree):
        known = f"job {newest.submission_id} ({newest.status}) has this name and other settings"
        raise ConfigError([f"run_name: {known}; choose another run_name"])
    return Submitted(newest.submission_id or "", False, JobStatus(newest.status))


def last_job(jobs: Jobs, run: TrainRun) -> JobDetails | None:
    """Return the newest job of a run."""
    found = jobs.of_run(run.run_name or "")
    return found[-1] if found else None


def next_attempt(jobs: Jobs, run: TrainRun) -> int:
    """Number the next job of a run: Ray never takes the id of an old one, not even of a deleted one, safely."""
    newest = last_job(jobs, run)
    return 1 if newest is None else attempt_of(newest.submission_id or "") + 1


def for_job(run: TrainRun) -> TrainRun:
    """Return the run as the job sees it, which joins the cluster that it is on."""
    return run.model_copy(update={"cluster": run.cluster.model_copy(update={"address": "auto"})})


def checked(run: TrainRun, env: Sequence[str]) -> dict[str, str]:
    """Return the job's environment variables.

    Raises:
        ConfigError: every setting that means something on this machine only.
    """
    problems, variables = problems_elsewhere(run), dict[str, str]()
    for wanted in env:
        name, given, value = wanted.partition("=")
        found = {name: value} if given else {n: os.environ[n] for n in fnmatch.filter(os.environ, name)}
        if not found:
            problems.append(f"--env: no environment variable {name} here")
        variables |= found
    if problems:
        raise ConfigError(problems)
    return variables


def problems_elsewhere(run: TrainRun) -> list[str]:
    """List the settings that a job in another directory, on another machine, cannot use."""
    problems = []
    if run.cluster.address not in {"local", "auto"}:
        problems.append("cluster.address: a job runs on the cluster of --address: leave this out")
    shared = "give an absolute path that all nodes reach, or an address in an object store"
    paths = {"data.path": run.data.path}
    if run.trainer.checkpoint.every_steps is not None:
        paths["trainer.checkpoint.path"] = run.trainer.checkpoint.path
    for field, path in paths.items():
        if "://" not in path and not Path(path).is_absolute():
            problems.append(f"{field}: {path!r} is relative, and a job has a directory of its own: {shared}")
    uri = run.tracking.uri
    if uri.startswith(SQLITE) and not sqlite_path(uri).is_absolute():
        server = "give an MLflow server, http://HOST:PORT, or an absolute path that all nodes reach"
        problems.append(
            f"tracking.uri: {hide_passwords(uri)!r} is relative, and a job has a directory of its own: {server}"
        )
    return problems


@contextmanager
def files(tree: object, *, ship: bool) -> Iterator[Path]:
    """Lay out the job's working directory: its configuration, and this package."""
    with tempfile.TemporaryDirectory(prefix="recsys-mtl-job-") as directory:
        folder = Path(directory)
        (folder / CONFIG).write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        for package in (pipelines, recsys_mtl) if ship else ():
            source = Path(package.__path__[0])
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


def fingerprint(tree: object) -> str:
    """Hash a configuration."""
    return xxhash.xxh64_hexdigest(json.dumps(tree, sort_keys=True).encode())
