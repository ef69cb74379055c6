"""Bundles with embedding tables in eight bits: a quarter of the memory, and what that costs in quality."""

import shutil
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from pipelines.evaluate import open_split
from recsys_mtl.bundle import WEIGHTS, write_golden
from recsys_mtl.config import ConfigError
from recsys_mtl.quantised import is_quantised, quantise
from recsys_mtl.registry import fetch
from recsys_mtl.storage import Place, locate
from recsys_mtl.tracking import TrackingConfig
from recsys_mtl.training.evaluate import evaluate
from recsys_mtl.weights import TABLES, map_weights, save_weights

MEGABYTE = 1e6


def run(
    model: str, data: Place, split: str, out: Path, console: Console, *, tracking_uri: str | None = None
) -> dict[str, tuple[float, float]]:
    """Write a model's bundle with tables in eight bits to ``out``; return each task's metric before and after.

    The metric is AUC for events and RMSE for amounts. ``out`` appears whole, or not at all.

    Raises:
        ConfigError: no such model, split or data set, ``out`` is in use, or the tables are in eight bits already.
    """
    if out.exists():
        raise ConfigError([f"--out: {out} exists"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as directory:
        new = Path(directory) / "bundle"
        shutil.copytree(fetch(model, tracking_uri or TrackingConfig().uri, into=Path(directory) / "fetched").path, new)
        before = measured(str(new), data, split, console)
        sizes = shrink(new)
        write_golden(new, locate(data))
        after = measured(str(new), data, split, console)
        new.rename(out)
    console.print(comparison(before, after, f"{model} on {split} of {data}"))
    console.print(f"tables: {sizes[0] / MEGABYTE:,.1f} MB -> {sizes[1] / MEGABYTE:,.1f} MB; written to {out}")
    return {task: (before[task], after[task]) for task in before}


def shrink(bundle: Path) -> tuple[int, int]:
    """Put a bundle's tables in eight bits; return their bytes before and after.

    Raises:
        ConfigError: they are already.
    """
    weights = map_weights(bundle / WEIGHTS)
    tables = {name: table for name, table in weights.items() if name.startswith(TABLES)}
    if any(map(is_quantised, tables.values())):
        raise ConfigError(["--model: its tables are in eight bits already"])
    small = {name: quantise(table) for name, table in tables.items()}
    save_weights({**weights, **small}, bundle / WEIGHTS)
    return sum(table.nbytes for table in tables.values()), sum(table.nbytes for table in small.values())


def measured(model: str, data: Place, split: str, console: Console) -> dict[str, float]:
    """Return each task's metric on a split."""
    opened = open_split(model, data, split)
    bundle = opened.bundle
    tasks, batches = bundle.manifest.tasks, opened.batches(console)
    metrics = evaluate(bundle.model, batches, tasks, torch.device("cpu"), bundle.calibration).compute()
    return {task: values.get("auc", values.get("rmse", float("nan"))) for task, values in metrics.items()}


def comparison(before: dict[str, float], after: dict[str, float], title: str) -> Table:
    """Lay the metrics out."""
    table = Table(title=title)
    for heading in ("task", "floats", "eight bits", "difference"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for task, value in before.items():
        table.add_row(task, f"{value:.5f}", f"{after[task]:.5f}", f"{after[task] - value:+.5f}")
    return table
