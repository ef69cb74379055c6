"""Commands that look at a configuration and start nothing: ``plan`` and ``schema``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal import Sources, console, user_errors
from recsys_mtl.config import load, validate


@user_errors
def plan_command(
    sources: Sources,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the plan to this file, too.")] = None,
    node_gb_per_s: Annotated[float, typer.Option(help="Assumed rate of a GPU's links within a machine.")] = 450.0,
    network_gb_per_s: Annotated[float, typer.Option(help="Assumed rate of a GPU's network link.")] = 50.0,
) -> None:
    """Show which worker would hold which table, its memory, rows and traffic, without starting anything.

    `data.path` may also be a YAML file with the specification of a data set that is not there.

    Example: recsys-mtl plan pipelines/configs/models/home.yaml data.path=data/demo cluster.workers=4
    """
    from pipelines.quiet import quiet

    quiet()
    from pipelines.plan import Links, run
    from pipelines.run import TrainRun

    rates = {"node_gb_per_s": node_gb_per_s, "network_gb_per_s": network_gb_per_s}
    links = validate(Links, rates, where="--")
    run(load(TrainRun, sources), console, json_file=json_file, links=links)


def schema_command() -> None:
    """Print the JSON schema of a training run's configuration, for editors to complete and check.

    Example: recsys-mtl schema > run.schema.json
    """
    from pipelines.run import TrainRun

    sys.stdout.write(json.dumps(TrainRun.model_json_schema(), indent=2) + "\n")
