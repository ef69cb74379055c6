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
        mean_J, var_J = self._moments(x_BJ.detach())
        rows = self.weight_J.new_tensor([float(len(x_BJ))])
        if _several_workers():
            mean_J, var_J, rows = self._over_workers(mean_J, var_J, rows)
        self.running_mean_J.lerp_(mean_J, self.momentum)
        self.running_var_J.lerp_(var_J * rows / (rows - 1).clamp(min=1), self.momentum)
        # Divided by a variance that overflows, everything would be finite again, and nobody would notice.
        mean_J = mean_J + 0 * var_J
        return _Normalised.apply(x_BJ, self.weight_J, self.bias_J, mean_J, var_J, rows, self.eps)  # type: ignore[no-any-return, no-untyped-call]

    def _moments(self, x_BJ: Tensor) -> tuple[Tensor, Tensor]:
        if len(x_BJ) == 0:  # a worker without rows
            return self.running_mean_J, torch.zeros_like(self.running_var_J)
        # Given statistics that it may move by nothing, the kernel answers in their precision, whatever that of ``x``.
        still = torch.zeros_like(self.running_mean_J), torch.zeros_like(self.running_var_J)
        mean_J, var_J = torch.ops.aten.batch_norm_update_stats(x_BJ, *still, 0.0)
        return mean_J, var_J

    def _over_workers(self, mean_J: Tensor, var_J: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean, variance and rows of all workers from those of each."""
        # Moments around the running mean, which all workers share: plain squares would lose digits far from zero.
        apart_J = mean_J - self.running_mean_J
        sums = torch.cat([rows * apart_J, rows * (var_J + apart_J.square()), rows])
        dist.all_reduce(sums)
        rows = sums[-1:]
        apart_J, squares_J = (sums[:-1] / rows).chunk(2)
        return self.running_mean_J + apart_J, (squares_J - apart_J.square()).clamp(min=0), rows


class _Normalised(torch.autograd.Function):
    """torch's kernels, at several times the speed of the formula, with moments of all workers.

    Its gradient knows that they are moments of ``x``: dx = γ/σ·(g - mean(g) - x̂·mean(g·x̂)), with means over all rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_BJ: Tensor,
        weight_J: Tensor,
        bias_J: Tensor,
        mean_J: Tensor,
        var_J: Tensor,
        rows: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x_BJ, weight_J, mean_J, (var_J + eps).rsqrt(), rows)
        ctx.eps = eps
        return batch_norm(x_BJ, mean_J, var_J, weight_J, bias_J, eps=eps) if len(x_BJ) else x_BJ.clone()

    @staticmethod
    def backward(ctx: Any, g_BJ: Tensor) -> tuple[Tensor | None, ...]:
        x_BJ, weight_J, mean_J, scale_J, rows = ctx.saved_tensors
        dx_BJ, dweight_J, dbias_J = _own_gradients(g_BJ, x_BJ, weight_J, mean_J, scale_J, ctx.eps)
        if _several_workers():  # the kernel's means are over this worker's rows
            sums_2J = torch.cat([dbias_J, dweight_J])
            own_2J = sums_2J / max(len(x_BJ), 1)
            dist.all_reduce(sums_2J)
            level_J, slope_J = (own_2J - sums_2J / rows).chunk(2)
            slope_J, factor_J = slope_J * scale_J, weight_J * scale_J
            dx_BJ = dx_BJ + torch.addcmul(factor_J * (level_J - slope_J * mean_J), x_BJ, factor_J * slope_J)
        return dx_BJ, dweight_J, dbias_J, None, None, None, None


def _own_gradients(
    g_BJ: Tensor, x_BJ: Tensor, weight_J: Tensor, mean_J: Tensor, scale_J: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of input, scale and shift if there were no rows but these."""
    if len(x_BJ) == 0:  # which the kernel cannot do
        return g_BJ, torch.zeros_like(weight_J), torch.zeros_like(weight_J)
    moments = (None, None, mean_J, scale_J, True, eps)
    return torch.ops.aten.native_batch_norm_backward(  # type: ignore[no-any-return]
        g_BJ.contiguous(), x_BJ, weight_J, *moments, [True, True, True]
    )


def _several_workers() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


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
