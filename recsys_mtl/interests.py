"""Task-specific interests: behaviour sequences encoded for every task by one Transformer.

The task-specific interest module of DTRN (Liu et al., CIKM 2023, arXiv 2308.05996), reconstructed. That a
hyper-network of task and behaviour makes the layer norms of a shared Transformer is the paper's, the rest is ours.
"""

import math

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from recsys_mtl.config import Config
from recsys_mtl.features import Counterparts, FeatureLayout, Features, Sequence
from recsys_mtl.histories import Packing, full_precision


class InterestsConfig(Config):
    """Sizes of the Transformer that tasks and behaviours share, and of what tells them apart."""

    dim: PositiveInt = 24
    """Width of an interest, and of an event inside the Transformer."""
    num_layers: PositiveInt = 1
    """Blocks of the Transformer."""
    num_heads: PositiveInt = 2
    """Attention heads of each block, which divide ``dim`` among themselves."""
    max_events: PositiveInt = 20
    """Events of a sequence that are read, the most recent ones."""
    hyper_dim: PositiveInt = 16
    """Width of the task and behaviour embeddings that the hyper-network reads."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "InterestsConfig":
        if self.dim % self.num_heads:
            raise ValueError(f"dim must be a multiple of num_heads, {self.num_heads}; it is {self.dim}")
        return self


class TaskInterests(nn.Module):
    """One interest for every task and behaviour: its events, encoded for the task, weighted by fit to the candidate.

    Tensors have N events, T tasks, S behaviours (the sequences), J = S·B histories and D = ``dim`` numbers.
    """

    def __init__(self, config: InterestsConfig, layout: FeatureLayout, num_tasks: int) -> None:
        super().__init__()
        self.max_events = config.max_events
        self.projections = nn.ModuleList(nn.Linear(sequence.dim, config.dim) for sequence in layout.sequences)
        self.position_LD = nn.Parameter(0.1 * torch.randn(config.max_events, config.dim))
        self.hyper = HyperNetwork(config, num_tasks, len(layout.sequences))
        self.blocks = nn.ModuleList(Block(config.dim, config.num_heads) for _ in range(config.num_layers))
        self.counterparts = Counterparts(layout)
        self.queries = nn.ModuleList(Query(sequence, config.dim) for sequence in layout.sequences)

    def forward(self, features: Features) -> Tensor:
        """Return ``r_BTSD``; a row without events of a behaviour gives zeros."""
        packing = Packing.of(features.lengths, self.max_events)
        with full_precision(features.fields_BX.device):
            r_JTD = self._fitting(self.encoded(features, packing), features.fields_BX, packing)
        return r_JTD.view(len(self.queries), features.fields_BX.shape[0], *r_JTD.shape[1:]).permute(1, 2, 0, 3)

    def encoded(self, features: Features, packing: Packing) -> Tensor:
        """Return the events ``h_NTD`` as every task sees them, whatever the candidate."""
        events = packing.events(features.sequences, features.lengths)
        h_ND = torch.cat([project(e_nD) for project, e_nD in zip(self.projections, events, strict=True)])
        h_NTD = (h_ND + self.position_LD.index_select(0, packing.position_N)).unsqueeze(1)  # T is 1 up to a norm
        behaviour_N = packing.history_N // features.fields_BX.shape[0]
        for block, norms_42STD in zip(self.blocks, self.hyper(), strict=True):
            h_NTD = block(h_NTD, norms_42STD.index_select(2, behaviour_N), packing)
        return h_NTD

    def asked(self, fields_BX: Tensor) -> list[Tensor]:
        """Return ``q_BD`` of each behaviour."""
        return [query(q_BQ) for query, q_BQ in zip(self.queries, self.counterparts(fields_BX), strict=True)]

    def _fitting(self, h_NTD: Tensor, fields_BX: Tensor, packing: Packing) -> Tensor:
        """Return ``r_JTD``, each history's events summed by a softmax over their fit to the candidate."""
        q_JD = torch.cat(self.asked(fields_BX))
        q_ND1 = q_JD.index_select(0, packing.history_N).unsqueeze(2)
        absent_N1 = ~packing.present_N.unsqueeze(1)
        fit_NT = (h_NTD @ q_ND1).squeeze(2)
        least = torch.finfo(fit_NT.dtype).min
        fit_NT = fit_NT.masked_fill(absent_N1, least)
        weights = [fit_PLT.softmax(1) for fit_PLT in packing.padded(fit_NT, fill=least)]
        # A history without events has a softmax too where every place is computed, hence the second mask.
        weight_NT = packing.unpadded(weights).masked_fill(absent_N1, 0.0)
        return packing.summed(weight_NT.unsqueeze(2) * h_NTD)


class HyperNetwork(nn.Module):
    """Scales and shifts of all layer norms, from the embeddings of a task and a behaviour."""

    def __init__(self, config: InterestsConfig, num_tasks: int, num_behaviours: int) -> None:
        super().__init__()
        self.task_TH = nn.Parameter(torch.randn(num_tasks, config.hyper_dim))
        self.behaviour_SH = nn.Parameter(torch.randn(num_behaviours, config.hyper_dim))
        self.shape = (config.num_layers, 2, 2, config.dim)
        self.first = nn.Linear(2 * config.hyper_dim, 2 * config.hyper_dim)
        self.last = nn.Linear(2 * config.hyper_dim, math.prod(self.shape))
        # Near the plain layer norm, yet not at it: what lies below would not learn from the first step.
        for parameter in self.last.parameters():
            nn.init.normal_(parameter, std=0.02)

    def forward(self) -> Tensor:
        """Return scale - 1 and shift of both norms of every block (blocks, 2, 2, S, T, D)."""
        S, T = self.behaviour_SH.shape[0], self.task_TH.shape[0]
        pair_STH = torch.cat([self.task_TH.expand(S, T, -1), self.behaviour_SH.unsqueeze(1).expand(S, T, -1)], dim=2)
        norms_STJ: Tensor = self.last(self.first(pair_STH).relu())
        return norms_STJ.view(S, T, *self.shape).permute(2, 3, 4, 0, 1, 5)

    def __call__(self) -> Tensor:
        return super().__call__()  # type: ignore[no-any-return]


class Block(nn.Module):
    """h ← h + Attention(Norm(h)); h ← h + FFN(Norm(h)), where every task and behaviour has norms of its own."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)  # the norm's shift does what a bias would
        self.out = nn.Linear(dim, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, h_NTD: Tensor, norms_22NTD: Tensor, packing: Packing) -> Tensor:
        """Return ``h_NTD``."""
        before_attention, before_ffn = norms_22NTD.unbind(0)
        h_NTD = h_NTD + self.out(self._attention(_norm(h_NTD, before_attention), packing))
        return h_NTD + self.ffn(_norm(h_NTD, before_ffn))  # type: ignore[no-any-return]

    def _attention(self, x_NTD: Tensor, packing: Packing) -> Tensor:
        T, D = x_NTD.shape[1:]
        # Heads of all tasks side by side, K of them: grids are views then, and so is what attention reads of them.
        x_NKd = [x.reshape(-1, T * self.num_heads, D // self.num_heads) for x in self.qkv(x_NTD).chunk(3, dim=2)]
        # The first place counts as an event, for a softmax over none is not a number; its result is never used.
        seen_N = packing.present_N | (packing.position_N == 0)
        grids = zip(*map(packing.padded, x_NKd), packing.padded(seen_N, fill=False), strict=True)
        return packing.unpadded([_attended(*grid) for grid in grids]).view(-1, T, D)


def _attended(q_PLKd: Tensor, k_PLKd: Tensor, v_PLKd: Tensor, seen_PL: Tensor) -> Tensor:
    """Return what every event of a history draws from the others, all heads side by side (P, L, T·D)."""
    q, k, v = (x_PLKd.transpose(1, 2) for x_PLKd in (q_PLKd, k_PLKd, v_PLKd))
    y_PKLd = scaled_dot_product_attention(q, k, v, attn_mask=seen_PL[:, None, None])
    return y_PKLd.transpose(1, 2).flatten(2)


def _norm(x_NTD: Tensor, norm_2NTD: Tensor) -> Tensor:
    """Layer norm with the scale and shift of each event's task and behaviour."""
    scale_NTD, shift_NTD = norm_2NTD.unbind(0)
    return torch.addcmul(shift_NTD, layer_norm(x_NTD, x_NTD.shape[-1:]), 1 + scale_NTD)


class Query(nn.Module):
    """What a sequence's events are compared with: the candidate's counterparts of its columns, projected.

    Without a counterpart it is zero, to which all events fit alike: the interest is their mean.
    """

    def __init__(self, sequence: Sequence, dim: int) -> None:
        super().__init__()
        width = sum(column.dim for column in sequence.columns if column.target is not None)
        self.dim = dim
        self.linear = nn.Linear(width, dim) if width else None

    def forward(self, q_BQ: Tensor) -> Tensor:
        """Return ``q_BD``, divided by √D: a dot product of it does not grow with the width."""
        if self.linear is None:
            return q_BQ.new_zeros(q_BQ.shape[0], self.dim)
        q_BD: Tensor = self.linear(q_BQ)
        return q_BD / math.sqrt(self.dim)
