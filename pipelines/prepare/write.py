"""Writing a prepared data set with a progress display."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.raw import RawData
from recsys_mtl.storage import Place


def write(read: Callable[[], RawData], out: Place, console: Console) -> None:
    """Read raw data, encode it and put it at ``out``."""
    started = time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,} {task.fields[unit]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        reading = bar.add_task("read", total=None, unit="rows")
        raw = read()
        bar.remove_task(reading)
        stages = {}

        def progress(stage: str, rows: int) -> None:
            if stage not in stages:
                stages[stage] = bar.add_task(stage, total=None, unit="KiB" if stage == "upload" else "rows")
            bar.advance(stages[stage], rows)

        spec = write_dataset(raw, out, progress=progress)
    seconds = time.perf_counter() - started
    tables = f"{len(spec.rows)} tables with {sum(spec.rows.values()):,} rows"
    message = f"prepared {out} in {seconds:.1f} s: {len(spec.features)} features, {tables}, {len(spec.tasks)} tasks"
    console.print(f"{message}, fingerprint {spec.fingerprint}", highlight=False)
