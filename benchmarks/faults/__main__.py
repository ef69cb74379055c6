"""``python -m benchmarks.faults``: break training runs in every way, and compare each with one that was left alone."""

import random
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.faults.runs import (
    Found,
    Setting,
    Trial,
    look,
    missing_or_repeated,
    seconds_to_recover,
    struck,
    undisturbed,
    weight_difference,
)
from benchmarks.faults.strikes import FAULTS
from benchmarks.results import write_whole
from benchmarks.text import machine, markdown_table, number
from pipelines.quiet import quiet
from pipelines.terminal import user_errors
from recsys_mtl.config import ConfigError

COMMON = (
    "trainer.eval_every=100000",
    "health.enabled=false",
    "cluster.collective_timeout_s=20",
    "registry.name=faults",
)
HEADER = ["what happened", "recovered", "s to recover", "s of the run", "reports lost or twice", "weights", "metrics"]


@dataclass(frozen=True)
class Outcome:
    """A struck run against the undisturbed one."""

    recover_s: float
    whole_s: float
    reports: int
    weights: float
    metrics: float


@user_errors
def main(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    out: Annotated[Path, typer.Option(help="Folder of runs, logs and the report; a new one for each report.")],
    faults: Annotated[str, typer.Option(help="Comma-separated faults.")] = ",".join(FAULTS),
    tries: Annotated[int, typer.Option(min=1, help="Runs of each fault.")] = 5,
    steps: Annotated[int, typer.Option(min=50, help="Steps of a run.")] = 600,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the moments at which faults happen.")] = 0,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="path.to.field=value for every run.")] = None,
) -> None:
    """Write a Markdown report to OUT/report.md and to the terminal."""
    quiet()
    chosen = [name for name in faults.split(",") if name]
    if unknown := [name for name in chosen if name not in FAULTS]:
        raise ConfigError(f"--faults: no fault {name!r}; there are {', '.join(FAULTS)}" for name in unknown)
    own = (
        f"data.path={data}",
        f"trainer.steps={steps}",
        "trainer.epochs=1000",
        f"trainer.checkpoint.every_steps={every}",
    )
    out.mkdir(parents=True, exist_ok=True)
    setting = Setting(out, (*COMMON, *own, *(overrides or ())), seconds=900)
    whole = undisturbed(setting, f"undisturbed-{datetime.now(UTC):%H%M%S}")
    reference = look(setting, whole)
    assert reference is not None
    chance, rows = random.Random(seed), []
    for name in chosen:
        outcomes = [
            attempt(setting, f"{whole.name}-{name}-{number}", name, chance, (whole, reference), steps)
            for number in range(tries)
        ]
        rows.append(row(FAULTS[name].text, outcomes))
        typer.echo(f"{name}: {rows[-1][1]}", err=True)
    about = f"{steps} steps, a checkpoint every {every}; undisturbed {whole.seconds:.0f} s. {machine()}"
    text = f"{about}\n\n{markdown_table(HEADER, rows)}\n"
    write_whole(out / "report.md", text)
    typer.echo(text)


def attempt(
    setting: Setting, name: str, fault: str, chance: random.Random, whole: tuple[Trial, Found], steps: int
) -> Outcome | None:
    """Strike a run once; return nothing if it was lost."""
    trial, (usual, reference) = struck(setting, name, FAULTS[fault], chance, whole[0].seconds), whole
    found = look(setting, trial)
    if found is None:
        return None
    apart = [abs(found.metrics[key] - value) for key, value in reference.metrics.items() if value == value]
    return Outcome(
        recover_s=seconds_to_recover(found, trial),
        whole_s=trial.seconds - usual.seconds,
        reports=missing_or_repeated(found, steps),
        weights=weight_difference(setting, found, reference),
        metrics=max(apart, default=0.0),
    )


def row(text: str, outcomes: list[Outcome | None]) -> list[str]:
    """Sum up what became of a fault's runs: medians of seconds, the worst of everything else."""
    ended = [outcome for outcome in outcomes if outcome is not None]
    if not ended:
        return [text, f"0 of {len(outcomes)}", *["–"] * (len(HEADER) - 2)]
    return [
        text,
        f"{len(ended)} of {len(outcomes)}",
        number(statistics.median(outcome.recover_s for outcome in ended), 1),
        f"+{number(statistics.median(outcome.whole_s for outcome in ended), 1)}",
        str(max(outcome.reports for outcome in ended)),
        f"{max(outcome.weights for outcome in ended):.1e}",
        f"{max(outcome.metrics for outcome in ended):.1e}",
    ]


if __name__ == "__main__":
    typer.run(main)
