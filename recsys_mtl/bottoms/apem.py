"""Adaptive pattern extraction (Tao et al., arXiv 2301.02494; as TAFE: RecSys 2023, doi 10.1145/3604915.3608772).

A reconstruction: the abstracts are all that was read. They name the parts, a group Transformer of modified set
attention with squeeze-and-excitation and a selector with adaptive task-indicator vectors; the equations are ours. So is
what stands beside the selected patterns in the output: the inputs themselves.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from recsys_mtl.bottoms.base import Bottom
from recsys_mtl.config import ConfigError
from recsys_mtl.features import FeatureLayout, Features
from recsys_mtl.layers import MLP, GroupedLinear, GroupedMLP, LayerStyle
from recsys_mtl.norms import GroupedLayerNorm
from recsys_mtl.sequences import AttentionConfig, SequenceConfig
from recsys_mtl.set_attention import Block, Patterns, TokensRead
from recsys_mtl.tasks import Task


class APEMConfig(LayerStyle):
    """Patterns of each impression, extracted from its features as a set, from which each task selects."""

    kind: Literal["apem"] = "apem"
    sequences: SequenceConfig = AttentionConfig()
    """How a sequence becomes one vector."""
    dim: PositiveInt = 32
    """Width of tokens, patterns and what a task selects."""
    dense_tokens: PositiveInt = 4
    """Tokens that the dense inputs become together."""
    num_patterns: Annotated[int, Field(ge=2)] = 16
    """Patterns of an impression: learnt inducing vectors that read its tokens."""
    num_layers: PositiveInt = 2
    """Layers of set attention. All but the last rewrite the tokens from the patterns."""
    num_heads: PositiveInt = 2
    """Heads of each attention; a divisor of ``dim``."""
    excitation: bool = True
    """Weigh an impression's patterns by squeeze-and-excitation."""
    selector: bool = True
    """Each task selects among the patterns; otherwise all tasks read their mean."""
    adaptive: bool = True
    """The vectors by which tasks select depend on the impression. Without ``selector`` there are none."""
    keep_inputs: bool = True
    """Put the embedded inputs and the dense ones beside what a task selects, which is ``dim`` numbers alone."""
    hidden: tuple[PositiveInt, ...] = ()
    """Widths of an MLP on each task's representation, the same for all tasks."""
    embedding_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the embedded inputs that are dropped in training; dense inputs are kept, since they do not overfit."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "APEMConfig":
        if self.dim % self.num_heads:
            raise ConfigError([f"num_heads: {self.num_heads} does not divide dim, which is {self.dim}"])
        return self

    def build(self, layout: FeatureLayout, tasks: tuple[Task, ...]) -> "APEM":
        """Make the bottom for ``tasks``."""
        return APEM(self, layout, len(tasks))


class APEM(Bottom):
    """G = T: what each task selects, beside the inputs; G = 1 without a selector."""

    def __init__(self, config: APEMConfig, layout: FeatureLayout, num_tasks: int) -> None:
        super().__init__()
        self.encoder = config.sequences.build(layout)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.tokens = Tokens(layout, config.dim, config.dense_tokens)
        self.transformer = GroupTransformer(config)
        self.selector = Selector(num_tasks, config.dim, adaptive=config.adaptive) if config.selector else None
        inputs_dim = sum(self.tokens.widths) + layout.num_dense
        self.mixer = Mixer(config, inputs_dim) if config.hidden else None
        self.keep_inputs = config.keep_inputs
        self.out_dim = config.hidden[-1] if config.hidden else config.dim + self.keep_inputs * inputs_dim

    def forward(self, features: Features) -> Tensor:
        """Return ``x_BGR``."""
        embedded_BX = self.dropout(torch.cat([features.fields_BX, *self.encoder(features)], dim=1))
        pattern_BMD = self.transformer(self.tokens(embedded_BX, features.dense_BC))
        z_BGD: Tensor = pattern_BMD.mean(1, keepdim=True) if self.selector is None else self.selector(pattern_BMD)
        x_BX = torch.cat([embedded_BX, features.dense_BC], dim=1)
        if self.mixer is not None:
            return self.mixer(x_BX, z_BGD)  # type: ignore[no-any-return]
        if not self.keep_inputs:
            return z_BGD
        return torch.cat([x_BX.unsqueeze(1).expand(-1, z_BGD.shape[1], -1), z_BGD], dim=2)


class Tokens(nn.Module):
    """Every field and every pooled sequence as a token, by a linear map of its own, and several of the dense inputs.

    Each token is normalised, with a scale and a shift of its own. Embeddings start small: without that a token would be
    its bias, and attention would read the same from every impression. Maps from one width are one batched matmul.
    Tokens stand in the order of the widths: they are a set.
    """

    def __init__(self, layout: FeatureLayout, dim: int, dense_tokens: int) -> None:
        super().__init__()
        self.dim = dim
        self.widths = [*(field.dim for field in layout.fields), *(sequence.dim for sequence in layout.sequences)]
        self.places = [
            [i for i, other in enumerate(self.widths) if other == width] for width in sorted(set(self.widths))
        ]
        self.maps = nn.ModuleList(
            GroupedLinear(len(same), self.widths[same[0]], dim, bias=False) for same in self.places
        )
        self.dense = nn.Linear(layout.num_dense, dense_tokens * dim, bias=False) if layout.num_dense else None
        num_tokens = len(self.widths) + (dense_tokens if layout.num_dense else 0)
        self.norm = GroupedLayerNorm(num_tokens, dim, eps=1e-5)

    def forward(self, embedded_BX: Tensor, dense_BC: Tensor) -> Tensor:
        """Return ``token_BND``."""
        parts = torch.split(embedded_BX, self.widths, dim=1)
        by_width = zip(self.maps, self.places, strict=True)
        tokens = [linear(torch.stack([parts[i] for i in same], dim=1)) for linear, same in by_width]
        if self.dense is not None:
            tokens.append(self.dense(dense_BC).view(dense_BC.shape[0], -1, self.dim))
        return self.norm(torch.cat(tokens, dim=1))  # type: ignore[no-any-return]


class GroupTransformer(nn.Module):
    """Layers of patterns; the tokens of a layer have read the patterns of the one before."""

    def __init__(self, config: APEMConfig) -> None:
        super().__init__()
        self.patterns = nn.ModuleList(
            Patterns(config.num_patterns, config.dim, config.num_heads, excitation=config.excitation)
            for _ in range(config.num_layers)
        )
        self.rewrites = nn.ModuleList(
            Block(TokensRead(config.dim, config.num_heads), config.dim) for _ in range(config.num_layers - 1)
        )

    def forward(self, token_BND: Tensor) -> Tensor:
        """Return ``pattern_BMD``."""
        for patterns, rewrite in zip(self.patterns[:-1], self.rewrites, strict=True):
            token_BND = rewrite(token_BND, patterns(token_BND))
        return self.patterns[-1](token_BND)  # type: ignore[no-any-return]


class Selector(nn.Module):
    """z_t = a_t H with a_t = softmax(q_t Hᵀ/√D), q_t = q_t⁰ + MLP_t(mean pattern).

    The MLP is each task's own: a shared one would move all tasks' choices in the same direction.
    """

    def __init__(self, num_tasks: int, dim: int, *, adaptive: bool) -> None:
        super().__init__()
        self.indicator_TD = nn.Parameter(torch.randn(num_tasks, dim))
        layers = (GroupedMLP(num_tasks, dim, (dim,)), GroupedLinear(num_tasks, dim, dim))
        self.adapt = nn.Sequential(*layers) if adaptive else None

    def forward(self, pattern_BMD: Tensor) -> Tensor:
        """Return ``z_BTD``."""
        return self.weights(pattern_BMD) @ pattern_BMD

    def weights(self, pattern_BMD: Tensor) -> Tensor:
        """Return what share of its representation each task takes from each pattern (B, T, M)."""
        query_BTD = self.indicator_TD.expand(pattern_BMD.shape[0], -1, -1)
        if self.adapt is not None:
            query_BTD = query_BTD + self.adapt(pattern_BMD.mean(1, keepdim=True))
        score_BTM = query_BTD @ pattern_BMD.transpose(1, 2)
        return (score_BTM / math.sqrt(pattern_BMD.shape[2])).softmax(2)


class Mixer(nn.Module):
    """What tasks select beside the inputs, then the MLP that the tasks share.

    The first layer is linear in the two, so it meets the inputs once and not once per task.
    """

    def __init__(self, config: APEMConfig, inputs_dim: int) -> None:
        super().__init__()
        width = config.hidden[0]
        self.from_selected = nn.Linear(config.dim, width)
        self.from_inputs = nn.Linear(inputs_dim, width, bias=False) if config.keep_inputs else None
        self.rest = nn.Sequential(*config.after_linear(1, width), MLP(width, config.hidden[1:], config))

    def forward(self, x_BX: Tensor, z_BGD: Tensor) -> Tensor:
        """Return ``x_BGR``."""
        h_BGH: Tensor = self.from_selected(z_BGD)
        if self.from_inputs is not None:
            h_BGH = h_BGH + self.from_inputs(x_BX).unsqueeze(1)
        return self.rest(h_BGH.flatten(0, 1)).view(*h_BGH.shape[:2], -1)  # type: ignore[no-any-return]
