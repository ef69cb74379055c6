"""Bundles of models that were taught in a second, well or badly, without any cluster; and a registry that has them."""

from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pipelines.grown import grown
from pipelines.latency import one_thread
from recsys_mtl.bundle import Bundle, Manifest, write_bundle
from recsys_mtl.calibration import Calibration, Platt
from recsys_mtl.config import validate
from recsys_mtl.data.batch import Batch, BatchLayout
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import EvalReader, Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.model import ModelConfig
from recsys_mtl.registry import RegistryConfig, register
from recsys_mtl.tasks import TaskSelection
from recsys_mtl.tracking import Run, TrackingConfig
from tests import builders


def teach(
    path: Path,
    data: Path,
    *,
    steps: int = 20,
    rate: float = 0.02,
    wrong: bool = False,
    tasks: tuple[str, ...] = (),
    shift: float = 0.0,
    start: Path | None = None,
) -> Path:
    """Fit a model's clicks to the training split, or to the opposite of its labels; write the bundle to ``path``.

    ``shift`` is added to calibrated logits of clicks. The bundle ``start`` is what it goes on from.
    """
    encoder = Encoder.load(data)
    chosen = TaskSelection(include=tasks or None).of(encoder.spec.tasks)
    config = validate(ModelConfig, builders.MODEL)
    torch.manual_seed(1)
    model = config.build(encoder.spec, chosen)
    if start is not None:
        model.load_state_dict(grown(Bundle.load(start), encoder).model.state_dict())
    layout = BatchLayout.of(encoder.spec, tuple(task.name for task in chosen))
    (batch,) = EvalReader(row_groups(data, "train"), layout, batch_size=10**6, worker=Worker())
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    with one_thread():  # for steps this small a second one costs more than it brings, and far more on a busy machine
        for _ in range(steps):
            optimizer.zero_grad()
            loss_of(model(batch), batch, wrong=wrong).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    progressive = {"progressive": start is not None}
    run = {"data": {"path": str(data)}, "health": {"enabled": True}, "trainer": progressive}
    manifest = Manifest(model=config, tasks=chosen, fingerprint=encoder.spec.fingerprint, run=run)
    calibration = Calibration(tasks={"click": Platt(slope=1.0, intercept=shift)})
    write_bundle(path, model.state_dict(), manifest, data=data, calibration=calibration, metrics={}, card="# Taught\n")
    return path


def loss_of(logits_BT: torch.Tensor, batch: Batch, *, wrong: bool) -> torch.Tensor:
    """Return the mean loss of the first event."""
    clicks_B = batch.labels_BT[:, 0]
    return binary_cross_entropy_with_logits(logits_BT[:, 0], 1 - clicks_B if wrong else clicks_B)


def registered(uri: str, folder: Path, bundle: Path, *, name: str = "ranker") -> int:
    """Register a bundle as a finished run's; return the version."""
    tracking = TrackingConfig(uri=uri)
    with Run.start(tracking, folder.name, params={}, tags={}) as run:
        run.log_artifacts(bundle, "bundle")
    tags = {"data_fingerprint": Encoder.load(bundle).spec.fingerprint}
    return register(uri, run.run_id, registry=RegistryConfig(name=name), description="test split: click", tags=tags)
