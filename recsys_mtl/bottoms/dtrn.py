"""Deep task-specific bottom representation network (Liu et al., CIKM 2023, arXiv 2308.05996).

A reconstruction: the abstract and summaries of the paper are public, its layer equations and code are not. What they
leave open is decided here and in `recsys_mtl.interests`; docs/models/dtrn.md says what.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from recsys_mtl.bottoms.base import Bottom
from recsys_mtl.features import FeatureLayout, Features
from recsys_mtl.interests import InterestsConfig, TaskInterests
from recsys_mtl.layers import MLP, GroupedLinear, LayerStyle
from recsys_mtl.sequences import AttentionConfig, SequenceConfig
from recsys_mtl.tasks import Task


class DTRNConfig(LayerStyle, InterestsConfig):
    """Interests and weights of the inputs of each task's own, then an optional MLP."""

    kind: Literal["dtrn"] = "dtrn"
    interests: bool = True
    """Encode sequences for each task (task-specific interest module); off, ``sequences`` pools them for all alike."""
    sequences: SequenceConfig = AttentionConfig()
    """How a sequence becomes one vector where ``interests`` is off."""
    refinement: bool = True
    """Weigh every field, interest and number for each task (task-specific refinement module)."""
    refinement_dim: PositiveInt = 32
    """Hidden width of the networks that find these weights."""
    hidden: tuple[PositiveInt, ...] = ()
    """Widths of an MLP over the refined inputs, the same for all tasks; none if experts read the inputs themselves."""
    embedding_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the embedded inputs that are dropped in training; dense inputs are kept, since they do not overfit."""

    @model_validator(mode="after")
    def _sequences_are_pooled_once(self) -> "DTRNConfig":
        if self.interests and self.sequences != AttentionConfig():
            raise ValueError("sequences has no effect while interests is on: leave it out, or set interests=false")
        return self

    def build(self, layout: FeatureLayout, tasks: tuple[Task, ...]) -> "DTRN":
        """Make the bottom for ``tasks``."""
        return DTRN(self, layout, len(tasks))


class DTRN(Bottom):
    """G = T: a representation of each task's own; G = 1 if neither module is in use, for then all are the same."""

    def __init__(self, config: DTRNConfig, layout: FeatureLayout, num_tasks: int) -> None:
        super().__init__()
        own = config.interests and len(layout.sequences) > 0
        self.interests = TaskInterests(config, layout, num_tasks) if own else None
        self.encoder = None if config.interests else config.sequences.build(layout)
        self.dropout = nn.Dropout(config.embedding_dropout)
        interest_dims = [config.dim if own else sequence.dim for sequence in layout.sequences]
        dims = [field.dim for field in layout.fields] + interest_dims + [1] * layout.num_dense
        self.refinement = Refinement(tuple(dims), num_tasks, config.refinement_dim) if config.refinement else None
        self.mlp = MLP(sum(dims), config.hidden, config)
        self.out_dim = self.mlp.out_dim

    def forward(self, features: Features) -> Tensor:
        """Return ``x_BGR``."""
        return self.represent(features, self._histories(features))

    def represent(self, features: Features, histories: list[Tensor]) -> Tensor:
        """Return ``x_BGR`` of fields, numbers, and what was made of the histories: parts (B, 1 or T, ·)."""
        parts = [features.fields_BX.unsqueeze(1), *histories]
        parts = [*(self.dropout(part_BGR) for part_BGR in parts), features.dense_BC.unsqueeze(1)]
        num_inputs = max(part_BGR.shape[1] for part_BGR in parts)
        x_BGR = torch.cat([part_BGR.expand(-1, num_inputs, -1) for part_BGR in parts], dim=2)
        if self.refinement is not None:
            x_BGR = self.refinement(x_BGR)
        return self.mlp(x_BGR.flatten(0, 1)).view(*x_BGR.shape[:2], self.out_dim)

    def _histories(self, features: Features) -> list[Tensor]:
        if self.interests is not None:
            return [self.interests(features).flatten(2)]
        if self.encoder is not None:
            return [pooled_BD.unsqueeze(1) for pooled_BD in self.encoder(features)]
        return []


class Refinement(nn.Module):
    """A weight 2·σ(·) for every unit of the inputs, from a network of each task's own: 2·σ(0) leaves a unit as it is.

    A unit is a field, an interest or a number: what squeeze-and-excitation (Hu et al., CVPR 2018) weighs as a channel.
    """

    unit_R: Tensor

    def __init__(self, dims: tuple[int, ...], num_tasks: int, hidden_dim: int) -> None:
        """``dims`` holds the width of each unit."""
        super().__init__()
        self.squeeze = GroupedLinear(num_tasks, sum(dims), hidden_dim)
        self.excite = GroupedLinear(num_tasks, hidden_dim, len(dims))
        units = torch.arange(len(dims)).repeat_interleave(torch.tensor(dims))
        self.register_buffer("unit_R", units, persistent=False)

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return the weighted inputs ``x_BTR``; ``G`` is 1 or T."""
        weight_BTU = 2 * self.excite(self.squeeze(x_BGR).relu()).sigmoid()
        return weight_BTU.index_select(2, self.unit_R) * x_BGR
