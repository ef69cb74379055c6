"""``recsys-mtl tune``: a thin front of the search."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal import Sources, console, user_errors
from recsys_mtl.config import load


@user_errors
def tune_command(
    sources: Sources,
    space: Annotated[
        list[str],
        typer.Option(metavar="FILE_OR_FIELD", help="Search: a YAML file, and field=value over it; may come again."),
    ],
    name: Annotated[str, typer.Option(help="Name of the search; one that was stopped goes on under it.")] = "tune",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all trials to this file.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what Ray and Optuna have to say.")] = False,
) -> None:
    """Search settings of a run: trials on Ray Tune, below one run in MLflow; the worse ones stop early.

    Prints the command that trains the best again. Nothing is registered.

    Example: recsys-mtl tune pipelines/configs/models/mmoe.yaml data.path=data/demo cluster.workers=1
    --space pipelines/configs/tune/mmoe.yaml --space trials=8
    """
    from pipelines.quiet import quiet

    quiet(verbose)
    from pipelines.run import TrainRun
    from pipelines.search_space import TuneConfig
    from pipelines.tune import Tune
    from pipelines.tune_report import as_dict, report

    search = Tune(load(TrainRun, sources), load(TuneConfig, space), name=name)
    run_id, results = search.search(console, verbose=verbose)
    if json_file is not None:
        json_file.write_text(json.dumps(as_dict(results, search.goals, run_id), indent=2), encoding="utf-8")
    report(console, sources, search.goals, results)
    console.print(f"compare trials: {search.run.tracking.ui}", highlight=False, soft_wrap=True)
    console.print(f"run_id={run_id}", highlight=False)
    if not any(result.state == "finished" for result in results):
        raise typer.Exit(1)
