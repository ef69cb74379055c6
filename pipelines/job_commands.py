"""Commands for runs on a cluster: ``submit``, and ``job status``, ``job follow`` and ``job stop``."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.terminal import Sources, console, errors, user_errors
from recsys_mtl.config import load

if TYPE_CHECKING:
    from pipelines.jobs import Jobs

job = typer.Typer(help="Look after runs that were submitted to a Ray cluster.", no_args_is_help=True)

Address = Annotated[
    str,
    typer.Option(help="The cluster's job server, http://HOST:8265.", envvar="RAY_API_SERVER_ADDRESS"),
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="A submission id, or a run's name for its newest job.")]
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


@user_errors
def submit_command(
    sources: Sources,
    address: Address,
    follow: Annotated[bool, typer.Option("--follow", help="Show the log; end with the job's exit code.")] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(help="Environment variables for the job: NAME or a pattern such as 'AWS_*', or NAME=VALUE."),
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="The cluster has this package: send the configuration only.")
    ] = False,
) -> None:
    """Train on a Ray cluster, as a job that does not need this terminal; a run that is there already is not repeated.

    Example: recsys-mtl submit pipelines/configs/models/ple.yaml data.path=/shared/data run_name=tuesday
    tracking.uri=http://mlflow:5000 --address http://ray-head:8265 --follow
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.jobs import Jobs
    from pipelines.run import TrainRun
    from pipelines.submit import submit

    job = submit(load(TrainRun, sources), address, console, env=env or (), ship=not installed)
    state = "submitted" if job.is_new else f"is already there ({job.status}), nothing was submitted"
    console.print(f"submission_id={job.submission} {state}", highlight=False)
    if follow:
        _follow(Jobs(address), job.submission)
    else:
        console.print(_how_to("follow", job.submission, address), highlight=False, soft_wrap=True)


@job.command("status")
@user_errors
def status_command(name: Job, address: Address) -> None:
    """Say how a job is doing.

    Example: recsys-mtl job status tuesday --address http://ray-head:8265
    """
    from pipelines.jobs import Jobs

    found = Jobs(address).find(name)
    console.print(f"{found.submission_id} {found.status}", highlight=False)
    if found.message:
        console.print(found.message.splitlines()[0], highlight=False, markup=False, soft_wrap=True)


@job.command("follow")
@user_errors
def follow_command(name: Job, address: Address) -> None:
    """Show a job's log from its beginning, and end with the job's exit code.

    Example: recsys-mtl job follow tuesday --address http://ray-head:8265
    """
    from pipelines.jobs import Jobs

    jobs = Jobs(address)
    _follow(jobs, jobs.find(name).submission_id or name)


@job.command("stop")
@user_errors
def stop_command(name: Job, address: Address) -> None:
    """End a job; its run can be submitted again and goes on from its newest checkpoint.

    Example: recsys-mtl job stop tuesday --address http://ray-head:8265
    """
    from pipelines.jobs import Jobs

    jobs = Jobs(address)
    found = jobs.stop(jobs.find(name).submission_id or name)
    console.print(f"{found.submission_id} {found.status}", highlight=False)


def _follow(jobs: "Jobs", submission: str) -> None:
    from pipelines.jobs import exit_code

    try:
        found = jobs.follow(submission, lambda text: console.out(text, end="", highlight=False))
    except KeyboardInterrupt:
        errors.print(f"\njob {submission} goes on", highlight=False)
        for verb in ("follow", "stop"):
            errors.print(_how_to(verb, submission, jobs.address), highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    if found.driver_exit_code is None and found.message:
        console.print(found.message, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{submission} {found.status}", highlight=False)
    raise typer.Exit(exit_code(found))


def _how_to(verb: str, submission: str, address: str) -> str:
    return f"{verb} it: {shlex.join(['recsys-mtl', 'job', verb, submission, '--address', address])}"
