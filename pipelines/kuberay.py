"""``python -m pipelines.kuberay MANIFEST --name JOB --owner UID``: a Kubernetes Job that is a RayJob of KubeRay.

It makes the RayJob and waits for it, and so lasts as long and ends as well. Kubernetes' own rules for Jobs, of a
CronJob above all (one at a time, how many to keep), then hold for Ray's, too.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.kubernetes import Api, RefusedError
from pipelines.terminal import user_errors
from recsys_mtl.config import ConfigError, read_yaml

LONGEST = 47
"""Characters of a RayJob's name: KubeRay makes other names of it, which must fit a label."""
SUFFIX = "-ray"
"""Behind the Job's name: under the RayJob's own name KubeRay makes a Job, and would take ours for it."""
ENDS = {"Complete": 0, "Failed": 1, "ValidationFailed": 1}
"""Exit code by ``jobDeploymentStatus``; what Ray says of the job counts as well."""
LOOK_EVERY_S = 10.0

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@user_errors
def main(
    manifest: Annotated[Path, typer.Argument(help="A RayJob without a name.")],
    name: Annotated[str, typer.Option(help="The Job that this pod belongs to.")],
    owner: Annotated[str, typer.Option(help="Its uid: with it, the RayJob is deleted.")],
) -> None:
    """Make a RayJob, wait for its end, and end alike: 0 if it succeeded, 1 if it failed."""
    rayjob = named(read_yaml(manifest), name, owner)
    raise typer.Exit(run(Api.of_this_pod(), rayjob))


def named(manifest: dict[str, Any], job: str, owner: str) -> dict[str, Any]:
    """Give a RayJob the name of a Job, and to that Job.

    Raises:
        ConfigError: the name is too long for a RayJob.
    """
    name = f"{job}{SUFFIX}"
    if len(name) > LONGEST:
        raise ConfigError([f"--name: {job!r} has {len(job)} characters, up to {LONGEST - len(SUFFIX)} are allowed"])
    belongs = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": owner, "blockOwnerDeletion": False}
    return {**manifest, "metadata": {**manifest["metadata"], "name": name, "ownerReferences": [belongs]}}


def run(api: Api, rayjob: dict[str, Any], *, look_every_s: float = LOOK_EVERY_S) -> int:
    """Make a RayJob unless it is there, as it is for a pod that takes the place of a lost one; return its exit code.

    Raises:
        ConfigError: the API does not take it.
    """
    name = rayjob["metadata"]["name"]
    try:
        is_new = api.create("ray.io/v1", "rayjobs", rayjob)
        say(f"rayjob {name} {'created' if is_new else 'is there already'}")
        last = {}
        for last in states(api, name, look_every_s):
            say(describe(last))
    except RefusedError as error:
        raise ConfigError([f"rayjob {name}: {error}"]) from None
    code = ENDS.get(str(last.get("jobDeploymentStatus")), 1)
    return 1 if last.get("jobStatus") in {"FAILED", "STOPPED"} else code


def states(api: Api, name: str, look_every_s: float) -> Iterator[dict[str, Any]]:
    """Yield a RayJob's status whenever it has changed, the last one when it has ended."""
    seen = None
    while True:
        status = api.read("ray.io/v1", "rayjobs", name).get("status") or {}
        if describe(status) != seen:
            seen = describe(status)
            yield status
        if status.get("jobDeploymentStatus") in ENDS:
            return
        time.sleep(look_every_s)


def describe(status: dict[str, Any]) -> str:
    """Say in one line how it stands with a RayJob."""
    stands = [status.get("jobDeploymentStatus") or "waiting for KubeRay", status.get("jobStatus"), status.get("reason")]
    line = ", ".join(part for part in stands if part)
    return f"{line}: {status['message']}" if status.get("message") else line


def say(line: str) -> None:
    """Print a line at once: it is read as the log of a pod."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    app()
