"""Sizes of models."""

from typing import Any

import pytest

from benchmarks.quality.flops import BATCH_ROWS, Size, multiply_adds, off_target, random_features, size_of
from benchmarks.quality.plan import Data
from pipelines.run import TrainRun
from recsys_mtl.config import validate
from recsys_mtl.embeddings import feature_layout
from recsys_mtl.model import ModelConfig


def model(**fields: Any) -> ModelConfig:
    shared = {"kind": "shared", "hidden": [16], "sequences": {"kind": "mean"}}
    return validate(ModelConfig, {"bottom": shared, "heads": {"kind": "towers", "hidden": [8]}} | fields)


def test_multiply_adds_of_a_perceptron_are_its_weights(data: Data) -> None:
    layout = feature_layout(data.spec)
    ranker = model().build_ranker(layout, data.spec.tasks)
    in_dim = layout.fields_dim + layout.num_dense + sum(sequence.dim for sequence in layout.sequences)
    by_hand = in_dim * 16 + 3 * (16 * 8 + 8)
    for rows in (1, 7):
        assert multiply_adds(ranker, random_features(rows, layout)) == rows * by_hand


def test_attention_costs_more_than_a_mean(data: Data) -> None:
    layout = feature_layout(data.spec)
    rankers = [
        model(bottom={"kind": "shared", "sequences": {"kind": kind}}).build_ranker(layout, data.spec.tasks)
        for kind in ("mean", "attention")
    ]
    mean, attention = (multiply_adds(ranker, random_features(2, layout)) for ranker in rankers)
    events = 2 * layout.sequences[0].max_length
    assert attention - mean > events * layout.sequences[0].dim * 32


def test_the_size_of_a_run(data: Data) -> None:
    run = validate(TrainRun, {"data": {"path": "x"}, "model": model().model_dump(), "tasks": {"include": ["click"]}})
    size = size_of(run, data.spec)
    layout = feature_layout(data.spec)
    in_dim = layout.fields_dim + layout.num_dense + sum(sequence.dim for sequence in layout.sequences)
    assert size.dense == in_dim * 16 + 16 + 16 * 8 + 8 + 8 + 1
    assert size.row == size.batch_row == in_dim * 16 + 16 * 8 + 8
    dims = {table: (data.spec.table(table).dim if table != "age" else 0) for table in data.spec.rows}
    buckets = next(feature.dim for feature in data.spec.features if feature.name == "age")  # type: ignore[union-attr]
    assert size.tables == sum(data.spec.rows[table] * (dim or buckets) for table, dim in dims.items())


def test_sizes_add_up() -> None:
    assert Size(1, 2, 3, 4.5) + Size(10, 20, 30, 40.0) == Size(11, 22, 33, 44.5)
    assert BATCH_ROWS > 1


@pytest.mark.parametrize(("dense", "off"), [(110, 0.1), (100, 0.0), (80, -0.2)])
def test_distance_from_the_common_size(dense: int, off: float) -> None:
    assert off_target(dense, 100) == pytest.approx(off)
