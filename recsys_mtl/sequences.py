"""Sequence encoders: a user's events to one vector."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from recsys_mtl.config import Config
from recsys_mtl.features import Features, FeatureLayout, Sequence
from recsys_mtl.layers import ACTIVATIONS, MLP, Activation


class SequenceEncoder(nn.Module, ABC):
    """Pools each sequence of an impression into one vector of the sequence's width."""

    @abstractmethod
    def forward(self, features: Features) -> list[Tensor]:
        """Return one (B, D) tensor per sequence; a row without events gives zeros."""

    def __call__(self, features: Features) -> list[Tensor]:
        return super().__call__(features)  # type: ignore[no-any-return]


class MeanConfig(Config):
    """The average of a sequence's events."""

    kind: Literal["mean"] = "mean"

    def build(self, layout: FeatureLayout) -> "MeanEncoder":
        """Make the encoder for the sequences of ``layout``."""
        return MeanEncoder()


class MeanEncoder(SequenceEncoder):
    """Averages events."""

    def forward(self, features: Features) -> list[Tensor]:
        """Return one (B, D) tensor per sequence."""
        pairs = zip(features.sequences, features.lengths, strict=True)
        return [e_BLD.sum(1) / length_B.clamp(min=1).unsqueeze(1) for e_BLD, length_B in pairs]


class AttentionConfig(Config):
    """Target attention (Zhou et al., Deep Interest Network, KDD 2018): events weighted by their fit to the candidate."""

    kind: Literal["attention"] = "attention"
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32,)
    """Widths of the activation unit, an MLP over event, candidate, their difference and their product."""
    activation: Activation = "relu"
    normalise: bool = True
    """Softmax over the events. The paper leaves the weights unnormalised, so that their sum keeps intensity."""

    def build(self, layout: FeatureLayout) -> "AttentionEncoder":
        """Make the encoder.

        Raises:
            ValueError: a sequence none of whose columns has a counterpart in the candidate.
        """
        return AttentionEncoder(self, layout)


class AttentionEncoder(SequenceEncoder):
    """One activation unit per sequence."""

    def __init__(self, config: AttentionConfig, layout: FeatureLayout) -> None:
        super().__init__()
        slices = layout.slices()
        self.units = nn.ModuleList(ActivationUnit(config, sequence, slices) for sequence in layout.sequences)

    def forward(self, features: Features) -> list[Tensor]:
        """Return one (B, D) tensor per sequence."""
        events = zip(self.units, features.sequences, features.lengths, strict=True)
        return [unit(features.fields_BX, e_BLD, length_B) for unit, e_BLD, length_B in events]


class ActivationUnit(nn.Module):
    """Scores every event of one sequence against the candidate and sums them by their scores.

    The first layer of DIN's unit is linear in [q, k, q - k, q * k]; q's share is the same for all events of a row and is
    computed once, and the difference folds into the weights of q and k.
    """

    def __init__(self, config: AttentionConfig, sequence: Sequence, slices: dict[str, slice]) -> None:
        super().__init__()
        matched = [column.target is not None for column in sequence.columns]
        if not any(matched):
            raise ValueError(f"sequence {sequence.name!r} has no column with a target in the candidate; use kind: mean")
        self.query = [slices[column.target] for column in sequence.columns if column.target is not None]
        widths = [column.dim for column in sequence.columns]
        keep = torch.tensor([m for m, width in zip(matched, widths, strict=True) for _ in range(width)])
        self.register_buffer("matched_D", keep.nonzero().squeeze(1), persistent=False)
        self.all_matched = all(matched)
        width = int(keep.sum())
        self.from_query = nn.Linear(width, config.hidden[0])
        self.from_event = nn.Linear(2 * width, config.hidden[0], bias=False)
        self.rest = nn.Sequential(
            ACTIVATIONS[config.activation](),
            MLP(config.hidden[0], config.hidden[1:], activation=config.activation),
            nn.Linear(config.hidden[-1], 1),
        )
        self.normalise = config.normalise

    def forward(self, fields_BX: Tensor, e_BLD: Tensor, length_B: Tensor) -> Tensor:
        """Return the weighted sum of events (B, D)."""
        q_B1D = torch.cat([fields_BX[:, part] for part in self.query], 1).unsqueeze(1)
        k_BLD = e_BLD if self.all_matched else e_BLD.index_select(2, self.matched_D)
        hidden_BLH = self.from_event(torch.cat([k_BLD, k_BLD * q_B1D], 2)) + self.from_query(q_B1D)
        score_BL = self.rest(hidden_BLH).squeeze(2)
        padding_BL = torch.arange(e_BLD.shape[1], device=e_BLD.device) >= length_B.unsqueeze(1)
        if self.normalise:
            weight_BL = score_BL.masked_fill(padding_BL, -1e9).softmax(1).masked_fill(padding_BL, 0.0)
        else:
            weight_BL = score_BL.masked_fill(padding_BL, 0.0)
        return (weight_BL.unsqueeze(1) @ e_BLD).squeeze(1)


SequenceConfig = Annotated[MeanConfig | AttentionConfig, Field(discriminator="kind")]
