"""Linear maps of a request's inputs, split by whom the inputs belong to.

W x = W_user x_user + W_item x_item: the first product is made once per request. Where several maps read the same
inputs, such as experts and gates, they are one product.
"""

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from recsys_mtl.layers import GroupedLinear


class SplitLinear:
    """One linear map (I → J) of inputs that come in a part for the request and one for each candidate."""

    def __init__(self, weight_IJ: Tensor, bias_J: Tensor, head_I: Tensor, items_I: Tensor) -> None:
        """``head_I`` and ``items_I`` tell which of the map's inputs each number of a part is."""
        self.bias_J = bias_J.detach()
        self.head_UJ = weight_IJ.detach()[head_I].contiguous()
        self.items_VJ = weight_IJ.detach()[items_I].contiguous()

    def __call__(self, head_U: Tensor, items_BV: Tensor) -> Tensor:
        """Return ``y_BJ``."""
        return torch.addmm(torch.addmv(self.bias_J, self.head_UJ.T, head_U), items_BV, self.items_VJ)


class Picked(nn.Module):
    """Stands for a grouped linear map whose outputs have been computed among others: it picks them out."""

    def __init__(self, start: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.start, self.shape = start, shape

    def forward(self, y_B1J: Tensor) -> Tensor:
        """Return ``y_BKO``."""
        width = self.shape[0] * self.shape[1]
        return y_B1J[:, 0, self.start : self.start + width].view(-1, *self.shape)


def joint(maps: list[GroupedLinear]) -> tuple[Tensor, Tensor]:
    """Put maps of one input side by side: weight (I, J) and bias (J,)."""
    weights = [linear.weight_IKO.flatten(1) for linear in maps]
    biases = [
        w.new_zeros(w.shape[1]) if m.bias_KO is None else m.bias_KO.flatten()
        for m, w in zip(maps, weights, strict=True)
    ]
    return torch.cat(weights, dim=1), torch.cat(biases)


def pick(root: nn.Module, maps: list[GroupedLinear]) -> None:
    """Replace maps inside ``root`` by what picks their outputs from those of their `joint` map."""
    sizes = [linear.weight_IKO.shape[1] * linear.weight_IKO.shape[2] for linear in maps]
    starts = {
        id(linear): start for linear, (start, _) in zip(maps, pairwise(accumulate(sizes, initial=0)), strict=True)
    }
    for module in list(root.modules()):
        for name, child in list(module.named_children()):
            if id(child) in starts:
                assert isinstance(child, GroupedLinear)
                _, groups, width = child.weight_IKO.shape
                setattr(module, name, Picked(starts[id(child)], (groups, width)))
