"""The model: one cell of the grid bottom by experts, with heads on top."""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys_mtl.bottoms import BottomConfig
from recsys_mtl.bottoms.base import Bottom
from recsys_mtl.bottoms.shared import SharedConfig
from recsys_mtl.config import Config
from recsys_mtl.data.batch import Batch
from recsys_mtl.data.spec import Spec
from recsys_mtl.embeddings import Embeddings, feature_layout
from recsys_mtl.experts import ExpertsConfig
from recsys_mtl.experts.base import ExpertLayer
from recsys_mtl.experts.direct import DirectConfig
from recsys_mtl.features import FeatureLayout, Features
from recsys_mtl.field_dropout import FieldDropout
from recsys_mtl.heads import HeadsConfig
from recsys_mtl.heads.base import Heads
from recsys_mtl.heads.towers import TowersConfig
from recsys_mtl.tasks import Task


class ModelConfig(Config):
    """Which bottom, experts and heads, and their sizes."""

    field_dropout: dict[str, Annotated[float, Field(ge=0, lt=1)]] = {}
    """Share of training rows, by field, in which the field's embedding is dropped whole: ``{user_id: 0.5}``."""
    bottom: BottomConfig = SharedConfig()
    """From features to what the experts read."""
    experts: ExpertsConfig = DirectConfig()
    """From there to a representation of each task."""
    heads: HeadsConfig = TowersConfig()
    """From there to each task's prediction."""

    def build(self, spec: Spec, tasks: tuple[Task, ...], *, table_device: torch.device | None = None) -> "RankingModel":
        """Make the model for a data set; tables may be on the meta device, to be sharded before they take memory."""
        # The ranker first: its random draws must not depend on the tables.
        ranker = self.build_ranker(feature_layout(spec), tasks)
        return RankingModel(Embeddings(spec, table_device), ranker)

    def build_ranker(self, layout: FeatureLayout, tasks: tuple[Task, ...]) -> "Ranker":
        """Make the dense part: everything above the tables."""
        bottom = self.bottom.build(layout, tasks)
        experts = self.experts.build(bottom.out_dim, tasks)
        heads = self.heads.build(experts.out_dim, tasks)
        return Ranker(FieldDropout(self.field_dropout, layout), bottom, experts, heads)


class Ranker(nn.Module):
    """Features to logits: the dense part, the same on every worker."""

    def __init__(self, field_dropout: nn.Module, bottom: Bottom, experts: ExpertLayer, heads: Heads) -> None:
        super().__init__()
        self.learns_in_bfloat16 = False
        self.field_dropout = field_dropout
        self.bottom, self.experts, self.heads = bottom, experts, heads

    def forward(self, features: Features) -> Tensor:
        """Return ``logits_BT``."""
        features = replace(features, fields_BX=self.field_dropout(features.fields_BX))
        return self.heads(self._represent(features))

    def _represent(self, features: Features) -> Tensor:
        """Return ``h_BTH``."""
        if not (self.learns_in_bfloat16 and self.training):
            return self.experts(self.bottom(features))
        # Weights stay float32: autocast copies them for each step, and casts their gradients back. Heads come after it,
        # since probabilities and their logarithms need all digits.
        with torch.autocast(features.fields_BX.device.type, torch.bfloat16):
            h_BTH = self.experts(self.bottom(features))
        return h_BTH.to(features.fields_BX.dtype)

    def __call__(self, features: Features) -> Tensor:
        return super().__call__(features)  # type: ignore[no-any-return]


class RankingModel(nn.Module):
    """Batch to logits: tables below, ranker above."""

    def __init__(self, embeddings: Embeddings, ranker: Ranker) -> None:
        super().__init__()
        self.embeddings, self.ranker = embeddings, ranker

    def forward(self, batch: Batch) -> Tensor:
        """Return ``logits_BT``: a logit for an event, a value on the transformed scale for an amount."""
        return self.ranker(self.embeddings(batch))

    def __call__(self, batch: Batch) -> Tensor:
        return super().__call__(batch)  # type: ignore[no-any-return]
