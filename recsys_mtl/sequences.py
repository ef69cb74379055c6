"""Sequence encoders: a user's events to one vector."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.features import Counterparts, FeatureLayout, Features, Sequence
from recsys_mtl.histories import Packing, full_precision, mean_of_rows
from recsys_mtl.layers import ACTIVATIONS, MLP, Activation, LayerStyle


class SequenceEncoder(nn.Module, ABC):
    """Pools each sequence of an impression into one vector of the sequence's width."""

    @abstractmethod
    def forward(self, features: Features) -> list[Tensor]:
        """Return one (B, D) tensor per sequence; a row without events gives zeros."""

    def __call__(self, features: Features) -> list[Tensor]:
        with full_precision(features.fields_BX.device):
            return super().__call__(features)  # type: ignore[no-any-return]


class MeanConfig(Config):
    """The average of a sequence's events."""

    kind: Literal["mean"] = "mean"

    def build(self, layout: FeatureLayout) -> "MeanEncoder":  # noqa: ARG002  an encoder's signature
        """Make the encoder, the same for any ``layout``."""
        return MeanEncoder()


class MeanEncoder(SequenceEncoder):
    """Averages events."""

    def forward(self, features: Features) -> list[Tensor]:
        """Return one (B, D) tensor per sequence."""
        pairs = zip(features.sequences, features.lengths, strict=True)
        return [mean_of_rows(e_ND, length_B) for e_ND, length_B in pairs]


class AttentionConfig(Config):
    """Target attention (Zhou et al., Deep Interest Network, KDD 2018): events weigh by their fit to the candidate."""

    kind: Literal["attention"] = "attention"
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32,)
    """Widths of the activation unit, an MLP over event, candidate, their difference and their product."""
    activation: Activation = "relu"
    """Between the unit's layers."""
    normalise: bool = True
    """Softmax over the events. The paper leaves the weights unnormalised, so that their sum keeps intensity."""

    def build(self, layout: FeatureLayout) -> "AttentionEncoder":
        """Make the encoder.

        Raises:
            ConfigError: a sequence none of whose columns has a counterpart in the candidate.
        """
        return AttentionEncoder(self, layout)


class AttentionEncoder(SequenceEncoder):
    """One activation unit per sequence."""

    def __init__(self, config: AttentionConfig, layout: FeatureLayout) -> None:
        super().__init__()
        slices = layout.slices()
        self.counterparts = Counterparts(layout)
        self.units = nn.ModuleList(ActivationUnit(config, sequence, slices) for sequence in layout.sequences)

    def forward(self, features: Features) -> list[Tensor]:
        """Return one (B, D) tensor per sequence."""
        queries = self.counterparts(features.fields_BX)
        events = zip(self.units, queries, features.sequences, features.lengths, strict=True)
        return [unit(q_BQ, e_ND, length_B) for unit, q_BQ, e_ND, length_B in events]


class ActivationUnit(nn.Module):
    """Scores every event of one sequence against the candidate and sums the events by their scores.

    DIN's unit is an MLP over [q, k, q - k, q * k]. Its first layer is linear in them, so the difference folds into the
    weights of the candidate q and the event k, and the product into weights of k that are the row's own:
    W k + P (q * k) = (W + P diag(q)) k. Neither [k, q * k] nor anything else as large as the events is formed.
    A column without a counterpart in the candidate counts through W alone.
    """

    spread_QD: Tensor

    def __init__(self, config: AttentionConfig, sequence: Sequence, slices: dict[str, slice]) -> None:
        super().__init__()
        targets = [column.target for column in sequence.columns if column.target is not None]
        if not targets:
            reason = f"attention needs a target in the candidate, which no column of {sequence.name!r} has; use mean"
            raise ConfigError([f"model.bottom.sequences.kind: {reason}"])
        self.max_length = sequence.max_length
        self.query = [slices[target] for target in targets]
        matched = [column.target is not None for column in sequence.columns for _ in range(column.dim)]
        # Rows of a unit matrix: they put each number of the candidate where the event has its counterpart.
        self.register_buffer("spread_QD", torch.eye(sequence.dim)[torch.tensor(matched)], persistent=False)
        query_dim, width = sum(matched), config.hidden[0]
        self.from_query = nn.Linear(query_dim, width)
        self.from_event = nn.Linear(sequence.dim, width, bias=False)
        self.from_product = nn.Linear(query_dim, width, bias=False)
        self.activation = ACTIVATIONS[config.activation]()
        self.rest = MLP(width, config.hidden[1:], LayerStyle(activation=config.activation))
        self.score = nn.Linear(config.hidden[-1], 1, bias=not config.normalise)  # a softmax does not see a bias
        self.normalise = config.normalise

    def forward(self, q_BQ: Tensor, e_ND: Tensor, length_B: Tensor) -> Tensor:
        """Return the weighted sum of each row's events (B, D)."""
        packing = Packing.of([length_B], self.max_length)
        (e_nD,) = packing.events([e_ND], [length_B])
        grids = zip(packing.rows(q_BQ), packing.padded(e_nD), packing.rows(packing.length_J), strict=True)
        product_DH = (self.from_product.weight @ self.spread_QD).T
        return packing.unrowed([self._pool(product_DH, *grid) for grid in grids])

    def _pool(self, product_DH: Tensor, q_BQ: Tensor, e_BLD: Tensor, length_B: Tensor) -> Tensor:
        """Return the weighted sum of events (B, D) of rows that have room for L events each."""
        # Each row's weights of its events in the first layer.
        weight_BDH = (q_BQ @ self.spread_QD).unsqueeze(2) * product_DH + self.from_event.weight.T
        hidden_BLH = torch.baddbmm(self.from_query(q_BQ).unsqueeze(1), e_BLD, weight_BDH)
        score_BL: Tensor = self.score(self.rest(self.activation(hidden_BLH))).squeeze(2)
        padding_BL = torch.arange(e_BLD.shape[1], device=e_BLD.device) >= length_B.unsqueeze(1)
        if self.normalise:  # a row without events has a softmax too, hence the second mask
            score_BL = score_BL.masked_fill(padding_BL, torch.finfo(score_BL.dtype).min).softmax(1)
        return (score_BL.masked_fill(padding_BL, 0.0).unsqueeze(1) @ e_BLD).squeeze(1)


SequenceConfig = Annotated[MeanConfig | AttentionConfig, Field(discriminator="kind")]
