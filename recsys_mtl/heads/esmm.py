"""Products along a funnel (ESMM: Ma et al., SIGIR 2018)."""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from recsys_mtl.heads.base import Funnel, Heads
from recsys_mtl.layers import GroupedLinear, GroupedMLP, LayerStyle
from recsys_mtl.tasks import Task


class ESMMConfig(LayerStyle):
    """Towers whose probabilities are multiplied along the funnel; plain towers where no task follows another."""

    kind: Literal["esmm"] = "esmm"
    hidden: tuple[PositiveInt, ...] = (64,)
    """Widths of each tower's hidden layers; none for one linear map."""
    calibrator: ClassVar[float] = 0.0
    """No penalty on disorder: a product is never above its factors."""

    def build(self, in_dim: int, tasks: tuple[Task, ...]) -> "ESMM":
        """Make one tower for each of ``tasks``."""
        return ESMM(self, in_dim, tasks)


class ESMM(Heads):
    """pCTCVR = pCTR · pCVR for every link of the funnel, chained from its first event on.

    The tower of an event that follows another gives its probability *given* that other, which no loss ever sees alone:
    the loss is on the product, over all impressions. A task that follows nothing has a plain tower.
    """

    def __init__(self, config: ESMMConfig, in_dim: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.mlp = GroupedMLP(len(tasks), in_dim, config.hidden, config)
        self.out = GroupedLinear(len(tasks), self.mlp.out_dim, 1)
        self.funnel = Funnel(tasks)

    def forward(self, h_BTH: Tensor) -> Tensor:
        """Return ``logits_BT`` of the events over all impressions."""
        logits_BT = self.out(self.mlp(h_BTH)).squeeze(2)
        for links in self.funnel:
            joint_BL = logit_of_product(links.earlier(logits_BT), links.later(logits_BT))
            logits_BT = links.replace_later(logits_BT, joint_BL)
        return logits_BT


def logit_of_product(x: Tensor, y: Tensor) -> Tensor:
    """Return the logit of σ(x)·σ(y).

    The odds against both are (1 + e⁻ˣ)(1 + e⁻ʸ) - 1 = e⁻ˣ + e⁻ʸ + e⁻⁽ˣ⁺ʸ⁾. No probability is formed and nothing is
    subtracted, so that neither tail loses digits and gradients stay between 0 and 1.
    """
    return -torch.stack([-x, -y, -x - y]).logsumexp(0)
