"""Evaluating a registered model, or any bundle, on a prepared data set."""

import json
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from pipelines.display import metrics_table
from recsys_mtl.bundle import Bundle
from recsys_mtl.config import ConfigError
from recsys_mtl.data.batch import Batch, BatchLayout
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.raw import SPLITS
from recsys_mtl.data.reader import EvalReader, Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.registry import fetch
from recsys_mtl.storage import Place
from recsys_mtl.tracking import TrackingConfig
from recsys_mtl.training.evaluate import evaluate

BATCH_SIZE = 8192


@dataclass(frozen=True)
class OpenSplit:
    """A model, and the rows that it is looked at with."""

    bundle: Bundle
    reader: EvalReader

    def batches(self, console: Console) -> Iterable[Batch]:
        """Return the batches, with a progress bar on a terminal."""
        silent = not console.is_terminal
        return track(self.reader, "scoring", total=self.reader.steps, console=console, disable=silent)


def open_split(model: str, data: Place, split: str, *, tracking_uri: str | None = None) -> OpenSplit:
    """Load a model and open a split for it.

    Raises:
        ConfigError: no such model, split or data set, or one that was prepared otherwise than the model's.
    """
    if split not in SPLITS:
        raise ConfigError([f"--split: {split!r} is not one of {', '.join(SPLITS)}"])
    with tempfile.TemporaryDirectory() as directory:
        bundle = Bundle.load(fetch(model, tracking_uri or TrackingConfig().uri, into=Path(directory)).path)
    spec = Encoder.load(data).spec
    if spec.fingerprint != bundle.encoder.spec.fingerprint:
        raise ConfigError(
            [f"--data: {data} has fingerprint {spec.fingerprint}, the model {bundle.encoder.spec.fingerprint}"]
        )
    layout = BatchLayout.of(spec, bundle.tasks)
    reader = EvalReader(row_groups(data, split), layout, batch_size=BATCH_SIZE, worker=Worker())
    return OpenSplit(bundle, reader)


def run(
    model: str,
    data: Place,
    split: str,
    console: Console,
    *,
    json_file: Path | None = None,
    tracking_uri: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Score a split with a model; print the metrics, and write them if asked.

    Raises:
        ConfigError: no such model, split or data set, or one that was prepared otherwise than the model's.
    """
    opened = open_split(model, data, split, tracking_uri=tracking_uri)
    bundle, batches = opened.bundle, opened.batches(console)
    metrics = evaluate(bundle.model, batches, bundle.manifest.tasks, torch.device("cpu"), bundle.calibration).compute()
    for table in metrics_table(metrics, f"{model} on {split} of {data}"):
        console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps({"tasks": finite(metrics)}, indent=2), encoding="utf-8")
    return metrics


def finite(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Replace NaN, which JSON does not have, by null."""
    undefined = {
        task: {name for name, value in values.items() if math.isnan(value)} for task, values in metrics.items()
    }
    return {
        task: {name: None if name in undefined[task] else value for name, value in values.items()}
        for task, values in metrics.items()
    }
