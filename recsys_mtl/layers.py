"""Layers that several architectures share. K maps over the same rows are one matmul, never a loop."""

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys_mtl.config import Config
from recsys_mtl.norms import BatchNormConfig, NoNormConfig, NormConfig, build_norm

Activation = Literal["relu", "silu", "tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


class LayerStyle(Config):
    """What happens between the linear maps of a perceptron."""

    activation: Activation | None = None
    """``relu`` unless given; ``silu`` after a normalisation, half of whose outputs ``relu`` would set to zero."""
    norm: NormConfig = NoNormConfig()
    """Normalisation before each activation. ``batch`` makes HoME's experts of any: Linear, BatchNorm, Swish."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each hidden layer's outputs that are dropped in training."""

    @property
    def bias(self) -> bool:
        """Whether linear maps have a bias: batch normalisation would take it away again, and brings its own."""
        return not isinstance(self.norm, BatchNormConfig)

    def after_linear(self, num_maps: int, width: int) -> list[nn.Module]:
        """Make what follows ``num_maps`` linear maps of a ``width``, side by side."""
        norm = build_norm(self.norm, num_maps, width)
        activation = self.activation or ("relu" if norm is None else "silu")
        dropout = [nn.Dropout(self.dropout)] if self.dropout else []
        return [*([norm] if norm is not None else []), ACTIVATIONS[activation](), *dropout]


PLAIN = LayerStyle()


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
        # A copy that pays: a map's rows lie K·I apart, where caches collide, and the weights' gradient reads across.
        x_KBI, weight_KIO = x_BKI.transpose(0, 1).contiguous(), self.weight_IKO.transpose(0, 1)
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
        style: LayerStyle = PLAIN,
        *,
        vectors_per_map: int = 1,
    ) -> None:
        """``vectors_per_map`` tells how many vectors, to be normalised each for itself, a map's output holds."""
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in pairwise((in_dim, *hidden)):
            layers += [GroupedLinear(num_maps, i, o, bias=style.bias)]
            layers += style.after_linear(num_maps * vectors_per_map, o // vectors_per_map)
        self.layers = nn.Sequential(*layers)
        self.out_dim = hidden[-1] if hidden else in_dim

    def forward(self, x_BGI: Tensor) -> Tensor:
        """Return ``h_BKH``; ``G`` is 1 for a shared input and K for one input each."""
        return self.layers(x_BGI)  # type: ignore[no-any-return]

    def __call__(self, x_BGI: Tensor) -> Tensor:
        return super().__call__(x_BGI)  # type: ignore[no-any-return]


class ExpertBank(nn.Module):
    """Experts in groups: those of a group read the same input. Expert diagnostics find experts by this class."""

    def __init__(
        self, names: tuple[tuple[str, ...], ...], in_dim: int, hidden: tuple[int, ...], style: LayerStyle = PLAIN
    ) -> None:
        """``names`` holds a group of experts in each row; all groups have the same size."""
        super().__init__()
        assert len({len(group) for group in names}) == 1, names
        self.names = names
        num_groups, per_group = self.groups = (len(names), len(names[0]))
        self.widths = (hidden[0], hidden[-1])
        self.first = GroupedMLP(num_groups, in_dim, (per_group * hidden[0],), style, vectors_per_map=per_group)
        self.rest = GroupedMLP(num_groups * per_group, hidden[0], hidden[1:], style)

    @property
    def input_map(self) -> GroupedLinear:
        """The linear map that reads the input."""
        first = self.first.layers[0]
        assert isinstance(first, GroupedLinear)
        return first

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``h_BGEH`` for G groups of E experts; an input with G = 1 is shared by all groups."""
        h_BGJ = self.first(x_BGR)
        h_BGEH = h_BGJ.view(x_BGR.shape[0], *self.groups, self.widths[0])
        if not self.rest.layers:  # then groups and experts stay apart: joined, they would be copied
            return h_BGEH
        h_BKH = self.rest(h_BGEH.flatten(1, 2))
        return h_BKH.view(x_BGR.shape[0], *self.groups, self.widths[1])

    def __call__(self, x_BGR: Tensor) -> Tensor:
        return super().__call__(x_BGR)  # type: ignore[no-any-return]


class Gate(nn.Module):
    """Softmax gates, one linear map each, over a choice of experts.

    Its output is what expert diagnostics look at: they find gates by this class and label the axes with ``readers`` and
    ``experts``.
    """

    def __init__(
        self, in_dim: int, readers: tuple[str, ...], experts: tuple[tuple[str, ...], ...], *, dropout: float = 0.0
    ) -> None:
        """``experts`` names what each reader's gate chooses from; all choices have the same size.

        ``dropout`` is the share of weights set to zero in training, against gates that settle on one expert
        (Zhao et al., RecSys 2019).
        """
        super().__init__()
        assert len(experts) == len(readers), (readers, experts)
        assert len({len(choice) for choice in experts}) == 1, experts
        self.readers, self.experts = readers, experts
        self.linear = GroupedLinear(len(readers), in_dim, len(experts[0]), bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``weights_BTE``, which sum to 1 over E where none is dropped; ``G`` is 1 or T."""
        return self.dropout(self.linear(x_BGR).softmax(-1))  # type: ignore[no-any-return]

    def __call__(self, x_BGR: Tensor) -> Tensor:
        return super().__call__(x_BGR)  # type: ignore[no-any-return]


class SelfGate(nn.Module):
    """Weights of readers' own experts past their main gate: a sigmoid for one expert, a softmax for several.

    Expert diagnostics find it by this class, as they do `Gate`.
    """

    def __init__(self, in_dim: int, readers: tuple[str, ...], experts: tuple[tuple[str, ...], ...]) -> None:
        """``experts`` names each reader's own; all readers have equally many."""
        super().__init__()
        assert len(experts) == len(readers), (readers, experts)
        self.readers, self.experts = readers, experts
        self.linear = GroupedLinear(len(readers), in_dim, len(experts[0]), bias=False)

    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``weights_BTE``; ``G`` is 1 or T."""
        logits_BTE = self.linear(x_BGR)
        return logits_BTE.sigmoid() if logits_BTE.shape[2] == 1 else logits_BTE.softmax(-1)

    def __call__(self, x_BGR: Tensor) -> Tensor:
        return super().__call__(x_BGR)  # type: ignore[no-any-return]


class MLP(nn.Sequential):
    """A plain perceptron: Linear and what the style says, for every width of ``hidden``."""

    def __init__(self, in_dim: int, hidden: tuple[int, ...], style: LayerStyle = PLAIN) -> None:
        layers: list[nn.Module] = []
        for i, o in pairwise((in_dim, *hidden)):
            layers += [nn.Linear(i, o, bias=style.bias), *style.after_linear(1, o)]
        super().__init__(*layers)
        self.out_dim = hidden[-1] if hidden else in_dim

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x)  # type: ignore[no-any-return]
