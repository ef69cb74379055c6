"""What a run begins with: the model that ``init_from`` names, fetched, and checked against the run before it starts."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field

from recsys_mtl.bundle import WEIGHTS, Manifest
from recsys_mtl.calibration import Calibration
from recsys_mtl.config import Config, ConfigError, read_yaml, validate
from recsys_mtl.data.day import day_facts
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.growth import input_differences, scale_differences
from recsys_mtl.data.schema import Hashing
from recsys_mtl.data.spec import Spec
from recsys_mtl.model import ModelConfig
from recsys_mtl.quantised import is_quantised
from recsys_mtl.registry import BundlePlace, describe, fetch
from recsys_mtl.storage import Place
from recsys_mtl.tasks import Task
from recsys_mtl.tracking import connect
from recsys_mtl.training.moments import MOMENTS_FILE, MOMENTS_FOLDER
from recsys_mtl.training.optim import SparseConfig
from recsys_mtl.training.step import TrainStep
from recsys_mtl.training.warm_start import begin_with, moment_differences, row_sources, weight_differences
from recsys_mtl.weights import map_weights


class InitFrom(Config):
    """An earlier model that a run goes on from."""

    model: Annotated[str, Field(min_length=1)]
    """``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``runs:/RUN_ID/bundle`` or a bundle's directory."""
    optimizer: Literal["keep", "reset"] = "keep"
    """``keep`` goes on with what the optimisers remember, which a finished run stores beside its bundle; with
    ``reset`` they begin anew, and the first steps are as large as those of an untrained model."""

    def pinned(self, tracking_uri: str) -> "InitFrom":
        """Name the model that the address means now, so that an alias that moves changes nothing any more.

        Raises:
            ConfigError: there is no such model.
        """
        with _field():
            place = describe(self.model, tracking_uri)
        address = str(Path(self.model).absolute()) if place.is_local else self.model
        if place.version is not None:
            address = f"models:/{place.name}/{place.version}"
        return self.model_copy(update={"model": address})


def _as_tree(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


InitFromField = Annotated[InitFrom, BeforeValidator(_as_tree, json_schema_input_type=str | InitFrom)]
"""A plain address is short for its mapping."""


@dataclass(frozen=True)
class Start:
    """An earlier model on local disk."""

    manifest: Manifest
    encoder: Encoder
    calibration: Calibration
    weights: Path
    moments: Path | None
    """What its optimisers remember; None where the run begins without."""

    def fill(self, step: TrainStep, encoder: Encoder) -> None:
        """Put the earlier model into a step of a run whose data ``encoder`` has encoded."""
        begin_with(step, row_sources(self.encoder, encoder), weights=self.weights, moments=self.moments)

    def refuse_mismatch(
        self, encoder: Encoder, tasks: tuple[Task, ...], model: ModelConfig, sparse: SparseConfig
    ) -> None:
        """Make sure that a run can go on from here.

        Raises:
            ConfigError: every difference in inputs, tasks, weights and moments.
        """
        spec = encoder.spec
        problems = [*input_differences(self.encoder.spec, spec), *scale_differences(self.encoder.spec, spec)]
        problems += [*_table_differences(self.encoder.spec, spec), *_task_differences(self.manifest.tasks, tasks)]
        if not problems:  # else the shapes would only say the same again
            built = model.build(spec, tasks, table_device=torch.device("meta"))
            problems += weight_differences(built, self.encoder, self.weights)
            if self.moments is not None:
                problems += moment_differences(built, self.encoder, sparse, self.moments)
        if problems:
            raise ConfigError(f"init_from: {problem}" for problem in problems)


@contextmanager
def opened(init_from: InitFrom, tracking_uri: str) -> Iterator[Start]:
    """Fetch the model that a run begins with, for as long as the context lasts.

    Raises:
        ConfigError: no such model, a broken one, or one without what its optimisers remember.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-mtl-init-") as directory:
        with _field():
            fetched = fetch(init_from.model, tracking_uri, into=Path(directory) / "bundle")
            keep = init_from.optimizer == "keep"
            moments = _moments(fetched.path, fetched.place, tracking_uri, Path(directory)) if keep else None
            path = fetched.path
            manifest = validate(Manifest, read_yaml(path / "model.yaml"), where=f"{path / 'model.yaml'}: ")
            calibration = validate(Calibration, read_yaml(path / "calibration.json"), where="calibration.json: ")
            encoder = Encoder.load(path)
            refuse_quantised(path / WEIGHTS)
        yield Start(manifest, encoder, calibration, path / WEIGHTS, moments)


def refuse_quantised(weights: Path) -> None:
    """Make sure that a bundle's tables can be learnt on.

    Raises:
        ConfigError: they are in eight bits.
    """
    if any(map(is_quantised, map_weights(weights).values())):
        raise ConfigError(["its tables are in eight bits: begin with the bundle that it was made of"])


def _moments(bundle: Path, place: BundlePlace, tracking_uri: str, into: Path) -> Path:
    folder = bundle.resolve().parent / MOMENTS_FOLDER
    if place.run_id is not None and connect(tracking_uri).list_artifacts(place.run_id, MOMENTS_FOLDER):
        folder = fetch(f"runs:/{place.run_id}/{MOMENTS_FOLDER}", tracking_uri, into=into / MOMENTS_FOLDER).path
    if not (folder / MOMENTS_FILE).exists():
        where = f"run {place.run_id} has no" if place.run_id else f"there is no {folder} with"
        raise ConfigError([f"{where} {MOMENTS_FOLDER}/{MOMENTS_FILE}; init_from.optimizer=reset begins without"])
    return folder / MOMENTS_FILE


def require_day(data: Place) -> None:
    """Make sure that a data set's held-out rows are those that a run is about to learn.

    Raises:
        ConfigError: it is not one of a day.
    """
    try:
        day_facts(data)
    except ConfigError as error:
        raise ConfigError(f"data.path: {problem}" for problem in error.problems) from None


@contextmanager
def _field() -> Iterator[None]:
    """Let errors name the field that they come from."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"init_from: {problem}" for problem in error.problems) from None


def _table_differences(old: Spec, new: Spec) -> Iterator[str]:
    """Tables whose rows mean something else: values can be matched by name, hashes cannot."""
    for table in dict.fromkeys([*old.vocabularies, *new.vocabularies, *new.rows]):
        before, now = old.table(table).encoding, new.table(table).encoding
        if before.kind != now.kind:
            yield f"tables.{table}.encoding.kind: {before.kind} in the earlier model, {now.kind} here"
        elif isinstance(before, Hashing) and isinstance(now, Hashing) and before.buckets != now.buckets:
            yield f"tables.{table}.encoding.buckets: {before.buckets} in the earlier model, {now.buckets} here"


def _task_differences(old: tuple[Task, ...], new: tuple[Task, ...]) -> Iterator[str]:
    before, now = ([f"{task.name} ({task.kind})" for task in tasks] for tasks in (old, new))
    if before != now:
        yield f"tasks: {', '.join(before)} in the earlier model, {', '.join(now)} here"
