"""``python -m benchmarks.soak --out DIR``: the ranking service under load while everything around it breaks.

Hot swaps, a broken bundle, a killed worker, a feature store that hangs and goes away, a registry that goes away. The
exit code is 1 where a request failed that need not have, or another promise of the service was broken, but for timing.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import write_whole
from benchmarks.soak.asks import Mixture
from benchmarks.soak.client import Order
from benchmarks.soak.judgement import GROWTH, Observed, Verdict, judge
from benchmarks.soak.records import read_records
from benchmarks.soak.registry import SOUND
from benchmarks.soak.report import as_json, as_markdown
from benchmarks.soak.scene import scene
from benchmarks.soak.timeline import QUICK, Plan, Timeline
from benchmarks.soak.vitals import sampled
from pipelines.quiet import quiet
from pipelines.terminal import user_errors
from recsys_mtl.config import ConfigError


@user_errors
def main(
    out: Annotated[Path, typer.Option(help="New folder, for servers, logs, records and the report.")],
    data: Annotated[
        Path | None, typer.Option(help="Prepared data set, whose features are published; generated if not given.")
    ] = None,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="A bundle of the data set; give two. Trained for a minute if not given.")
    ] = None,
    workers: Annotated[int, typer.Option(min=2, help="Worker processes.")] = 2,
    rate: Annotated[float, typer.Option(min=1, help="Requests per second, of which one worker could do all.")] = 20.0,
    poll: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the registry.")] = 0.5,
    quick: Annotated[bool, typer.Option("--quick", help="The same in about a minute.")] = False,
    steady: Annotated[int | None, typer.Option(min=1, help="Seconds before and after, without any change.")] = None,
    swaps: Annotated[int | None, typer.Option(min=1, help="Hot swaps.")] = None,
    outage: Annotated[int | None, typer.Option(min=1, help="Seconds for which a part is away.")] = None,
    growth: Annotated[float, typer.Option(min=1, help="Bound of memory at the end, relative to before.")] = GROWTH,
    seed: Annotated[int, typer.Option(help="Of the order of requests.")] = 0,
) -> None:
    """Write OUT/report.md and OUT/report.json, and print the report."""
    quiet()
    bundles = checked(out, data, bundle or [])
    plan = replace(QUICK if quick else Plan(), **given(steady=steady, swaps=swaps, outage=outage))
    out.mkdir(parents=True, exist_ok=True)
    observed = Observed(facts={"started": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "load before": load_average()})
    with scene(out.resolve(), data, bundles, workers=workers, poll_seconds=poll, say=say) as found:
        mixture = Mixture(found.bundle, seed=seed, with_events=False)
        order = Order(
            port=found.service.port, bundle=found.bundle, versions=SOUND, rate=rate, seed=seed,
            with_events=found.store is not None, records=out.resolve() / "records.jsonl",
        )  # fmt: skip
        observed.facts |= found.facts
        with loaded(order, out / "client.log", observed), sampled(found.service, observed):
            Timeline(plan, found.service, found.registry, found.store, mixture, observed, say).run()
        left = found.service.program.end()
        observed.verdicts.append(Verdict("SIGTERM ends all processes of the service", f"{len(left)} left", not left))
    observed.facts["load after"] = load_average()
    verdicts = judge(observed, growth=growth)
    command = shlex.join(["python", "-m", "benchmarks.soak", *sys.argv[1:]])
    write_whole(out / "report.json", as_json(observed, verdicts))
    text = as_markdown(observed, verdicts, command)
    write_whole(out / "report.md", text)
    typer.echo(text)
    if not all(verdict.is_kept or verdict.is_timing for verdict in verdicts):
        raise typer.Exit(1)


def checked(out: Path, data: Path | None, bundles: list[Path]) -> list[Path]:
    """Find out what is wrong with the arguments before anything is started.

    Raises:
        ConfigError: all of it.
    """
    problems = [f"--bundle: no bundle in {bundle}: it has no model.yaml" for bundle in bundles if not is_bundle(bundle)]
    if len(bundles) not in (0, len(SOUND)):
        problems.append(f"--bundle: expected {len(SOUND)} or none, got {len(bundles)}")
    if bundles and data is None:
        problems.append("--data: a bundle is given, so give the data set that it was trained on, too")
    if data is not None and not (data / "features").is_dir():
        problems.append(f"--data: {data} is no prepared data set with features/")
    if out.exists() and any(out.iterdir()):
        problems.append(f"--out: {out} is not empty; give a new folder")
    if problems:
        raise ConfigError(problems)
    return [bundle.resolve() for bundle in bundles]


def is_bundle(path: Path) -> bool:
    """Say whether a directory holds a bundle."""
    return (path / "model.yaml").is_file()


def given(**durations: int | None) -> dict[str, int]:
    """Leave out what was not given."""
    return {name: seconds for name, seconds in durations.items() if seconds is not None}


@contextmanager
def loaded(order: Order, log: Path, observed: Observed) -> Iterator[None]:
    """Keep the service under load; read what came of it afterwards."""
    command = [sys.executable, "-m", "benchmarks.soak.client", order.model_dump_json()]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"the load has ended with code {process.returncode}: {log.read_text()[-2000:]}")
    observed.records = read_records(order.records)


def load_average() -> str:
    """Say how busy the machine is: others that use it change every time below."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


def say(text: str) -> None:
    """Show how far it is."""
    typer.echo(f"{datetime.now(UTC):%H:%M:%S} {text}", err=True)


if __name__ == "__main__":
    typer.run(main)
