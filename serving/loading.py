"""A model in memory, and the checks that it passes before it may answer."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from recsys_mtl.bundle import Bundle
from recsys_mtl.data.golden import columns_by_entity
from recsys_mtl.data.schema import Entity, Schema, SequenceFeature, column_of
from recsys_mtl.registry import BundlePlace
from recsys_mtl.tasks import RegressionTask, Task
from serving.golden import verify
from serving.schemas import Input, ModelDescription, ModelName, Objective
from serving.scorer import Scorer
from serving.settings import Role

PARTS: Mapping[Entity, str] = {"user": "user", "context": "context", "item": "candidates"}
"""Part of the request that carries an entity's raw values."""


@dataclass(frozen=True)
class Loaded:
    """A bundle, what it is called, and where it was found."""

    bundle: Bundle
    name: ModelName
    place: BundlePlace


@dataclass(frozen=True)
class Served:
    """A model that has passed its checks. Requests hold on to the one that they began with."""

    scorer: Scorer
    description: ModelDescription
    place: BundlePlace

    @property
    def name(self) -> ModelName:
        """What it is called."""
        return ModelName(name=self.description.name, version=self.description.version)

    @property
    def role(self) -> Role:
        """What it is there for."""
        return self.description.role

    @property
    def user_key(self) -> str:
        """Raw column that identifies the user."""
        return self.scorer.bundle.encoder.spec.group

    def moved_to(self, role: Role, uri: str) -> "Served":
        """Return the same model, as that of another address."""
        return replace(self, description=self.description.model_copy(update={"role": role, "uri": uri}))


Load = Callable[[Path, BundlePlace], Loaded]


def load(path: Path, place: BundlePlace) -> Loaded:
    """Read the copy of a bundle.

    Raises:
        ConfigError: it is broken.
    """
    version = content_hash(path) if place.version is None else str(place.version)
    return Loaded(Bundle.load(path), ModelName(name=place.name, version=version), place)


def admit(loaded: Loaded, role: Role, uri: str) -> Served:
    """Make a scorer and let it prove itself on the golden requests, which also warms it up.

    Raises:
        ConfigError: it does not reproduce its scores, or its formulas are of another model.
    """
    scorer = Scorer(loaded.bundle)
    return Served(scorer, describe(loaded, role, uri, golden_requests=verify(scorer)), loaded.place)


def content_hash(directory: Path) -> str:
    """Tell bundles apart that have no version: by their scores, which change with weights, features and calibration."""
    digest = hashlib.sha256((directory / "model.yaml").read_bytes())
    digest.update((directory / "golden.jsonl").read_bytes())
    return f"sha-{digest.hexdigest()[:12]}"


def describe(loaded: Loaded, role: Role, uri: str, *, golden_requests: int) -> ModelDescription:
    """Tell clients what the model predicts, and from what."""
    spec, manifest = loaded.bundle.encoder.spec, loaded.bundle.manifest
    return ModelDescription(
        name=loaded.name.name,
        version=loaded.name.version,
        role=role,
        uri=uri,
        fingerprint=manifest.fingerprint,
        golden_requests=golden_requests,
        objectives=[objective(task) for task in manifest.tasks],
        inputs=inputs(spec),
        fusions=loaded.bundle.fusions,
    )


def objective(task: Task) -> Objective:
    """Describe a task."""
    unit = task.unit if isinstance(task, RegressionTask) else None
    return Objective(name=task.name, kind=task.kind, unit=unit or None, space=task.space)


def inputs(schema: Schema) -> dict[str, list[Input]]:
    """Describe the raw values of each part of a request."""
    kinds: dict[str, str] = {}
    for feature in schema.features:
        for part in feature.columns if isinstance(feature, SequenceFeature) else (feature,):
            kinds[column_of(part)] = feature.kind
    columns = columns_by_entity(schema)
    return {part: [Input(name=name, kind=kinds[name]) for name in columns[entity]] for entity, part in PARTS.items()}
