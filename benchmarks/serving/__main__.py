"""``python -m benchmarks.serving NAME=BUNDLE ... --out DIR``: the ranking service under load.

Beside it in the same run: the model's eager forward pass, `mlflow models serve` and Ray Serve.
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import write_whole
from benchmarks.serving.bodies import as_ours, ids_of, request_of
from benchmarks.serving.limit import Limit, limits
from benchmarks.serving.load import check, load
from benchmarks.serving.servers import PEERS, Server, ours
from benchmarks.text import machine, markdown_table, number
from pipelines.quiet import quiet
from pipelines.terminal import user_errors
from recsys_mtl.config import ConfigError

HEADER = [
    "model", "candidates", "workers", "clients", "p50 ms", "p99 ms", "requests/s", "candidates/s", "forward ms",
    "p50 / forward", "failed",
]  # fmt: skip
PEER_HEADER = ["server", "p50 ms, one client", "requests/s", "ours / theirs", "ready after s"]
Row = list[str]


@user_errors
def main(
    bundles: Annotated[list[str], typer.Argument(help="NAME=DIRECTORY of every bundle.")],
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
    candidates: Annotated[str, typer.Option(help="Comma-separated numbers of candidates.")] = "1,50,200,1000",
    workers: Annotated[str, typer.Option(help="Comma-separated numbers of worker processes.")] = "1,2",
    clients: Annotated[str, typer.Option(help="Comma-separated numbers of clients.")] = "1,4",
    seconds: Annotated[int, typer.Option(min=1, help="Length of every measurement.")] = 8,
    peers: Annotated[str, typer.Option(help="Comma-separated other servers: mlflow, ray.")] = "mlflow,ray",
    store: Annotated[str | None, typer.Option(help="Feature store: requests of ids alone, too.")] = None,
    compared: Annotated[int, typer.Option(min=1, help="Candidates of a request to the other servers.")] = 200,
) -> None:
    """Measure, and write a Markdown report to OUT/report.md and to the terminal."""
    quiet()
    check()
    found = [named(text) for text in bundles]
    sizes, processes, numbers = (tuple(map(int, text.split(","))) for text in (candidates, workers, clients))
    chosen = [name for name in peers.split(",") if name]
    if unknown := [name for name in chosen if name not in PEERS]:
        raise ConfigError(f"--peers: no server {name!r}; there are {', '.join(PEERS)}" for name in unknown)
    rows: list[Row] = []
    starts: list[str] = []
    for name, bundle in found:
        limit = limits(bundle, sizes)
        for number_of_workers in processes:
            with ours(bundle, number_of_workers) as server:
                starts.append(f"{name}, {number_of_workers} workers: {server.start_s:.1f} s")
                rows += measured(server, (name, bundle), number_of_workers, limit, (numbers, seconds))
            if store is not None:
                with ours(bundle, number_of_workers, store) as server:
                    bare = replace(server, body=lambda request: as_ours(ids_of(request)))
                    rows += measured(bare, (f"{name}, ids alone", bundle), number_of_workers, limit, (numbers, seconds))
    parts = [machine(), f"    {shlex.join(['python', '-m', 'benchmarks.serving', *sys.argv[1:]])}"]
    parts += [markdown_table(HEADER, rows), f"From start to ready: {'; '.join(starts)}."]
    for name, bundle in found if chosen else []:
        table = markdown_table(PEER_HEADER, list(beside(bundle, chosen, compared, seconds)))
        parts += [f"{name}, {compared} candidates, one worker, requests/s at four clients:", table]
    text = "\n\n".join(parts) + "\n"
    write_whole(out / "report.md", text)
    typer.echo(text)


def named(text: str) -> tuple[str, Path]:
    """Split ``NAME=DIRECTORY``.

    Raises:
        ConfigError: it is not of this form, or there is no bundle.
    """
    name, _, directory = text.partition("=")
    if not (Path(directory) / "model.yaml").is_file():
        raise ConfigError([f"bundles: expected NAME=DIRECTORY of a bundle, got {text!r}"])
    return name, Path(directory).resolve()


def measured(
    server: Server,
    bundle: tuple[str, Path],
    workers: int,
    limit: dict[int, Limit],
    amount: tuple[tuple[int, ...], int],
) -> Iterator[Row]:
    """Load the service at every size with every number of clients."""
    for size, forward in limit.items():
        body = server.body(request_of(bundle[1], size))
        for clients in amount[0]:
            seen = load(server.url, body, clients=clients, seconds=amount[1])
            typer.echo(f"{bundle[0]} {size} candidates, {workers} workers, {clients} clients: {seen}", err=True)
            times = [number(seen.p50_ms, 2), number(seen.p99_ms, 2), number(seen.rate, 0), number(seen.rate * size, 0)]
            own = [number(forward.model, 2), number(seen.p50_ms / forward.model, 2) if clients == 1 else "–"]
            yield [bundle[0], str(size), str(workers), str(clients), *times, *own, str(seen.errors)]


def beside(bundle: Path, peers: list[str], size: int, seconds: int) -> Iterator[Row]:
    """Load the service and other servers alike."""
    request, rate = request_of(bundle, size), 0.0
    for title, serve in [("recsys-mtl serve", ours), *(PEERS[peer] for peer in peers)]:
        with serve(bundle, 1) as server:
            one = load(server.url, server.body(request), clients=1, seconds=seconds)
            four = load(server.url, server.body(request), clients=4, seconds=seconds)
            if one.errors or four.errors:
                raise RuntimeError(f"{title}: {one.errors + four.errors} requests failed")
        rate = rate or four.rate
        typer.echo(f"{title}: {one}, {four}", err=True)
        yield [
            title,
            number(one.p50_ms, 2),
            number(four.rate, 1),
            number(rate / four.rate, 1),
            number(server.start_s, 1),
        ]


if __name__ == "__main__":
    typer.run(main)
