"""``python -m benchmarks.serving.together NAME=BUNDLE ... --out DIR``: does it pay to score waiting requests at once?

Two services of the same bundle take turns, so that what else the machine does meets both.
"""

import shlex
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import write_whole
from benchmarks.serving.__main__ import Row, named
from benchmarks.serving.bodies import request_of
from benchmarks.serving.load import Load, check, load
from benchmarks.serving.servers import ours
from benchmarks.text import machine, markdown_table, number
from pipelines.quiet import quiet
from pipelines.terminal import user_errors

HEADER = [
    "model",
    "candidates",
    "clients",
    "alone/s",
    "together/s",
    "ratio",
    "alone p50, p99 ms",
    "together p50, p99 ms",
]


@user_errors
def main(
    bundles: Annotated[list[str], typer.Argument(help="NAME=DIRECTORY of every bundle.")],
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
    candidates: Annotated[str, typer.Option(help="Comma-separated numbers of candidates.")] = "1,20,200",
    clients: Annotated[str, typer.Option(help="Comma-separated numbers of clients.")] = "1,4,16,64",
    together: Annotated[int, typer.Option(min=1, help="Candidates that are scored at once, at most.")] = 64,
    seconds: Annotated[int, typer.Option(min=1, help="Length of every measurement.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each, of which the median counts.")] = 3,
) -> None:
    """Load both, and write a Markdown report to OUT/report.md and to the terminal."""
    quiet()
    check()
    sizes, numbers = (tuple(map(int, text.split(","))) for text in (candidates, clients))
    rows: list[Row] = []
    for name, bundle in [named(text) for text in bundles]:
        with ours(bundle, 1, score_together=0) as alone, ours(bundle, 1, score_together=together) as at_once:
            for size in sizes:
                body = alone.body(request_of(bundle, size))
                for number_of_clients in numbers:
                    pairs = [
                        [
                            load(server.url, body, clients=number_of_clients, seconds=seconds)
                            for server in (alone, at_once)
                        ]
                        for _ in range(repeats)
                    ]
                    row = [name, str(size), str(number_of_clients), *compared(*zip(*pairs, strict=True))]
                    typer.echo(" ".join(row), err=True)
                    rows.append(row)
    command = shlex.join(["python", "-m", "benchmarks.serving.together", *sys.argv[1:]])
    text = "\n\n".join([machine(), f"    {command}", markdown_table(HEADER, rows)]) + "\n"
    write_whole(out / "report.md", text)
    typer.echo(text)


def compared(alone: tuple[Load, ...], together: tuple[Load, ...]) -> Iterator[str]:
    """Yield the figures of both, medians.

    Raises:
        RuntimeError: requests failed.
    """
    if failed := sum(seen.errors for seen in (*alone, *together)):
        raise RuntimeError(f"{failed} requests failed")
    rates = [statistics.median(seen.rate for seen in loads) for loads in (alone, together)]
    yield from (number(rate, 0) for rate in rates)
    yield number(rates[1] / rates[0], 2)
    for loads in (alone, together):
        times = (statistics.median(times) for times in zip(*((s.p50_ms, s.p99_ms) for s in loads), strict=True))
        yield ", ".join(number(time, 1) for time in times)


if __name__ == "__main__":
    typer.run(main)
