"""Commands that look at models, and that change which one is served."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal import console, user_errors
from recsys_mtl.config import load, validate


@user_errors
def evaluate_command(
    model: Annotated[
        str, typer.Option(help="models:/NAME@alias, models:/NAME/VERSION, runs:/ID/bundle, a directory or s3://...")
    ],
    data: Annotated[str, typer.Option(help="A prepared data set with the model's specification.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the metrics to this file, too.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server or database; the default of `train`.")] = None,
) -> None:
    """Measure a model on a split, per task, with the rows and positives that each number rests on.

    Example: recsys-mtl evaluate --model models:/recsys-mtl@champion --data data/demo --json metrics.json
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.evaluate import run

    run(model, data, split, console, json_file=json_file, tracking_uri=tracking_uri)


@user_errors
def compare_command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="The baseline, then what to compare with it: a run's id or name, models:/NAME@alias, "
            "models:/NAME/VERSION, runs:/ID/bundle or a bundle's directory.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="A prepared data set; the one that the baseline was trained on by default.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    metric: Annotated[str, typer.Option(help="Of auc, gauc (events), rmse and xauc (amounts).")] = "auc,gauc,rmse,xauc",
    replicates: Annotated[int, typer.Option(help="Draws of users.")] = 1000,
    confidence: Annotated[float, typer.Option(help="Of each interval by itself.")] = 0.95,
    seed: Annotated[int, typer.Option(help="The same seed gives the same intervals.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the comparison to this file, too.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server or database; the default of `train`.")] = None,
    log: Annotated[bool, typer.Option(help="Keep the table among the compared runs' files.")] = True,
) -> None:
    """Say per task whether models differ from a baseline: paired differences with bootstrap intervals over users.

    Example: recsys-mtl compare mmoe-tuesday ple-tuesday --json comparison.json
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.compare import CompareConfig, run

    settings = {"split": split, "metric": metric.split(","), "replicates": replicates, "confidence": confidence}
    config = validate(CompareConfig, settings | {"seed": seed}, where="--")
    run(models, console, config, data=data, json_file=json_file, tracking_uri=tracking_uri, log=log)


@user_errors
def experts_command(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@alias, models:/NAME/VERSION, runs:/ID/bundle, a directory or s3://...")
    ],
    data: Annotated[str, typer.Option(help="A prepared data set with the model's specification.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "valid",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file, too.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server or database; the default of `train`.")] = None,
) -> None:
    """Show how a model's experts are doing: collapse, degradation, underfitting, and conflicts between tasks.

    Example: recsys-mtl experts models:/recsys-mtl@champion --data data/demo
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.experts import run

    run(model, data, split, console, json_file=json_file, tracking_uri=tracking_uri)


@user_errors
def quantise_command(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@alias, models:/NAME/VERSION, runs:/ID/bundle, a directory or s3://...")
    ],
    data: Annotated[str, typer.Option(help="The prepared data set that the model was trained on.")],
    out: Annotated[Path, typer.Option(help="Directory of the new bundle.")],
    split: Annotated[str, typer.Option(help="Where the cost is measured: train, valid or test.")] = "test",
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server or database; the default of `train`.")] = None,
) -> None:
    """Write a bundle whose embedding tables take eight bits a number, and say what that costs each objective.

    Example: recsys-mtl quantise models:/recsys-mtl@champion --data data/demo --out bundles/small
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.quantise import run

    run(model, data, split, out, console, tracking_uri=tracking_uri)


@user_errors
def promote_command(
    model: Annotated[str, typer.Argument(help="Name of the registered model.")],
    version: Annotated[int, typer.Option(min=1, help="Version to make champion.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(help="YAML file of the policy, or path.to.field=value; can be given several times."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Prepared data set to judge on; the one the version was trained on by default.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    force: Annotated[bool, typer.Option("--force", help="Promote without judging.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge and print, change nothing.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the verdict to this file, too.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server or database; the default of `train`.")] = None,
) -> None:
    """Move the champion alias to a version if the policy finds it better on the same rows; exit code 1 if it stays.

    Example: recsys-mtl promote recsys-mtl --version 7 --policy pipelines/configs/policy/default.yaml
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.policy import Policy
    from pipelines.promote import run

    verdict = run(
        model,
        version,
        console,
        policy=load(Policy, policy or []),
        data=data,
        split=split,
        tracking_uri=tracking_uri,
        force=force,
        dry_run=dry_run,
        json_file=json_file,
    )
    if not verdict.promoted:
        raise typer.Exit(1)


@user_errors
def rollback_command(
    model: Annotated[str, typer.Argument(help="Name of the registered model.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say where it would go, change nothing.")] = False,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server or database; the default of `train`.")] = None,
) -> None:
    """Make the version champion that was it before; again and again goes back ever further.

    Example: recsys-mtl rollback recsys-mtl
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.rollback import roll_back

    roll_back(model, console, tracking_uri=tracking_uri, dry_run=dry_run)


@user_errors
def versions_command(
    model: Annotated[str, typer.Argument(help="Name of the registered model.")],
    metric: Annotated[str, typer.Option(help="Of every task: auc, gauc, rmse or xauc, separated by commas.")] = "auc",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the versions to this file, too.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server or database; the default of `train`.")] = None,
) -> None:
    """List a model's versions: aliases, verdicts, metrics by task, and which no other beats in every task.

    Example: recsys-mtl versions recsys-mtl --metric gauc
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.versions import run

    run(model, metric.split(","), console, json_file=json_file, tracking_uri=tracking_uri)
