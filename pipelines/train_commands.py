"""Commands that train: one run, a run for every day that is due, and what brings a finished run to MLflow."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.serve_commands import publish_day
from pipelines.terminal import Sources, console, errors, user_errors
from recsys_mtl.config import load

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what Ray, torchrec and MLflow have to say.")]


@user_errors
def train_command(sources: Sources, verbose: Verbose = False) -> None:
    """Train one model on Ray, track it in MLflow, register its bundle.

    Example: recsys-mtl train pipelines/configs/models/ple.yaml data.path=data/demo cluster.workers=2
    """
    from pipelines.quiet import quiet

    quiet(verbose)
    from pipelines.launch import RunFailedError
    from pipelines.run import TrainRun
    from pipelines.train import train
    from recsys_mtl.tracking import UndeliveredError

    try:
        train(load(TrainRun, sources), console, verbose=verbose)
    except (RunFailedError, UndeliveredError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None


@user_errors
def deliver_command(
    folder: Annotated[Path, typer.Argument(help="A run's folder, as the run named it when it ended.")],
) -> None:
    """Bring a run to MLflow that ended while the tracking server was away.

    Example: recsys-mtl deliver mlruns/unsent/0a1b2c3d4e5f60718293a4b5c6d7e8f9
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.deliver import deliver

    deliver(folder, console)


@user_errors
def daily_command(
    sources: Sources,
    days: Annotated[str, typer.Option(help="Directory or s3://... with base and a prepared day in each YYYY-MM-DD.")],
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day to learn.")] = None,
    series: Annotated[str, typer.Option(help="Name of the series; runs are named SERIES-YYYY-MM-DD.")] = "daily",
    optimizer: Annotated[
        Literal["keep", "reset"], typer.Option(help="Go on with what the optimisers remember, or begin anew each day.")
    ] = "keep",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what all days brought to this file.")] = None,
    pipeline: Annotated[
        list[str] | None,
        typer.Option(help="YAML file, or path.to.field=value, of what is done besides learning; several are merged."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due, do nothing.")] = False,
    verbose: Verbose = False,
) -> None:
    """Learn every day that is due, in order: predict it with the model so far, then train on it.

    With --pipeline, each day is also prepared if it has to be, judged by a policy against the champion, and promoted
    if it holds; features are published, and whom it concerns is notified.

    Example: recsys-mtl daily pipelines/configs/models/mmoe.yaml --days data/days --pipeline daily.yaml
    """
    from pipelines.quiet import quiet

    quiet(verbose)
    from pipelines.daily import Daily, read_config, run
    from pipelines.daily_config import Pipeline
    from pipelines.launch import RunFailedError
    from recsys_mtl.tracking import UndeliveredError

    steps = None if pipeline is None else load(Pipeline, pipeline)
    daily = Daily(read_config(sources, days), days, series=series, optimizer=optimizer, pipeline=steps)
    last = None if until is None else until.date()
    how = {"dry_run": dry_run, "verbose": verbose}
    try:
        run(daily, console, until=last, json_file=json_file, publish=publish_day, **how)
    except (RunFailedError, UndeliveredError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
