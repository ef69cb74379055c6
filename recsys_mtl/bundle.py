"""The bundle: what training hands to serving, as a folder of plain files.

model.safetensors  model.yaml  spec.yaml  vocab/  calibration.json  fusion.yaml  golden.jsonl  metrics.json
inputs.json  MODEL_CARD.md
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
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
from recsys_mtl.data.dataset import STATS
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.parquet import read_table
from recsys_mtl.data.spec import Spec
from recsys_mtl.embeddings import Embeddings, feature_layout
from recsys_mtl.fusion import Fusions, default_fusions
from recsys_mtl.model import ModelConfig, Ranker, RankingModel
from recsys_mtl.quantised import as_floats, is_quantised, width_of
from recsys_mtl.storage import Location, Place, locate
from recsys_mtl.storage.stores import refusals
from recsys_mtl.tasks import Task
from recsys_mtl.weights import TABLES, map_weights, save_weights

WEIGHTS = "model.safetensors"
INPUTS = "inputs.json"
CARD_FILE = "MODEL_CARD.md"
DENSE = "ranker."
"""What names of weights begin with that are no tables'."""
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
    ranker: Ranker
    """The dense part of the model, in evaluation mode."""
    tables: Mapping[str, Tensor]
    """Embedding tables by parameter, mapped from the bundle's file: of floats (N, D), or in eight bits (N, D + 8)."""
    calibration: Calibration
    fusions: Fusions
    golden: list[dict[str, Any]]
    """Golden requests: ``request`` as a client would send it, ``expected`` scores by candidate and task."""
    inputs: Mapping[str, Mapping[str, int]]
    """Values, and how many of them were unknown and missing, by feature, in the test split: what requests should be
    like. Nothing in bundles of earlier releases."""

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
        ranker, tables = load_weights(manifest, encoder.spec, directory / WEIGHTS)
        calibration = validate(Calibration, read_yaml(directory / "calibration.json"))
        fusions = validate(Fusions, read_yaml(directory / "fusion.yaml"), where="fusion.yaml: ")
        lines = (directory / "golden.jsonl").read_text(encoding="utf-8").splitlines()
        golden, inputs = [json.loads(line) for line in lines], directory / INPUTS
        counts = json.loads(inputs.read_bytes()) if inputs.exists() else {}
        return cls(manifest, encoder, ranker, tables, calibration, fusions, golden, counts)

    @cached_property
    def model(self) -> RankingModel:
        """The whole model, as it was trained; tables in eight bits become floats, which take four times the memory."""
        embeddings = Embeddings(self.encoder.spec, torch.device("meta"))
        floats = {name: as_floats(table) for name, table in self.tables.items()}
        embeddings.load_state_dict(floats, strict=True, assign=True)
        return RankingModel(embeddings, self.ranker).eval()

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


def load_weights(manifest: Manifest, spec: Spec, path: Path) -> tuple[Ranker, dict[str, Tensor]]:
    """Rebuild the dense part of a model, and map its tables.

    Raises:
        ConfigError: the weights are missing, damaged or of another model.
    """
    try:
        weights = map_weights(path)
        dense = {name.removeprefix(DENSE): w for name, w in weights.items() if name.startswith(DENSE)}
        ranker = manifest.model.build_ranker(feature_layout(spec), manifest.tasks)
        ranker.load_state_dict(dense, strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ConfigError([f"{path}: {error}"]) from None
    tables = {name.removeprefix(TABLES): w for name, w in weights.items() if not name.startswith(DENSE)}
    expected = {name: tuple(w.shape) for name, w in Embeddings(spec, torch.device("meta")).state_dict().items()}
    found = {name: (table.shape[0], width_of(table)) for name, table in tables.items() if table.dim() == 2}
    if found != expected or len({is_quantised(table) for table in tables.values()}) > 1:
        names = ", ".join(sorted({name for name, _ in found.items() ^ expected.items()})[:5]) or "floats beside bytes"
        raise ConfigError([f"{path}: tables are not those of this model: {names}"])
    return ranker.eval(), tables


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
    save_weights(weights, directory / WEIGHTS)
    _write_yaml(directory / "model.yaml", manifest.model_dump(mode="json"))
    Encoder.load(data).save(directory)
    (directory / "calibration.json").write_text(calibration.model_dump_json(indent=2), encoding="utf-8")
    _write_yaml(directory / "fusion.yaml", default_fusions(manifest.tasks).model_dump(mode="json"))
    (directory / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    stats = json.loads((locate(data) / STATS).read_text())
    (directory / INPUTS).write_text(json.dumps(stats["splits"]["test"]["fields"]), encoding="utf-8")
    (directory / "golden.jsonl").write_text("", encoding="utf-8")
    write_golden(directory, locate(data))
    return Bundle.load(directory)


def write_golden(directory: Path, data: Location) -> None:
    """Write a bundle's golden requests with the scores that it gives to their encoded rows in the data set."""
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
