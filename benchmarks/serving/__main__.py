"""``python -m benchmarks.serving NAME=BUNDLE ... --out DIR``: the ranking service under load.

Beside it: the model's eager forward pass, `mlflow models serve` and Ray Serve. What is compared takes turns, round by
round, and ratios are made within a round: processors change their speed by a half within minutes.
"""

import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import write_whole
from benchmarks.rounds import Figure
from benchmarks.serving.bodies import Json, as_ours, ids_of, request_of
from benchmarks.serving.limit import forwards
from benchmarks.serving.load import Load, check, load
from benchmarks.serving.servers import PEERS, Server, ours
from benchmarks.text import machine, markdown_table, number
from pipelines.quiet import quiet
from pipelines.terminal import user_errors
from recsys_mtl.config import ConfigError

HEADER = [
    "model", "candidates", "workers", "clients", "p50 ms", "p99 ms", "requests/s", "candidates/s", "forward ms",
    "p50 / forward (range over rounds)", "failed",
]  # fmt: skip
PEER_HEADER = ["server", "p50 ms, one client", "requests/s", "ours / theirs (range over rounds)", "ready after s"]
Row = list[str]


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    clients: tuple[int, ...]
    seconds: int
    rounds: int


@user_errors
def main(
    bundles: Annotated[list[str], typer.Argument(help="NAME=DIRECTORY of every bundle.")],
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
    candidates: Annotated[str, typer.Option(help="Comma-separated numbers of candidates.")] = "1,50,200,1000",
    workers: Annotated[str, typer.Option(help="Comma-separated numbers of worker processes.")] = "1,2",
    clients: Annotated[str, typer.Option(help="Comma-separated numbers of clients.")] = "1,4",
    seconds: Annotated[int, typer.Option(min=1, help="Length of every measurement.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each; medians and ranges are reported.")] = 3,
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
    amount = Amount(numbers, seconds, rounds)
    for name, bundle in found:
        limit = forwards(bundle, sizes)
        for number_of_workers in processes:
            with ours(bundle, number_of_workers) as server:
                starts.append(f"{name}, {number_of_workers} workers: {server.start_s:.1f} s")
                rows += measured(server, (name, bundle), number_of_workers, limit, amount)
            if store is not None:
                with ours(bundle, number_of_workers, store) as server:
                    bare = replace(server, body=lambda request: as_ours(ids_of(request)))
                    rows += measured(bare, (f"{name}, ids alone", bundle), number_of_workers, limit, amount)
    parts = [machine(), f"    {shlex.join(['python', '-m', 'benchmarks.serving', *sys.argv[1:]])}"]
    parts += [markdown_table(HEADER, rows), f"From start to ready: {'; '.join(starts)}."]
    for name, bundle in found if chosen else []:
        table = markdown_table(PEER_HEADER, list(beside(bundle, chosen, compared, amount)))
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
    server: Server, bundle: tuple[str, Path], workers: int, limit: dict[int, Callable[[], float]], amount: Amount
) -> Iterator[Row]:
    """Load the service at every size with every number of clients, in turn with the forward pass."""
    for size, forward in limit.items():
        body = server.body(request_of(bundle[1], size))
        for clients in amount.clients:
            turns = [
                (forward(), load(server.url, body, clients=clients, seconds=amount.seconds))
                for _ in range(amount.rounds)
            ]
            row = [bundle[0], str(size), str(workers), str(clients), *figures(turns, size, is_one=clients == 1)]
            typer.echo(" ".join(row), err=True)
            yield row


def figures(turns: list[tuple[float, Load]], size: int, *, is_one: bool) -> Row:
    """Lay out medians; of one client, how long a request takes beside the forward pass of the same round."""
    limit, seen = Figure(tuple(turn[0] for turn in turns)), [turn[1] for turn in turns]
    p50, p99, rate = (
        statistics.median(values) for values in zip(*((s.p50_ms, s.p99_ms, s.rate) for s in seen), strict=True)
    )
    ratio = Figure(tuple(one.p50_ms / forward for forward, one in turns)).text() if is_one else "–"
    times = [number(p50, 2), number(p99, 2), number(rate, 0), number(rate * size, 0), number(limit.median, 2)]
    return [*times, ratio, str(sum(one.errors for one in seen))]


def beside(bundle: Path, peers: list[str], size: int, amount: Amount) -> Iterator[Row]:
    """Load the service and other servers alike, in turn."""
    request = request_of(bundle, size)
    chosen = {"recsys-mtl serve": ours} | dict(PEERS[peer] for peer in peers)
    with ExitStack() as stack:
        servers = {title: stack.enter_context(serve(bundle, 1)) for title, serve in chosen.items()}
        rounds = [
            {title: one_and_four(title, server, request, amount.seconds) for title, server in servers.items()}
            for _ in range(amount.rounds)
        ]
    for title, server in servers.items():
        one, four = ([turn[title][at] for turn in rounds] for at in (0, 1))
        ahead = Figure(tuple(turn["recsys-mtl serve"][1].rate / turn[title][1].rate for turn in rounds))
        yield [
            title,
            number(statistics.median(seen.p50_ms for seen in one), 2),
            number(statistics.median(seen.rate for seen in four), 1),
            ahead.text(1),
            number(server.start_s, 1),
        ]


def one_and_four(title: str, server: Server, request: Json, seconds: int) -> tuple[Load, Load]:
    """Load a server with one client and with four.

    Raises:
        RuntimeError: requests failed.
    """
    body = server.body(request)
    one, four = (load(server.url, body, clients=clients, seconds=seconds) for clients in (1, 4))
    if one.errors or four.errors:
        raise RuntimeError(f"{title}: {one.errors + four.errors} requests failed")
    typer.echo(f"{title}: {one}, {four}", err=True)
    return one, four


if __name__ == "__main__":
    typer.run(main)
