"""How large a model is, and how much it computes: weights by part, and multiply-adds of the dense part."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipelines.run import TrainRun
from recsys_mtl.data.spec import Spec
from recsys_mtl.embeddings import Embeddings, feature_layout
from recsys_mtl.features import FeatureLayout, Features
from recsys_mtl.model import Ranker

BATCH_ROWS = 256
"""Rows of the batch that stands for many candidates at once."""


@dataclass(frozen=True)
class Size:
    """What a model costs, look-ups of embeddings apart."""

    dense: int
    """Weights above the tables."""
    tables: int
    """Weights of the embedding tables."""
    row: int
    """Multiply-adds of one row by itself, with sequences at their maximum."""
    batch_row: float
    """Multiply-adds of each row in a batch: less where a model computes something once for all of them."""

    def __add__(self, other: "Size") -> "Size":
        """Size of two models side by side."""
        parts = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Size(*(mine + its for mine, its in parts))


def size_of(run: TrainRun, spec: Spec) -> Size:
    """Build a run's model, without room for its tables, and measure it.

    Raises:
        ConfigError: tasks or model do not fit the data set.
    """
    layout = feature_layout(spec)
    with torch.random.fork_rng():
        ranker = run.model.build_ranker(layout, run.tasks.of(spec.tasks))
        one, many = random_features(1, layout), random_features(BATCH_ROWS, layout)
    tables = Embeddings(spec, torch.device("meta"))
    return Size(
        dense=sum(parameter.numel() for parameter in ranker.parameters()),
        tables=sum(parameter.numel() for parameter in tables.parameters()),
        row=multiply_adds(ranker, one),
        batch_row=multiply_adds(ranker, many) / BATCH_ROWS,
    )


def multiply_adds(ranker: Ranker, features: Features) -> int:
    """Count the multiply-adds of a forward pass: those of matrix products, to which all else is small."""
    ranker.eval()
    # Gradients stay on: without them torch takes fused paths through its own layers, which the counter does not know.
    with FlopCounterMode(display=False) as counter:
        ranker(features)
    return int(counter.get_total_flops()) // 2


def random_features(rows: int, layout: FeatureLayout) -> Features:
    """Embedded rows with sequences of full length."""

    def events(length: int, dim: int) -> Tensor:
        return torch.randn(rows * length, dim)

    return Features(
        fields_BX=torch.randn(rows, layout.fields_dim),
        dense_BC=torch.randn(rows, layout.num_dense),
        sequences=tuple(events(sequence.max_length, sequence.dim) for sequence in layout.sequences),
        lengths=tuple(torch.full((rows,), sequence.max_length) for sequence in layout.sequences),
    )


def off_target(dense: int, target: int) -> float:
    """By what share a model is larger than the common size."""
    return dense / target - 1
