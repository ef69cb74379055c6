"""The bundle: what training hands to serving, as a folder of plain files.

model.safetensors  model.yaml  spec.yaml  vocab/  calibration.json  fusion.yaml  golden.jsonl  metrics.json
MODEL_CARD.md
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor

from recsys_mtl.calibration import Calibration, predictions
from recsys_mtl.config import Config, ConfigError, read_yaml, validate
from recsys_mtl.data.batch import BatchLayout, collate
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.parquet import read_table
from recsys_mtl.fusion import Fusions, default_fusions
from recsys_mtl.model import ModelConfig, RankingModel
from recsys_mtl.storage import Location, Place, locate
from recsys_mtl.storage.stores import refusals
from recsys_mtl.tasks import Task
from recsys_mtl.weights import map_weights, save_weights

SCORE_TOLERANCE = 1e-5
"""Largest difference between an expected and an actual score of a golden request."""


class Manifest(Config):
    """``model.yaml``: what is needed to rebuild the model, and the run that it comes from."""

    model: ModelConfig
    tasks: tuple[Task, ...]
    fingerprint: str
    """Of the specification that the model was trained on."""
    run: dict[str, Any] = {}
    """The resolved configuration of the training run."""


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory, ready to score."""

    manifest: Manifest
    encoder: Encoder
    model: RankingModel
    calibration: Calibration
    fusions: Fusions
    golden: list[dict[str, Any]]
    """Golden requests: ``request`` as a client would send it, ``expected`` scores by candidate and task."""

    @classmethod
    def load(cls, directory: Path) -> "Bundle":
        """Read a bundle and check that its parts belong together.

        Raises:
            ConfigError: a part is missing, broken or of another data set.
        """
        manifest = validate(Manifest, read_yaml(directory / "model.yaml"), where=f"{directory / 'model.yaml'}: ")
        encoder = Encoder.load(directory)
        if encoder.spec.fingerprint != manifest.fingerprint:
            raise ConfigError([f"{directory}: spec.yaml is not the one that the model was trained on"])
        model = load_model(manifest.model, encoder, manifest.tasks, directory / "model.safetensors")
        calibration = validate(Calibration, read_yaml(directory / "calibration.json"))
        fusions = validate(Fusions, read_yaml(directory / "fusion.yaml"), where="fusion.yaml: ")
        lines = (directory / "golden.jsonl").read_text(encoding="utf-8").splitlines()
        return cls(manifest, encoder, model, calibration, fusions, [json.loads(line) for line in lines])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the objectives, in the order of scores."""
        return tuple(task.name for task in self.manifest.tasks)

    def score(self, raw: pa.Table) -> Tensor:
        """Score raw rows: calibrated probabilities, and amounts in their natural unit (B, T).

        Raises:
            FeatureError: a value that its feature cannot take.
        """
        return self.score_encoded(self.encoder.encode(raw))

    def score_encoded(self, encoded: pa.Table) -> Tensor:
        """Score rows that are encoded already, such as those of a prepared data set."""
        batch = collate(encoded, BatchLayout.of(self.encoder.spec, self.tasks))
        with torch.inference_mode():
            return predictions(self.model(batch), self.manifest.tasks, self.calibration)


def load_model(config: ModelConfig, encoder: Encoder, tasks: tuple[Task, ...], weights: Path) -> RankingModel:
    """Rebuild an unsharded model in evaluation mode.

    Raises:
        ConfigError: the weights are missing, damaged or of another model.
    """
    model = config.build(encoder.spec, tasks, table_device=torch.device("meta"))
    try:
        model.load_state_dict(map_weights(weights), strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ConfigError([f"{weights}: {error}"]) from None
    return model.eval()


def write_bundle(
    directory: Path,
    weights: Mapping[str, Tensor],
    manifest: Manifest,
    *,
    data: Place,
    calibration: Calibration,
    metrics: Mapping[str, Any],
    card: str,
) -> Bundle:
    """Write a bundle from unsharded weights and the prepared data set; return it as serving will load it.

    Expected scores of the golden requests come from the data set's encoded rows, so that the requests prove both the
    weights and the encoding of raw values.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(weights, directory / "model.safetensors")
    _write_yaml(directory / "model.yaml", manifest.model_dump(mode="json"))
    Encoder.load(data).save(directory)
    (directory / "calibration.json").write_text(calibration.model_dump_json(indent=2), encoding="utf-8")
    _write_yaml(directory / "fusion.yaml", default_fusions(manifest.tasks).model_dump(mode="json"))
    (directory / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    (directory / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    (directory / "golden.jsonl").write_text("", encoding="utf-8")
    _write_golden(directory, locate(data))
    return Bundle.load(directory)


def _write_golden(directory: Path, data: Location) -> None:
    bundle = Bundle.load(directory)
    requests = [json.loads(line) for line in (data / "golden.jsonl").read_text().splitlines()]
    with refusals(data):
        scores = iter(bundle.score_encoded(read_table(data / "golden.parquet")).tolist())
    lines = []
    for request in requests:
        expected = [dict(zip(bundle.tasks, next(scores), strict=True)) for _ in request["candidates"]]
        lines.append(json.dumps({"request": request, "expected": expected}, ensure_ascii=False))
    (directory / "golden.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_yaml(path: Path, tree: Any) -> None:
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
