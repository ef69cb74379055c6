"""The demo: every stage once, with the commands that a user would type."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

DATA = Path("data/demo")
ROWS, USERS, ITEMS = 300_000, 5_000, 2_000
"""Few users and items, so that a few minutes show each of them often enough to learn something about it."""
MODEL = "demo"
PRESET = Path(__file__).parent / "configs" / "models" / "home.yaml"
START_TIMEOUT_S = 120
CANDIDATES = 8
KEPT = 1
"""Exit code of ``promote`` where the champion stays: a second demo's model is no better than the first one's."""


def main() -> None:
    """Run the demo in the current directory."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    started = time.perf_counter()
    world = ("--rows", str(ROWS), "--users", str(USERS), "--items", str(ITEMS))
    command(console, "prepare", "synthetic", "--out", str(DATA), *world)
    output = command(
        console, "train", str(PRESET), f"data.path={DATA}", "cluster.workers=2", f"registry.name={MODEL}",
        "trainer.batch_size=1024", "trainer.epochs=3", "optim.dense.lr=0.002",
    )  # fmt: skip
    version = output.split(f"registered {MODEL} version ")[1].split()[0]
    command(console, "promote", MODEL, "--version", version, accepted=(0, KEPT))
    with server(console) as address:
        show_ranking(console, rank(address, example_request()))
    from recsys_mtl.tracking import TrackingConfig

    console.print(f"\ndone in {time.perf_counter() - started:.0f} s. Registered: {MODEL} version {version}")
    console.print(
        f"Compare runs:  {Path(sys.executable).parent}/{TrackingConfig().ui}", soft_wrap=True, highlight=False
    )


def command(console: Console, *arguments: str, accepted: tuple[int, ...] = (0,)) -> str:
    """Run a command of ours as a user would, show what it prints and return it."""
    console.print(f"\n$ recsys-mtl {' '.join(arguments)}", style="bold", highlight=False, soft_wrap=True)
    with tempfile.TemporaryFile("w+") as copy:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            copy.write(line)
        if process.wait() not in accepted:
            raise SystemExit(process.returncode)
        copy.seek(0)
        return copy.read()


@contextmanager
def server(console: Console) -> Iterator[str]:
    """Serve the champion on a free port of loopback, for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"models:/{MODEL}@champion"
    console.print(f"\n$ recsys-mtl serve --model {uri} --port {port}", style="bold", highlight=False)
    process = subprocess.Popen([sys.executable, "-m", "pipelines.cli", "serve", "--model", uri, "--port", str(port)])
    try:
        yield wait_until_ready(process, f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def wait_until_ready(process: subprocess.Popen[bytes], address: str) -> str:
    """Wait for the server to be ready to rank; return its address."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):
                return address
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.3)
    raise SystemExit(f"the server was not ready after {START_TIMEOUT_S} s")


def example_request() -> dict[str, Any]:
    """One user of the test split, with the candidates of several of its requests."""
    lines = (DATA / "golden.jsonl").read_text(encoding="utf-8").splitlines()
    requests = [json.loads(line) for line in lines]
    candidates = {c["item_id"]: c for request in requests for c in request["candidates"]}
    return {**requests[0], "candidates": list(candidates.values())[:CANDIDATES]}


def rank(address: str, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the server to rank."""
    headers = {"Content-Type": "application/json"}
    call = urllib.request.Request(f"{address}/v1/rank", json.dumps(request).encode(), headers)
    with urllib.request.urlopen(call, timeout=30) as response:
        return json.load(response)  # type: ignore[no-any-return]


def show_ranking(console: Console, answer: dict[str, Any]) -> None:
    """Print ranked candidates with every objective's score."""
    table = Table(title=f"POST /v1/rank, answered by {answer['model']['name']} version {answer['model']['version']}")
    tasks = list(answer["candidates"][0]["objectives"])
    for name in ("rank", "item", *tasks, "score"):
        table.add_column(name, justify="right")
    for position, candidate in enumerate(answer["candidates"], 1):
        scores = (f"{candidate['objectives'][task]:.4f}" for task in tasks)
        table.add_row(str(position), str(candidate["item_id"]), *scores, f"{candidate['score']:.4f}")
    console.print(table)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
