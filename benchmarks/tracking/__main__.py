"""``python -m benchmarks.tracking points`` measures, ``... screenshots DATA --out DIR`` shows.

Servers, PostgreSQL among them, are started on loopback and end with the program. PostgreSQL and Chromium are the
system's: ``apt-get install postgresql chromium``.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.tracking.browser import window
from benchmarks.tracking.points import HEADER, measure
from benchmarks.tracking.servers import mlflow_server, postgres
from benchmarks.tracking.views import views
from pipelines.quiet import quiet
from recsys_mtl.tracking import TrackingConfig

CONFIGS = Path(__file__).parents[2] / "pipelines" / "configs"
MODEL = "feed"
app = typer.Typer(help=__doc__, add_completion=False)


@app.command()
def points(
    metrics: Annotated[int, typer.Option(help="Metrics that are logged at every step.")] = 100,
    steps: Annotated[int, typer.Option(help="Steps at which they are logged.")] = 100,
    repeats: Annotated[int, typer.Option(help="Runs on every kind of store.")] = 3,
) -> None:
    """Log points to every kind of store, and print how long that takes."""
    quiet()
    typer.echo(HEADER)
    for timing in measure(metrics, steps, repeats):
        typer.echo(timing.line)


@app.command()
def screenshots(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")],
    task: Annotated[str, typer.Option(help="Event whose charts are shown.")] = "click",
    presets: Annotated[str, typer.Option(help="Models that are compared, separated by commas.")] = "mmoe,home",
    override: Annotated[list[str] | None, typer.Option("--set", help="path.to.field=value for every run.")] = None,
) -> None:
    """Train models, promote the last one, and take pictures of what MLflow shows of them."""
    quiet()
    out.mkdir(parents=True, exist_ok=True)
    with postgres() as database, mlflow_server(out, database) as address:
        config = TrackingConfig(uri=address, experiment=data.name)
        for preset in presets.split(","):
            train(preset, data, out, config, override or [])
        command("promote", MODEL, "--version", str(len(presets.split(","))), "--tracking-uri", address)
        picture(config, task, out)


def train(preset: str, data: Path, out: Path, config: TrackingConfig, overrides: list[str]) -> None:
    """Train a model as a user would."""
    places = [f"data.path={data}", f"tracking.uri={config.uri}", f"tracking.buffer={out / 'unsent'}"]
    names = [f"run_name={preset}", f"registry.name={MODEL}", f"tracking.experiment={config.experiment}"]
    command("train", str(CONFIGS / "models" / f"{preset}.yaml"), *places, *names, *overrides)


def command(*arguments: str) -> None:
    """Run a command of ours; which champion there is afterwards is for the pages to show."""
    done = subprocess.run([sys.executable, "-m", "pipelines.cli", *arguments], env=os.environ, check=False)
    if done.returncode not in {0, 1}:
        raise SystemExit(done.returncode)


def picture(config: TrackingConfig, task: str, out: Path) -> None:
    """Open the pages one after another, and keep a picture of each."""
    with window(config.uri) as shown:
        for view in views(config, MODEL, task):
            shown.show(view)
            shown.save(out / f"{view.name}.png")
            typer.echo(f"{out / view.name}.png")
    if shown.problems:
        raise SystemExit("\n".join(shown.problems))


if __name__ == "__main__":
    app()
