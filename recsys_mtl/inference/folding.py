"""Batch normalisation after learning: a fixed scale and shift, which belong into the linear map before it.

s ⊙ (W x - mean) + shift = (s ⊙ W) x + (shift - s ⊙ mean) with s = scale / √(variance + eps).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from recsys_mtl.layers import GroupedLinear
from recsys_mtl.norms import BatchNorm


def fold_batch_norms(root: nn.Module) -> None:
    """Put every batch normalisation that follows a linear map into the map: one pass less over its outputs."""
    for layers in [module for module in root.modules() if isinstance(module, nn.Sequential)]:
        for linear, norm in list(pairwise(layers)):
            if isinstance(norm, BatchNorm) and isinstance(linear, nn.Linear | GroupedLinear):
                _fold(linear, norm)
                del layers[list(layers).index(norm)]


@torch.no_grad()
def _fold(linear: nn.Linear | GroupedLinear, norm: BatchNorm) -> None:
    scale_J = norm.weight_J * (norm.running_var_J + norm.eps).rsqrt()
    shift_J = norm.bias_J - norm.running_mean_J * scale_J
    if isinstance(linear, nn.Linear):
        linear.weight = nn.Parameter(linear.weight * scale_J.unsqueeze(1))
        linear.bias = nn.Parameter(_moved(linear.bias, scale_J, shift_J))
        return
    groups = linear.weight_IKO.shape[1:]
    linear.weight_IKO = nn.Parameter(linear.weight_IKO * scale_J.view(groups))
    linear.bias_KO = nn.Parameter(_moved(linear.bias_KO, scale_J.view(groups), shift_J.view(groups)))


def _moved(bias: Tensor | None, scale: Tensor, shift: Tensor) -> Tensor:
    return shift if bias is None else bias * scale + shift
