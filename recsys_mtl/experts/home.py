"""Hierarchy of multi-gate experts (Wang et al., HoME, KDD 2025).

The paper's full text was not available: this is a reconstruction from its abstract, third-party notes and the public
reproduction closest to it. Sizes are ours.
"""

from collections.abc import Iterator
from itertools import count
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from recsys_mtl.experts.base import ExpertLayer
from recsys_mtl.layers import ExpertBank, Gate, GroupedLinear, LayerStyle, SelfGate
from recsys_mtl.norms import BatchNormConfig, NormConfig
from recsys_mtl.tasks import Task, task_groups

Layers = tuple[Literal["meta", "task"], ...]
SHARED = ("shared",)
Expert = tuple[int, str]
"""Place in the pool of a layer's experts, and name."""
Choices = tuple[tuple[Expert, ...], ...]


class HoMEConfig(LayerStyle):
    """Experts for groups of tasks and for all tasks, then experts for each task on top of them.

    Groups are the tasks' own (``tasks.groups`` changes them). Every mechanism of the paper has a switch.
    """

    kind: Literal["home"] = "home"
    shared_experts: PositiveInt = 2
    """Experts of each layer that all tasks share."""
    group_experts: PositiveInt = 2
    """Experts of each layer that the tasks of a group share, per group."""
    task_experts: PositiveInt = 1
    """Experts of each task's own in the second layer."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64,)
    """Widths of each expert's layers, in both layers of the hierarchy; the last is H."""
    norm: NormConfig = BatchNormConfig()
    """HoME's experts are Linear, BatchNorm, Swish; ``none`` makes them Linear, ReLU."""
    feature_gates: Layers = ("meta", "task")
    """Layers whose groups of experts see the input through a gate of their own."""
    feature_rank: PositiveInt = 16
    """Rank of a feature gate's low-rank maps."""
    feature_loras: PositiveInt = 2
    """Low-rank maps that a feature gate mixes."""
    self_gates: Layers = ("meta", "task")
    """Layers whose own experts also count past the main gate, which then cannot starve them."""
    mask: bool = True
    """Hide the experts of other groups and tasks; without it, every gate chooses from all experts of its layer."""
    gate_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the gates' weights that are dropped in training, against gates that settle on one expert."""

    def build(self, in_dim: int, tasks: tuple[Task, ...]) -> "HoME":
        """Make the layer for ``tasks``."""
        return HoME(self, in_dim, tasks)


class HoME(ExpertLayer):
    """A layer for groups (the paper's meta-abstraction), then one for tasks.

    Where tasks have representations of their own (G = T), a group reads the mean of its tasks' and the shared part the
    mean of all: they see what their readers see, and are evaluated once.
    """

    membership_CT: Tensor
    group_T: Tensor

    def __init__(self, config: HoMEConfig, in_dim: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.out_dim = config.hidden[-1]
        groups = task_groups(tasks)
        members_CT = torch.tensor([[float(task.group == group) for task in tasks] for group in groups])
        self.register_buffer("membership_CT", members_CT / members_CT.sum(1, keepdim=True), persistent=False)
        self.register_buffer("group_T", members_CT.argmax(0), persistent=False)
        self.meta = MetaLayer(config, in_dim, groups)
        self.task = TaskLayer(config, groups, {task.name: task.group for task in tasks})

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``h_BTH``."""
        if x_BGR.shape[1] == 1:
            z_BCH, shared_B1H = self.meta(x_BGR, x_BGR)
        else:
            z_BCH, shared_B1H = self.meta(self.membership_CT @ x_BGR, x_BGR.mean(1, keepdim=True))
        return self.task(z_BCH, shared_B1H, self.group_T)  # type: ignore[no-any-return]

    def input_maps(self) -> list[GroupedLinear]:
        """Return the first layer of the groups' experts, and the gates; none if feature gates multiply the inputs."""
        meta = self.meta
        if isinstance(meta.group_views, FeatureGate):
            return []
        gates = (meta.group_gate, meta.shared_gate, meta.group_self, meta.shared_self)
        banks = (meta.group_bank, meta.shared_bank)
        return [*(bank.input_map for bank in banks), *(gate.linear for gate in gates if gate is not None)]


class MetaLayer(nn.Module):
    """z_c = Σ gate_c(v) {E_shared, E_c} + selfgate_c(v) {E_c}; the shared part mixes the experts of all groups."""

    choice_CE: Tensor

    def __init__(self, config: HoMEConfig, in_dim: int, groups: tuple[str, ...]) -> None:
        super().__init__()
        own, shared = _experts((groups, config.group_experts), (SHARED, config.shared_experts))
        pool = sum(own + shared, ())
        choices = tuple(mine + shared[0] if config.mask else pool for mine in own)
        self.group_views = _feature_gate(config, "meta", len(groups), in_dim)
        self.shared_views = _feature_gate(config, "meta", 1, in_dim)
        self.group_bank = ExpertBank(_names(own), in_dim, config.hidden, config)
        self.shared_bank = ExpertBank(_names(shared), in_dim, config.hidden, config)
        self.group_gate = Gate(in_dim, groups, _names(choices), dropout=config.gate_dropout)
        self.shared_gate = Gate(in_dim, SHARED, _names((pool,)), dropout=config.gate_dropout)
        self.group_self = _self_gate(config, "meta", in_dim, groups, own)
        self.shared_self = _self_gate(config, "meta", in_dim, SHARED, shared)
        self.register_buffer("choice_CE", _places(choices), persistent=False)

    def forward(self, v_BGR: Tensor, shared_B1R: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``z_BCH`` of the groups and ``z_B1H`` of the shared part; ``G`` is 1 or the number of groups."""
        group_BCEH = self.group_bank(self.group_views(v_BGR))
        shared_B1EH = self.shared_bank(self.shared_views(shared_B1R))
        pool_BPH = torch.cat([group_BCEH.flatten(1, 2), shared_B1EH.squeeze(1)], dim=1)
        z_BCH = _mix(self.group_gate(v_BGR), self.choice_CE, pool_BPH) + _past(self.group_self, v_BGR, group_BCEH)
        z_B1H = self.shared_gate(shared_B1R) @ pool_BPH + _past(self.shared_self, shared_B1R, shared_B1EH)
        return z_BCH, z_B1H


class TaskLayer(nn.Module):
    """z_t = Σ gate_t(z_c ⊕ z_shared) {E_shared(z_shared), E_c(z_c), E_t(z_c)} + selfgate_t(z_c) {E_t(z_c)}."""

    choice_TE: Tensor

    def __init__(self, config: HoMEConfig, groups: tuple[str, ...], tasks: dict[str, str]) -> None:
        """``tasks`` gives each task's group."""
        super().__init__()
        width, bank = config.hidden[-1], (config.hidden[-1], config.hidden, config)
        own, of_group, shared = _experts(
            (tuple(tasks), config.task_experts), (groups, config.group_experts), (SHARED, config.shared_experts)
        )
        pool = sum(own + of_group + shared, ())
        seen = zip(own, (of_group[groups.index(group)] for group in tasks.values()), strict=True)
        choices = tuple(mine + ours + shared[0] if config.mask else pool for mine, ours in seen)
        self.own_views = _feature_gate(config, "task", len(tasks), width)
        self.group_views = _feature_gate(config, "task", len(groups), width)
        self.shared_views = _feature_gate(config, "task", 1, width)
        self.own_bank, self.group_bank, self.shared_bank = (
            ExpertBank(_names(experts), *bank) for experts in (own, of_group, shared)
        )
        self.gate = Gate(2 * width, tuple(tasks), _names(choices), dropout=config.gate_dropout)
        self.own_self = _self_gate(config, "task", width, tuple(tasks), own)
        self.register_buffer("choice_TE", _places(choices), persistent=False)

    def forward(self, z_BCH: Tensor, shared_B1H: Tensor, group_T: Tensor) -> Tensor:
        """Return ``h_BTH``; ``group_T`` is the place of each task's group."""
        z_BTH = z_BCH.index_select(1, group_T)
        own_BTEH = self.own_bank(self.own_views(z_BTH))
        group_BCEH = self.group_bank(self.group_views(z_BCH))
        shared_B1EH = self.shared_bank(self.shared_views(shared_B1H))
        pool_BPH = torch.cat([bank.flatten(1, 2) for bank in (own_BTEH, group_BCEH, shared_B1EH)], dim=1)
        gate_input_BTJ = torch.cat([z_BTH, shared_B1H.expand_as(z_BTH)], dim=2)
        return _mix(self.gate(gate_input_BTJ), self.choice_TE, pool_BPH) + _past(self.own_self, z_BTH, own_BTEH)


class FeatureGate(nn.Module):
    """A view of the input for each of K groups of experts: v ⊙ Σ_l softmax(W v)_l · 2 σ(v B_l A_l).

    The low-rank maps are LoRA's; the factor 2 makes a map that gives zeros the identity.
    """

    def __init__(self, num_groups: int, in_dim: int, *, rank: int, num_loras: int) -> None:
        super().__init__()
        self.num_groups, self.num_loras = num_groups, num_loras
        self.down = GroupedLinear(num_groups, in_dim, num_loras * rank, bias=False)
        self.up = GroupedLinear(num_groups * num_loras, rank, in_dim, bias=False)
        self.mix = GroupedLinear(num_groups, in_dim, num_loras, bias=False) if num_loras > 1 else None

    def forward(self, v_BGR: Tensor) -> Tensor:
        """Return ``v_BKR``; ``G`` is 1 for a shared input and K for one input each."""
        B, K, L = v_BGR.shape[0], self.num_groups, self.num_loras
        low_BMD = self.down(v_BGR).reshape(B, K * L, -1)
        open_BKLR = self.up(low_BMD).sigmoid().view(B, K, L, -1)
        if self.mix is None:
            return v_BGR * (2 * open_BKLR.squeeze(2))
        weights_BKL = 2 * self.mix(v_BGR).softmax(-1)  # doubled here, where there are the fewest numbers
        return v_BGR * (weights_BKL.unsqueeze(3) * open_BKLR).sum(2)


def _feature_gate(config: HoMEConfig, layer: Literal["meta", "task"], num_groups: int, in_dim: int) -> nn.Module:
    if layer not in config.feature_gates:
        return nn.Identity()
    return FeatureGate(num_groups, in_dim, rank=config.feature_rank, num_loras=config.feature_loras)


def _self_gate(
    config: HoMEConfig, layer: Literal["meta", "task"], in_dim: int, readers: tuple[str, ...], own: Choices
) -> SelfGate | None:
    return SelfGate(in_dim, readers, _names(own)) if layer in config.self_gates else None


def _past(gate: SelfGate | None, v_BGR: Tensor, own_BKEH: Tensor) -> Tensor | float:
    """Return what readers' own experts add past the main gate (B, K, H); nothing if that is switched off."""
    return 0.0 if gate is None else (gate(v_BGR).unsqueeze(3) * own_BKEH).sum(2)


def _experts(*kinds: tuple[tuple[str, ...], int]) -> Iterator[Choices]:
    """Make the experts of each kind, of which every owner has a number, and place all of them in one pool.

    A task, a group and the shared part may have the same name: places tell their experts apart.
    """
    place = count()
    for owners, number in kinds:
        yield tuple(tuple((next(place), f"{owner} {i}") for i in range(number)) for owner in owners)


def _names(choices: Choices) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(name for _, name in choice) for choice in choices)


def _places(choices: Choices) -> Tensor:
    return torch.tensor([[place for place, _ in choice] for choice in choices])


def _mix(weights_BKE: Tensor, choice_KE: Tensor, pool_BPH: Tensor) -> Tensor:
    """Sum the pool's experts for every reader: an expert that a reader may not choose weighs nothing (B, K, H)."""
    B, K, _ = weights_BKE.shape
    zeros_BKP = weights_BKE.new_zeros(B, K, pool_BPH.shape[1])
    return zeros_BKP.scatter(2, choice_KE.expand(B, -1, -1), weights_BKE) @ pool_BPH
