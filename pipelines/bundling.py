"""What a finished run hands over: its bundle, with the metrics and the card in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipelines.run import TrainRun
from pipelines.worker import PROGRESSIVE, Trained
from recsys_mtl.bundle import Manifest, write_bundle
from recsys_mtl.card import CardFacts, model_card
from recsys_mtl.health import alarms
from recsys_mtl.storage import locate
from recsys_mtl.tracking.store import hide_passwords


def make_bundle(run: TrainRun, trained: Trained, directory: Path, *, run_id: str) -> None:
    """Write the bundle of a finished run."""
    data = locate(run.data.path)
    tree = run.model_dump(mode="json")
    tree["tracking"]["uri"] = hide_passwords(run.tracking.uri)
    manifest = Manifest(model=run.model, tasks=trained.tasks, fingerprint=trained.spec.fingerprint, run=tree)
    metrics = metrics_by_split(run, trained)
    calibration = trained.fitted.calibration
    origin: dict[str, Any] = {} if run.init_from is None else {"begun_with": run.init_from.model}
    facts = CardFacts(
        run={
            "run_id": run_id,
            "run_name": run.run_name,
            "seed": run.seed,
            "steps": trained.outcome.best_step,
            **origin,
        },
        data=json.loads((data / "stats.json").read_text()),
        tasks=[task.model_dump(mode="json") for task in trained.tasks],
        model=run.model.model_dump(mode="json"),
        parameters=parameters(trained.weights),
        calibration=calibration.model_dump(mode="json"),
        metrics={split: metrics[split] for split in ((PROGRESSIVE,) if run.trainer.progressive else ("valid", "test"))},
        fits=metrics["calibration"],
        calibrated=True,
        health=None if trained.health is None else [a.text for a in alarms(trained.health, run.health)],
    )
    card = model_card(run.registry.name, facts)
    write_bundle(directory, trained.weights, manifest, data=data, calibration=calibration, metrics=metrics, card=card)


def metrics_by_split(run: TrainRun, trained: Trained) -> dict[str, Any]:
    """Return what the bundle's ``metrics.json`` says; of a progressive run, what was measured before it learnt.

    Beside the splits stands ``calibration``: by event the calibrator, and the calibration error without and with it.
    """
    splits = {"valid": trained.valid.compute(), "test": trained.test.compute()}
    splits |= {PROGRESSIVE: splits["test"]} if run.trainer.progressive else {}
    return {**splits, "calibration": trained.fitted.report()}


def parameters(weights: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Count weights by part of the model."""
    counts: dict[str, int] = {}
    for name, weight in weights.items():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + weight.numel()
    return counts
