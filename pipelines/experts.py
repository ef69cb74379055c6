"""Showing how a model's experts are doing on a prepared data set."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pipelines.evaluate import open_split
from recsys_mtl.bundle import Manifest
from recsys_mtl.config import validate
from recsys_mtl.health import Alarm, Gradients, Health, HealthConfig, LayerHealth, RowSample, alarms, measure
from recsys_mtl.health.report import positive_rates
from recsys_mtl.storage import Place
from recsys_mtl.training.evaluate import examine


def run(
    model: str,
    data: Place,
    split: str,
    console: Console,
    *,
    json_file: Path | None = None,
    tracking_uri: str | None = None,
) -> Health:
    """Pass a split through a model; print how its experts are doing, and write it if asked.

    Raises:
        ConfigError: no such model, split or data set, or one that was prepared otherwise than the model's.
    """
    opened = open_split(model, data, split, tracking_uri=tracking_uri)
    bundle, config = opened.bundle, thresholds(opened.bundle.manifest)
    sample = RowSample(config.last_gradient_rows, opened.reader.rows)
    batches = opened.batches(console)
    bank, record = examine(bundle.model, batches, bundle.manifest.tasks, torch.device("cpu"), sample=sample)
    health = measure(record, positive_rates(bank.compute()))
    found = alarms(health, config)
    show(health, found, console, title=f"{model} on {split} of {data}")
    if json_file is not None:
        tree = {**asdict(health), "alarms": [asdict(alarm) for alarm in found]}
        json_file.write_text(json.dumps(finite(tree), indent=2), encoding="utf-8")
    return health


def thresholds(manifest: Manifest) -> HealthConfig:
    """Return the thresholds of the model's run; the defaults if it comes from no run, or from one without any."""
    return validate(HealthConfig, manifest.run.get("health", {}), where="model.yaml: run.health: ")


def show(health: Health, found: Sequence[Alarm], console: Console, *, title: str) -> None:
    """Print everything as tables, alarms last."""
    console.print(title, highlight=False, soft_wrap=True)
    if not health.layers:
        console.print("This model has no experts.", highlight=False)
    for layer in health.layers:
        console.print(expert_table(layer))
        if layer.readers:
            console.print(gate_table(layer))
            console.print(reader_table(layer))
    if health.gradients.rows:
        console.print(gradient_table(health.gradients))
    for alarm in found:
        console.print(f"{alarm.kind}: {alarm.text}", style="red", markup=False, highlight=False, soft_wrap=True)
    if health.layers and not found:
        console.print("health: ok", highlight=False)


def expert_table(layer: LayerHealth) -> Table:
    """Lay out a layer's experts."""
    ratio = number(layer.scale_ratio, 2)
    table = _table(f"{layer.name}: experts, scale ratio {ratio}", "expert", "read by")
    for name in ("mean", "sd", "zero ratio", "max gate weight", "occupancy", "effective readers"):
        table.add_column(name, justify="right")
    for expert in layer.experts:
        values = (expert.mean, expert.sd, expert.zero_ratio, expert.weight, expert.occupancy, expert.effective_readers)
        several = f"{len(expert.readers)} readers"
        readers = ", ".join(expert.readers) if len(expert.readers) < 3 else several
        table.add_row(expert.name, readers or "–", *(number(value) for value in values))
    return table


def gate_table(layer: LayerHealth) -> Table:
    """Lay out how much each reader draws from each shared expert, and from those that few can choose."""
    shared = [expert.name for expert in layer.experts if len(expert.readers) != 1]
    table = _table(f"{layer.name}: mean gate weights", "reader")
    for name in shared:
        table.add_column(name, justify="right")
    if len(shared) < len(layer.experts):
        table.add_column("others")
    for reader in layer.readers:
        own = {name: weight for name, weight in reader.weights.items() if name not in shared}
        each = ", ".join(f"{name} {weight:.3f}" for name, weight in own.items())
        text = each if len(own) < 4 else f"{len(own)} experts, together {sum(own.values()):.3f}"
        weights = [number(reader.weights.get(name, math.nan), 3) for name in shared]
        table.add_row(reader.name, *weights, *([text] if len(shared) < len(layer.experts) else []))
    return table


def reader_table(layer: LayerHealth) -> Table:
    """Lay out what each reader makes of its choice, next to how dense its labels are."""
    correlation = layer.own_mass_by_rate
    note = "" if math.isnan(correlation) else f", rank correlation of own mass and positive rate {correlation:+.2f}"
    table = _table(f"{layer.name}: readers{note}", "reader")
    for name in ("entropy", "top-1 share", "own mass", "if uniform", "positive rate"):
        table.add_column(name, justify="right")
    for reader in layer.readers:
        values = (reader.entropy, reader.top1_share, reader.own_mass, reader.uniform_mass, reader.positive_rate)
        table.add_row(reader.name, *(number(value) for value in values))
    return table


def gradient_table(gradients: Gradients) -> Table:
    """Lay out the cosines between tasks."""
    table = _table(f"cosine of the tasks' gradients at the representation, {gradients.rows:,} rows", "")
    for task in gradients.tasks:
        table.add_column(task, justify="right")
    for task, row in zip(gradients.tasks, gradients.cosines, strict=True):
        table.add_row(task, *("–" if math.isnan(cosine) else f"{cosine:+.2f}" for cosine in row))
    return table


def number(value: float, digits: int = 4) -> str:
    """Print a measure; one that does not apply is a dash."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def finite(tree: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by null."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left", min_width=len(title))
    for name in names:
        table.add_column(name)
    return table
