"""``python -m benchmarks.correlation --out DIR``: the experiment of section 5.1 of the MMoE paper, with PLE beside it.

The same command goes on where it was stopped.
"""

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.correlation.experiment import MODELS, Setting, World, learn
from benchmarks.correlation.report import losses, picture, report
from benchmarks.results import Result, Store, write_whole
from pipelines.quiet import quiet
from pipelines.terminal import user_errors

CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
RATES = (1e-4, 1e-3, 1e-2)
"""The paper's grid."""
SEARCH_CORRELATION, SEARCH_SEED = 0.5, 1000
"""Where rates are chosen, on validation: a seed that no other run has."""


@dataclass(frozen=True)
class Experiment:
    """Every run of the experiment, one after another."""

    store: Store
    rows: int
    epochs: int
    batch_size: int
    only_find: bool = False
    missing: list[str] = field(default_factory=list)

    def choose_rates(self) -> dict[str, float]:
        """Return each model's best rate on validation."""
        rates = {}
        for model in MODELS:
            results = [(rate, self.result(model, SEARCH_CORRELATION, SEARCH_SEED, rate)) for rate in RATES]
            rates[model] = min(results, key=lambda pair: validation_loss(pair[1]))[0]
        return rates

    def results(self, rates: dict[str, float], correlations: Sequence[float], seeds: int) -> Iterator[Result]:
        """Yield all results, seed by seed, so that a part of them is comparable, too."""
        for seed in range(seeds):
            for correlation in correlations:
                for model in MODELS:
                    if (result := self.result(model, correlation, seed, rates[model])) is not None:
                        yield result

    def result(self, model: str, correlation: float, seed: int, rate: float) -> Result | None:
        """Return a run's result, training it if need be."""
        setting = Setting(model, correlation, seed, rate, self.rows, self.epochs, self.batch_size)
        found = self.store.find(setting.name, setting.tree)
        if found is None and not self.only_find:
            found = self.store.save(setting.name, setting.tree, learn(setting, world(self.rows, correlation, seed)))
            typer.echo(f"{setting.name}: {found['seconds']:.1f} s, test {found['test']}", err=True)
        if found is None:
            self.missing.append(setting.name)
        return found


def validation_loss(result: Result | None) -> float:
    """Return the loss to choose by; infinite where a run is missing or went astray."""
    return math.inf if result is None or None in result["valid"] else sum(result["valid"])


@lru_cache(maxsize=1)
def world(rows: int, correlation: float, seed: int) -> World:
    """Make the data that the models of a seed share; one at a time is kept."""
    return World.make(rows, correlation, seed)


@user_errors
def main(
    out: Annotated[Path, typer.Option(help="Folder of results, report and picture.")],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each model at each correlation.")] = 5,
    rows: Annotated[int, typer.Option(min=1000, help="Examples over all splits.")] = 50_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training split.")] = 30,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 256,
    correlations: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(f"{p:g}" for p in CORRELATIONS),
    report_only: Annotated[bool, typer.Option("--report-only", help="Report what there is, train nothing.")] = False,
) -> None:
    """Train, and write OUT/report.md and OUT/correlation.png."""
    quiet()
    torch.set_num_threads(1)  # matrices are too small to share out
    experiment = Experiment(Store(out / "runs"), rows, epochs, batch_size, report_only)
    rates = experiment.choose_rates()
    results = list(experiment.results(rates, [float(p) for p in correlations.split(",")], seeds))
    command = shlex.join(["python", "-m", "benchmarks.correlation", *sys.argv[1:]])
    text = report(results, rates, command, experiment.missing)
    write_whole(out / "report.md", text)
    picture(losses(results)).savefig(out / "correlation.png", dpi=120)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
