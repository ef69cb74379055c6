"""The command line: ``recsys-mtl COMMAND``. Each command is a thin front of a program."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines import job_commands, model_commands, prepare_commands, tune_commands
from pipelines.terminal import Sources, console, errors, user_errors
from recsys_mtl.config import load, validate

app = typer.Typer(
    help="Train multi-task ranking models on Ray, compare them in MLflow, serve their scores.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(prepare_commands.prepare, name="prepare")
app.add_typer(job_commands.job, name="job")

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what Ray, torchrec and MLflow have to say.")]


@app.command("train", no_args_is_help=True)
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


@app.command("deliver", no_args_is_help=True)
@user_errors
def deliver_command(
    folder: Annotated[Path, typer.Argument(help="A run's folder, as the run named it when it ended.")],
) -> None:
    """Bring a run to MLflow that ended while the tracking server was away."""
    from pipelines.quiet import quiet

    quiet()
    from pipelines.deliver import deliver

    deliver(folder, console)


app.command("submit", no_args_is_help=True)(job_commands.submit_command)


@app.command("daily", no_args_is_help=True)
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due, do nothing.")] = False,
    verbose: Verbose = False,
) -> None:
    """Learn every prepared day that is due, in order: predict it with the model so far, then train on it.

    Example: recsys-mtl daily pipelines/configs/models/mmoe.yaml --days data/days
    """
    from pipelines.quiet import quiet

    quiet(verbose)
    from pipelines.daily import Daily, read_config, run
    from pipelines.launch import RunFailedError

    daily = Daily(read_config(sources, days), days, series=series, optimizer=optimizer)
    last = None if until is None else until.date()
    try:
        run(daily, console, until=last, json_file=json_file, dry_run=dry_run, verbose=verbose)
    except RunFailedError as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None


@app.command("plan", no_args_is_help=True)
@user_errors
def plan_command(
    sources: Sources,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the plan to this file, too.")] = None,
    node_gb_per_s: Annotated[float, typer.Option(help="Assumed rate of a GPU's links within a machine.")] = 450.0,
    network_gb_per_s: Annotated[float, typer.Option(help="Assumed rate of a GPU's network link.")] = 50.0,
) -> None:
    """Show which worker would hold which table, its memory, rows and traffic, without starting anything.

    `data.path` may also be a YAML file with the specification of a data set that is not there.
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.plan import Links, run
    from pipelines.run import TrainRun

    rates = {"node_gb_per_s": node_gb_per_s, "network_gb_per_s": network_gb_per_s}
    links = validate(Links, rates, where="--")
    run(load(TrainRun, sources), console, json_file=json_file, links=links)


@app.command("schema")
def schema_command() -> None:
    """Print the JSON schema of a training run's configuration, for editors to complete and check."""
    from pipelines.run import TrainRun

    sys.stdout.write(json.dumps(TrainRun.model_json_schema(), indent=2) + "\n")


app.command("tune", no_args_is_help=True)(tune_commands.tune_command)
app.command("evaluate")(model_commands.evaluate_command)
app.command("compare")(model_commands.compare_command)
app.command("experts")(model_commands.experts_command)
app.command("quantise")(model_commands.quantise_command)
app.command("promote")(model_commands.promote_command)


@app.command("publish-features")
@user_errors
def publish_features_command(
    data: Annotated[
        str, typer.Option(help="Prepared data set: its schema, and the newest values of its training split.")
    ],
    to: Annotated[str, typer.Option(help="parquet:DIRECTORY, parquet:s3://..., or redis://HOST:PORT/DB.")],
    users: Annotated[str | None, typer.Option(help="Parquet file with users instead of the data set's.")] = None,
    items: Annotated[str | None, typer.Option(help="Parquet file with items instead of the data set's.")] = None,
    as_of: Annotated[
        datetime | None, typer.Option(help="When the values were read, in UTC; events after that stay. Default: now.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Leave the rows of all other keys as they are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check, write nothing.")] = False,
) -> None:
    """Put the features of users and items into a store, so that ranking requests can do with ids alone.

    Example: recsys-mtl publish-features --data data/demo --to parquet:data/demo-features
    """
    from serving.store.publish import PublishConfig, run

    files = {"users": users, "items": items}
    run(PublishConfig(data=data, to=to, **files, as_of=as_of, update=update, dry_run=dry_run), console)


@app.command("serve")
@user_errors
def serve_command(
    model: Annotated[str | None, typer.Option(help="models:/NAME@champion, a bundle's directory or s3://...")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port.")] = None,
) -> None:
    """Start the ranking API. Settings come from the environment (RECSYS_MTL_...) and from these options."""
    from serving.run import run

    given = {"model": model, "port": port}
    raise typer.Exit(run(**{name: value for name, value in given.items() if value is not None}))


@app.command("serve-key")
@user_errors
def serve_key_command(
    name: Annotated[str, typer.Argument(help="Who the key is for; appears in logs and metrics.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What it allows: rank, admin, metrics. Default: rank.")
    ] = None,
) -> None:
    """Make an API key for the ranking API. It is shown once; the service keeps the line with its hash.

    Example: recsys-mtl serve-key feed --scope rank
    """
    from serving.keys import new_key

    secret, key = new_key(name, scope or ["rank"])
    console.out(f"key, for the client, not shown again:\n  {secret}", highlight=False)
    console.out(f"line for RECSYS_MTL_API_KEYS or the file of RECSYS_MTL_API_KEYS_FILE:\n  {key.line}", highlight=False)


@app.command("doctor")
def doctor_command() -> None:
    """Check the installation: versions, imports, disk; one line each, ok or what to do."""
    from pipelines import doctor

    raise typer.Exit(doctor.run())


if __name__ == "__main__":
    app()
