"""The shared bottom: all tasks read the same representation."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from recsys_mtl.bottoms.base import Bottom
from recsys_mtl.features import FeatureLayout, Features
from recsys_mtl.layers import MLP, LayerStyle
from recsys_mtl.sequences import AttentionConfig, SequenceConfig
from recsys_mtl.tasks import Task


class SharedConfig(LayerStyle):
    """Fields, dense inputs and pooled sequences side by side, then an optional MLP."""

    kind: Literal["shared"] = "shared"
    sequences: SequenceConfig = AttentionConfig()
    """How a sequence becomes one vector."""
    hidden: tuple[PositiveInt, ...] = ()
    """Widths of the MLP that all tasks share; none for models whose experts read the inputs themselves."""
    embedding_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the embedded inputs that are dropped in training; dense inputs are kept, since they do not overfit."""

    def build(self, layout: FeatureLayout, tasks: tuple[Task, ...]) -> "SharedBottom":  # noqa: ARG002  a bottom's signature
        """Make the bottom; it is the same for any ``tasks``."""
        return SharedBottom(self, layout)


class SharedBottom(Bottom):
    """G = 1: one representation for all tasks."""

    def __init__(self, config: SharedConfig, layout: FeatureLayout) -> None:
        super().__init__()
        self.encoder = config.sequences.build(layout)
        in_dim = layout.fields_dim + layout.num_dense + sum(sequence.dim for sequence in layout.sequences)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.mlp = MLP(in_dim, config.hidden, config)
        self.out_dim = self.mlp.out_dim

    def forward(self, features: Features) -> Tensor:
        """Return ``x_BGR`` with G = 1."""
        embedded_BX = self.dropout(torch.cat([features.fields_BX, *self.encoder(features)], dim=1))
        return self.mlp(torch.cat([embedded_BX, features.dense_BC], dim=1)).unsqueeze(1)
