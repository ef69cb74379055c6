"""``make bench``: how fast models train, beside other libraries and beside what the machine can do.

Every measurement has a process of its own. Systems that are compared take turns, round by round, and ratios are made
within a round. The same command goes on where it was stopped: what was measured is not measured again.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import write_whole
from benchmarks.training.growth import picture
from benchmarks.training.peers import environment
from benchmarks.training.plan import ALL_PARTS, QUICK, Plan, Scale
from benchmarks.training.report import PICTURE, report
from benchmarks.training.runner import Runner
from pipelines.quiet import quiet
from pipelines.terminal import user_errors
from recsys_mtl.config import ConfigError


@user_errors
def main(
    out: Annotated[Path, typer.Option(help="Folder of results, logs, generated data and the report.")],
    repeats: Annotated[int, typer.Option(min=1, help="Rounds behind each median.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every system.")] = os.cpu_count() or 1,
    parts: Annotated[str, typer.Option(help="Comma-separated parts of the report.")] = ",".join(ALL_PARTS),
    kuairand: Annotated[Path, typer.Option(help="Prepared KuaiRand data; left out if absent.")] = Path("data/kuairand"),
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Compare with other libraries.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Few sizes, one round.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Report what there is, measure nothing.")] = False,
) -> None:
    """Measure, and write a Markdown report to OUT/report.md and to the terminal."""
    quiet()
    plan = Plan(QUICK if quick else Scale(), threads, chosen(parts), peers, low=has_bfloat16())
    runner = Runner(out, kuairand, lambda line: typer.echo(line, err=True), report_only)
    if peers and not report_only:
        environment.require(runner.say)
    before = load()
    runner.run(plan, 1 if quick else repeats)
    command = shlex.join(["python", "-m", "benchmarks.training", *sys.argv[1:]])
    text = report(runner.results, runner.missing, command, threads, f"Load before {before}, after {load()}.")
    write_whole(out / "report.md", text)
    picture(runner.results).savefig(out / PICTURE, dpi=110)
    typer.echo(text)


def chosen(parts: str) -> tuple[str, ...]:
    """Split ``--parts``.

    Raises:
        ConfigError: there is no such part.
    """
    names = tuple(name.strip() for name in parts.split(",") if name.strip())
    if unknown := [name for name in names if name not in ALL_PARTS]:
        raise ConfigError(f"--parts: no part {name!r}; there are {', '.join(ALL_PARTS)}" for name in unknown)
    return names


def has_bfloat16() -> bool:
    """Say whether products of this processor's are faster in bfloat16."""
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    return bool(flags & {"amx_bf16", "avx512_bf16", "bf16"})  # x86, x86, Arm


def load() -> str:
    """Return the load averages: figures of a busy machine mean little."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    typer.run(main)
