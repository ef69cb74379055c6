"""One small world for all tests: a data set with every kind of feature and task, and an untrained bundle of it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from recsys_mtl.bundle import Bundle, Manifest, write_bundle
from recsys_mtl.calibration import Calibration, Platt
from recsys_mtl.config import validate
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.raw import RawData
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.spec import Spec
from recsys_mtl.model import ModelConfig
from recsys_mtl.storage import Place

USERS, ITEMS, AUTHORS, TAGS = 40, 60, 12, 9
TASKS = ("click", "like", "watch")
MODEL: dict[str, Any] = {
    "bottom": {"kind": "shared", "hidden": [16]},
    "experts": {"kind": "ple"},
    "heads": {"kind": "towers", "hidden": [8]},
}
WEIGHT_SCALE = 3.0
"""Initial weights give nearly equal scores to everything; times this, click lies between 0.4 and 0.9."""
SPLIT_SEEDS = {"train": 0, "valid": 1, "test": 2}


def schema() -> Schema:
    """An id of each entity, a bag, a sequence on the items' tables, numbers, and three tasks."""
    features = [
        {"kind": "id", "name": "user", "entity": "user"},
        {"kind": "id", "name": "city", "entity": "user", "default": "nowhere"},
        {"kind": "sequence", "name": "history", "entity": "user", "max_length": 5, "columns": [
            {"name": "history_item", "table": "item"}, {"name": "history_author", "table": "author"}]},
        {"kind": "number", "name": "age", "entity": "user", "boundaries": [18, 30, 50]},
        {"kind": "id", "name": "item", "entity": "item", "column": "video"},
        {"kind": "id", "name": "author", "entity": "item"},
        {"kind": "ids", "name": "tags", "entity": "item", "pooling": "mean", "max_length": 3},
        {"kind": "number", "name": "duration", "entity": "item", "log1p": True, "standardise": True},
        {"kind": "number", "name": "quality", "entity": "item"},
        {"kind": "id", "name": "hour", "entity": "context"},
    ]  # fmt: skip
    tasks = [
        {"kind": "binary", "name": "click"},
        {"kind": "binary", "name": "like", "space": "click", "group": "rare"},
        {"kind": "regression", "name": "watch", "unit": "s", "upper": 600},
    ]
    tables = {"tags": {"encoding": {"kind": "hash", "buckets": 16}, "dim": 4}}
    tree = {"features": features, "tasks": tasks, "tables": tables, "group": "user", "item": "video"}
    return validate(Schema, tree)


def raw_table(rows: int, seed: int) -> pa.Table:
    """Impressions: columns of the user are a function of the user and those of the item one of the item."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, USERS, rows), rng.integers(0, ITEMS, rows)
    clicks = rng.random(rows) < 0.2 + 0.6 * (items % 5) / 5
    histories = [_history(user) for user in users]
    return pa.table(
        {
            "user": users,
            "city": [None if user % 7 == 0 else f"city-{user % 4}" for user in users],
            "history_item": histories,
            "history_author": [[item % AUTHORS for item in history] for history in histories],
            "age": pa.array([None if user % 5 == 0 else 10 + float(user) for user in users]),
            "video": items,
            "author": items % AUTHORS,
            "tags": [[f"tag-{(item + k) % TAGS}" for k in range(item % 5)] for item in items],
            "duration": pa.array([None if item % 11 == 0 else 3.0 + item for item in items]),
            "quality": (items % 10) / 10,
            "hour": rng.integers(0, 24, rows),
            "click": clicks.astype(np.int8),
            "like": _with_unknowns((clicks & (rng.random(rows) < 0.3)).astype(float), rng),
            "watch": _with_unknowns(np.round(rng.exponential(20, rows) * clicks, 2), rng),
        }
    )


def raw_data(rows: int = 400, seed: int = 0) -> RawData:
    """All splits, each of ``rows`` impressions in two chunks; equal seeds give equal data."""

    def read(split_seed: int) -> Iterator[pa.Table]:
        for chunk in range(2):
            yield raw_table(rows // 2, 100 * seed + 10 * split_seed + chunk)

    return RawData(schema(), {split: partial(read, split_seed) for split, split_seed in SPLIT_SEEDS.items()})


def prepared(path: Place, *, rows: int = 400, seed: int = 0) -> Spec:
    """Write the data set to ``path``."""
    return write_dataset(raw_data(rows, seed), path)


def bundle(
    path: Path, data: Path, *, model: dict[str, Any] | None = None, seed: int = 4, scale: float = WEIGHT_SCALE
) -> Bundle:
    """Write the bundle of an untrained model of the data set at ``data`` to ``path``."""
    encoder = Encoder.load(data)
    config = validate(ModelConfig, MODEL | (model or {}))
    torch.manual_seed(seed)
    built = config.build(encoder.spec, encoder.spec.tasks)
    weights = {name: scale * weight for name, weight in built.state_dict().items()}
    manifest = Manifest(model=config, tasks=encoder.spec.tasks, fingerprint=encoder.spec.fingerprint)
    calibration = Calibration(tasks={"like": Platt(slope=0.8, intercept=-1.5)})
    return write_bundle(path, weights, manifest, data=data, calibration=calibration, metrics={}, card="# Untrained\n")


def _history(user: int) -> list[int]:
    """Items that a user watched: none to seven, so that some histories are empty and some are cut."""
    return [int(user * 3 + k) % ITEMS for k in range(user % 8)]


def _with_unknowns(labels: npt.NDArray[np.float64], rng: np.random.Generator) -> list[float | None]:
    unknown = rng.random(len(labels)) < 0.2
    return [None if missing else float(label) for label, missing in zip(labels, unknown, strict=True)]
