"""Normalisation of hidden layers. Statistics over rows are those of the whole global batch, whatever the workers."""

from typing import Annotated, Any, Literal

import torch
import torch.distributed as dist
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import batch_norm, layer_norm

from recsys_mtl.config import Config


class NoNormConfig(Config):
    """No normalisation."""

    kind: Literal["none"] = "none"


class BatchNormConfig(Config):
    """Every hidden unit to mean 0 and deviation 1 over the rows of a global batch."""

    kind: Literal["batch"] = "batch"
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of a batch in the running statistics that scoring uses; a small one suits data that drift slowly."""
    eps: PositiveFloat = 1e-3
    """Added to the variance."""


class LayerNormConfig(Config):
    """Every row's hidden vector to mean 0 and deviation 1."""

    kind: Literal["layer"] = "layer"
    eps: PositiveFloat = 1e-5
    """Added to the variance."""


NormConfig = Annotated[NoNormConfig | BatchNormConfig | LayerNormConfig, Field(discriminator="kind")]


def build_norm(config: NormConfig, num_maps: int, width: int) -> nn.Module | None:
    """Make the normalisation of ``num_maps`` hidden vectors of a ``width``, side by side; nothing where none is asked.

    Each vector is normalised for itself and has a scale and a shift of its own.
    """
    if isinstance(config, BatchNormConfig):
        return BatchNorm(num_maps * width, momentum=config.momentum, eps=config.eps)
    if isinstance(config, LayerNormConfig):
        return GroupedLayerNorm(num_maps, width, eps=config.eps)
    return None


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015) whose statistics are summed over workers.

    torch's SyncBatchNorm does the same for GPUs alone. Here it takes one sum over workers in each direction, so that a
    model learns the same however its rows are spread.
    """

    running_mean_J: Tensor
    running_var_J: Tensor

    def __init__(self, units: int, *, momentum: float, eps: float) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight_J = nn.Parameter(torch.ones(units))
        self.bias_J = nn.Parameter(torch.zeros(units))
        self.register_buffer("running_mean_J", torch.zeros(units))
        self.register_buffer("running_var_J", torch.ones(units))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B, ...), whose trailing axes hold the J units; return the same shape."""
        x_BJ = x.flatten(1)
        if self.training:
            return self._learning(x_BJ).view(x.shape)
        y_BJ = batch_norm(x_BJ, self.running_mean_J, self.running_var_J, self.weight_J, self.bias_J, eps=self.eps)
        return y_BJ.view(x.shape)

    def _learning(self, x_BJ: Tensor) -> Tensor:
        # Moments around the running mean, which all workers share: plain squares would lose digits far from zero.
        shifted_BJ = x_BJ - self.running_mean_J
        sums_J, squares_J, rows = _global_sums(shifted_BJ)
        mean_J = sums_J / rows
        var_J = (squares_J / rows - mean_J.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean_J += self.momentum * mean_J
            self.running_var_J.lerp_(var_J * rows / (rows - 1).clamp(min=1), self.momentum)
        return torch.addcmul(self.bias_J, shifted_BJ - mean_J, self.weight_J * (var_J + self.eps).rsqrt())


class GroupedLayerNorm(nn.Module):
    """Layer normalisation (Ba et al., 2016) of several vectors, each with its own scale and shift."""

    def __init__(self, num_maps: int, width: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight_KH = nn.Parameter(torch.ones(num_maps, width))
        self.bias_KH = nn.Parameter(torch.zeros(num_maps, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B, ...), whose trailing axes hold the K vectors one after another; return its shape."""
        x_BKH = x.reshape(x.shape[0], *self.weight_KH.shape)
        y_BKH = layer_norm(x_BKH, x_BKH.shape[-1:], eps=self.eps)
        return torch.addcmul(self.bias_KH, y_BKH, self.weight_KH).view(x.shape)


def _global_sums(x_BJ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum units, their squares and rows over all rows of all workers."""
    rows = x_BJ.new_tensor([float(len(x_BJ))])
    sums = torch.cat([x_BJ.sum(0), x_BJ.square().sum(0), rows])
    if dist.is_initialized() and dist.get_world_size() > 1:
        sums = _AllSum.apply(sums)  # type: ignore[no-untyped-call]
    units = x_BJ.shape[1]
    return sums[:units], sums[units:-1], sums[-1]


class _AllSum(torch.autograd.Function):
    """Sum over workers, whose gradient is the sum of the workers' gradients."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
