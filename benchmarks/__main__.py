"""``make bench``: how fast data is prepared, read and learnt from, on generated data and this machine.

Every figure is the median of several runs; the report names the hardware, since no figure means much without it.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from pipelines.prepare.synthetic import prepare
from pipelines.quiet import quiet
from pipelines.run import TrainRun
from pipelines.train import train
from recsys_mtl.config import load
from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import Cursor, ReaderConfig, TrainReader, Worker
from recsys_mtl.data.shards import row_groups

PRESETS = ("shared_bottom", "mmoe", "ple")
CONFIGS = Path(__file__).parent.parent / "pipelines" / "configs" / "models"
BATCH_SIZE = 4096


def main(
    rows: Annotated[int, typer.Option(min=10_000, help="Generated impressions.")] = 300_000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs behind each median.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Ray workers.")] = 2,
    presets: Annotated[str, typer.Option(help="Comma-separated model presets.")] = ",".join(PRESETS),
) -> None:
    """Measure and print a Markdown report."""
    quiet()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        lines = [
            f"rows {rows:,}, {workers} Ray workers, global batch {BATCH_SIZE}, medians of {repeats} runs",
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, torch {torch.__version__}",
            "",
            "| step | rows/s |",
            "|---|---:|",
            row("generate, encode and write", rows, median_s(lambda: write(data, rows), repeats)),
            row("read, shuffle and collate, one reader", rows * 8 // 10, median_s(lambda: read(data), repeats)),
        ]
        for preset in presets.split(","):
            rates, waits = zip(*(learn(preset, data, workers, console) for _ in range(repeats)), strict=True)
            waiting = f"{statistics.median(waits):.1%} of the time waiting for data"
            lines.append(f"| train {preset} ({waiting}) | {statistics.median(rates):,.0f} |")
    typer.echo("\n".join(lines))


def write(data: Path, rows: int) -> None:
    """Prepare the generated world."""
    write_dataset(prepare(rows), data)


def read(data: Path) -> None:
    """Read one epoch as one worker would."""
    spec = Encoder.load(data).spec
    layout = BatchLayout.of(spec, tuple(task.name for task in spec.tasks))
    groups = row_groups(data, "train")
    reader = TrainReader(groups, layout, ReaderConfig(), batch_size=BATCH_SIZE, seed=0, worker=Worker())
    assert sum(len(batch) for batch in reader.epoch(Cursor())) == reader.rows


def learn(preset: str, data: Path, workers: int, console: Console) -> tuple[float, float]:
    """Train one epoch on Ray; return rows per second of training time, and the share of it spent waiting for data."""
    overrides = [f"data.path={data}", f"cluster.workers={workers}", f"trainer.batch_size={BATCH_SIZE}"]
    overrides += [f"tracking.uri=sqlite:///{data.parent}/mlflow.db", "registry.name=benchmark"]
    finished = train(load(TrainRun, [str(CONFIGS / f"{preset}.yaml"), *overrides]), console)
    seconds = finished.outcome["seconds"]
    return finished.outcome["rows"] * workers / seconds, finished.outcome["waited_s"] / seconds


def median_s(work: Callable[[], None], repeats: int) -> float:
    """Time something several times."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def row(name: str, rows: int, seconds: float) -> str:
    """One line of the report."""
    return f"| {name} | {rows / seconds:,.0f} |"


if __name__ == "__main__":
    typer.run(main)
