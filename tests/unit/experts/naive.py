"""Experts and gates of one row, as loops over the modules' own weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recsys_mtl.layers import ExpertBank, Gate, GroupedLinear


def expert(bank: ExpertBank, group: int, index: int, x_R: Tensor) -> Tensor:
    """Run one expert of one group: ReLU after every layer."""
    per_group = bank.groups[1]
    first = bank.first.layers[0]
    assert isinstance(first, GroupedLinear)
    assert first.bias_KO is not None
    width = first.weight_IKO.shape[2] // per_group
    part = slice(index * width, (index + 1) * width)
    h = torch.relu(x_R @ first.weight_IKO[:, group, part] + first.bias_KO[group, part])
    for layer in bank.rest.layers:
        if isinstance(layer, GroupedLinear):
            assert layer.bias_KO is not None
            k = group * per_group + index
            h = torch.relu(h @ layer.weight_IKO[:, k] + layer.bias_KO[k])
    return h


def mixture(gate: Gate, reader: int, x_R: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """Sum what ``experts`` say by one reader's softmax gate on ``x_R``."""
    weight_RE = gate.linear.weight_IKO[:, reader]
    assert weight_RE.shape[1] == len(experts)
    scores = [(x_R @ weight_RE[:, e]).exp() for e in range(len(experts))]
    total = torch.stack(scores).sum()
    return torch.stack([score / total * h for score, h in zip(scores, experts, strict=True)]).sum(0)
