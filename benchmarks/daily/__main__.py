"""``python -m benchmarks.daily DAYS --out DIR``: incremental training against training anew, day by day.

Days come from ``recsys-mtl prepare kuairand --days-from``. What is finished is found in OUT's MLflow database, so that
the same command goes on where it was stopped.
"""

import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.daily.arms import ARMS, learn, results
from benchmarks.daily.report import report
from benchmarks.results import write_whole
from pipelines.daily import read_config
from pipelines.quiet import quiet
from pipelines.terminal import user_errors

CONFIGS = Path(__file__).parent.parent.parent / "pipelines" / "configs"


@user_errors
def main(
    days: Annotated[Path, typer.Argument(help="Directory with base and one prepared day in each YYYY-MM-DD.")],
    out: Annotated[Path, typer.Option(help="Folder of the report and of MLflow's database.")],
    model: Annotated[str, typer.Option(help="Model preset.")] = "mmoe",
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day.")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="path.to.field=value for every run.")] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Report what there is, train nothing.")] = False,
) -> None:
    """Train every model of every day, and write OUT/report.md."""
    quiet()
    console = Console(stderr=True, width=160)
    sources = [
        str(CONFIGS / "models" / f"{model}.yaml"),
        str(CONFIGS / "data" / "kuairand.yaml"),
        "trainer.eval_every=null",
    ]
    sources += [f"tracking.uri=sqlite:///{out}/mlflow.db", "registry.name=daily", "health.enabled=false"]
    config = read_config([*sources, *(override or [])], days)
    last = None if until is None else until.date()
    if not report_only:
        for arm in ARMS:
            learn(arm, config, days, last, console)
    command = shlex.join(["python", "-m", "benchmarks.daily", *sys.argv[1:]])
    text = report({arm: results(arm, config, days, last) for arm in ARMS}, command)
    write_whole(out / "report.md", text)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
