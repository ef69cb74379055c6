"""``make bench-quality``: train every model of ``models.yaml`` under the same conditions and report what each is worth.

The same command goes on where it was stopped: a run that has finished with the same settings on the same data is not
repeated.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.quality.campaign import Campaign, Choice
from benchmarks.quality.costs import sizes_table
from benchmarks.quality.facts import Facts
from benchmarks.quality.plan import MODELS, Data, load_plan
from benchmarks.quality.report import report
from benchmarks.quality.runs import Runner, train_by_command
from benchmarks.quality.trees import train_trees
from benchmarks.results import write_whole
from pipelines.quiet import quiet
from pipelines.terminal import user_errors


@user_errors
def main(
    data: Annotated[str, typer.Argument(help="Prepared data set: a directory, or an address such as s3://...")],
    out: Annotated[Path, typer.Option(help="Folder of results, logs, MLflow runs and the report.")],
    plan: Annotated[Path, typer.Option(help="What is trained.")] = MODELS,
    models: Annotated[str, typer.Option(help="Comma-separated models; all of the plan by default.")] = "",
    tasks: Annotated[str, typer.Option(help="Comma-separated tasks; those of the plan by default.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each model.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Ray workers of each run.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Five models, one seed, no search for rates.")] = False,
    ablations: Annotated[bool, typer.Option("--ablations", help="Ablations of the plan as well.")] = False,
    trees: Annotated[bool, typer.Option("--trees", help="Boosted trees as well.")] = False,
    sizes: Annotated[bool, typer.Option("--sizes", help="Print the models' sizes and train nothing.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Report what there is, train nothing.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="path.to.field=value for every run.")] = None,
) -> None:
    """Train, and write a Markdown report to OUT/report.md and to the terminal."""
    quiet()
    asked = Choice(seeds, names(models), quick, ablations, names(tasks), tuple(overrides or ()))
    runner = Runner(out, Data.load(data), workers, lambda line: typer.echo(line, err=True), train_by_command)
    campaign = Campaign(load_plan(plan), runner.data, asked, runner, only_find=report_only)
    measured = campaign.sizes()
    if sizes:
        typer.echo(sizes_table(campaign.plan, measured))
        return
    campaign.run()
    if trees:
        train_trees(campaign)
    command = shlex.join(["python", "-m", "benchmarks.quality", *sys.argv[1:]])
    text = report(Facts.of(campaign, measured, command))
    write_whole(out / "report.md", text)
    typer.echo(text)
    if campaign.missing and not report_only:
        raise typer.Exit(1)


def names(text: str) -> tuple[str, ...]:
    """Split an option that takes several names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    typer.run(main)
