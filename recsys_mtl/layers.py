"""Layers that several architectures share. K maps over the same rows are one matmul, never a loop."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["relu", "silu", "tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


class GroupedLinear(nn.Module):
    """K linear maps of the same shape, over one input that they share or over one input each.

    Weights lie as (I, K, O): for a shared input the layer is one (B, I) by (I, K·O) product without a copy.
    """

    def __init__(self, num_maps: int, in_dim: int, out_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight_IKO = nn.Parameter(torch.empty(in_dim, num_maps, out_dim))
        self.bias_KO = nn.Parameter(torch.empty(num_maps, out_dim)) if bias else None
        bound = 1 / math.sqrt(in_dim)  # what nn.Linear draws from
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x_BGI: Tensor) -> Tensor:
        """Return ``y_BKO``; ``G`` is 1 for a shared input and K for one input each."""
        return self._shared(x_BGI.squeeze(1)) if x_BGI.shape[1] == 1 else self._own(x_BGI)

    def _shared(self, x_BI: Tensor) -> Tensor:
        weight_IJ = self.weight_IKO.flatten(1)
        y_BJ = x_BI @ weight_IJ if self.bias_KO is None else torch.addmm(self.bias_KO.flatten(), x_BI, weight_IJ)
        return y_BJ.view(x_BI.shape[0], *self.weight_IKO.shape[1:])

    def _own(self, x_BKI: Tensor) -> Tensor:
        x_KBI, weight_KIO = x_BKI.transpose(0, 1), self.weight_IKO.transpose(0, 1)
        if self.bias_KO is None:
            return torch.bmm(x_KBI, weight_KIO).transpose(0, 1)
        return torch.baddbmm(self.bias_KO.unsqueeze(1), x_KBI, weight_KIO).transpose(0, 1)

    def __call__(self, x_BGI: Tensor) -> Tensor:
        return super().__call__(x_BGI)  # type: ignore[no-any-return]


class GroupedMLP(nn.Module):
    """K multi-layer perceptrons of the same shape side by side."""

    def __init__(
        self,
        num_maps: int,
        in_dim: int,
        hidden: tuple[int, ...],
        *,
        activation: Activation = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        linear = partial(GroupedLinear, num_maps)
        self.layers = nn.Sequential(*_perceptron(linear, (in_dim, *hidden), activation, dropout))
        self.out_dim = hidden[-1] if hidden else in_dim

    def forward(self, x_BGI: Tensor) -> Tensor:
        """Return ``h_BKH``; ``G`` is 1 for a shared input and K for one input each."""
        return self.layers(x_BGI)  # type: ignore[no-any-return]

    def __call__(self, x_BGI: Tensor) -> Tensor:
        return super().__call__(x_BGI)  # type: ignore[no-any-return]


class ExpertBank(nn.Module):
    """Experts in groups: those of a group read the same input."""

    def __init__(
        self, num_groups: int, per_group: int, in_dim: int, hidden: tuple[int, ...], *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.groups = (num_groups, per_group)
        self.first = GroupedMLP(num_groups, in_dim, (per_group * hidden[0],), dropout=dropout)
        self.rest = GroupedMLP(num_groups * per_group, hidden[0], hidden[1:], dropout=dropout)

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``h_BGEH`` for ``num_groups`` groups of E experts; an input with G = 1 is shared by all groups."""
        h_BGJ = self.first(x_BGR)
        h_BGEH = h_BGJ.view(x_BGR.shape[0], *self.groups, -1)
        if not self.rest.layers:  # then groups and experts stay apart: joined, they would be copied
            return h_BGEH
        h_BKH = self.rest(h_BGEH.flatten(1, 2))
        return h_BKH.view(x_BGR.shape[0], *self.groups, -1)

    def __call__(self, x_BGR: Tensor) -> Tensor:
        return super().__call__(x_BGR)  # type: ignore[no-any-return]


class Gate(nn.Module):
    """Softmax gates, one linear map each, over a choice of experts.

    Its output is what expert diagnostics look at: they find gates by this class and label the axes with ``readers`` and
    ``experts``.
    """

    def __init__(self, in_dim: int, readers: tuple[str, ...], experts: tuple[tuple[str, ...], ...]) -> None:
        """``experts`` names what each reader's gate chooses from; all choices have the same size."""
        super().__init__()
        assert len(experts) == len(readers), (readers, experts)
        assert len({len(choice) for choice in experts}) == 1, experts
        self.readers, self.experts = readers, experts
        self.linear = GroupedLinear(len(readers), in_dim, len(experts[0]), bias=False)

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``weights_BTE``, which sum to 1 over E; ``G`` is 1 or T."""
        return self.linear(x_BGR).softmax(-1)

    def __call__(self, x_BGR: Tensor) -> Tensor:
        return super().__call__(x_BGR)  # type: ignore[no-any-return]


class MLP(nn.Sequential):
    """A plain perceptron: Linear, activation and dropout for every width of ``hidden``."""

    def __init__(
        self, in_dim: int, hidden: tuple[int, ...], *, activation: Activation = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__(*_perceptron(nn.Linear, (in_dim, *hidden), activation, dropout))
        self.out_dim = hidden[-1] if hidden else in_dim

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x)  # type: ignore[no-any-return]


def _perceptron(
    linear: Callable[[int, int], nn.Module], widths: tuple[int, ...], activation: Activation, dropout: float
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [linear(i, o), ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return layers
