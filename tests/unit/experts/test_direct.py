"""No experts: the bottom's representation goes straight to the towers."""

import torch
from torch import nn

from recsys_mtl.bottoms.shared import SharedConfig
from recsys_mtl.experts.direct import DirectConfig
from recsys_mtl.heads.towers import TowersConfig
from recsys_mtl.model import Ranker
from tests import dense


def test_every_task_reads_the_shared_representation_itself() -> None:
    layer = DirectConfig().build(4, dense.TASKS)
    x_B1R = torch.randn(3, 1, 4)
    h_BTH = layer(x_B1R)
    assert layer.out_dim == 4
    assert h_BTH.shape == (3, len(dense.TASKS), 4)
    assert all(torch.equal(h_BTH[:, t], x_B1R[:, 0]) for t in range(len(dense.TASKS)))


def test_every_task_keeps_a_representation_of_its_own() -> None:
    x_BTR = torch.randn(3, len(dense.TASKS), 4)
    assert torch.equal(DirectConfig().build(4, dense.TASKS)(x_BTR), x_BTR)


def test_it_has_no_weights() -> None:
    assert list(DirectConfig().build(4, dense.TASKS).parameters()) == []


def test_with_a_shared_bottom_it_is_shared_bottom() -> None:
    """y_k = h_k(f(x)), the baseline of the MMoE and PLE papers."""
    torch.manual_seed(0)
    bottom = SharedConfig(hidden=(8, 6)).build(dense.LAYOUT, dense.TASKS)
    towers = TowersConfig().build(bottom.out_dim, dense.TASKS)
    ranker = Ranker(nn.Identity(), bottom, DirectConfig().build(bottom.out_dim, dense.TASKS), towers)
    features = dense.features(4)
    f_BR = bottom(features).squeeze(1)
    for t in range(len(dense.TASKS)):
        only_t = torch.zeros(4, len(dense.TASKS), bottom.out_dim)
        only_t[:, t] = f_BR
        torch.testing.assert_close(ranker(features)[:, t], towers(only_t)[:, t])
