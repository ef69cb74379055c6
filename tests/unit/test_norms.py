"""Normalisation against torch's own layers."""

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.norms import (
    BatchNorm,
    BatchNormConfig,
    GroupedLayerNorm,
    LayerNormConfig,
    NoNormConfig,
    build_norm,
)

ROWS, MAPS, WIDTH = 9, 3, 4
UNITS = MAPS * WIDTH
MOMENTUM, EPS = 0.1, 1e-3


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def batch_norms() -> tuple[BatchNorm, nn.BatchNorm1d]:
    """Ours and torch's with the same random scale and shift."""
    mine = BatchNorm(UNITS, momentum=MOMENTUM, eps=EPS)
    theirs = nn.BatchNorm1d(UNITS, momentum=MOMENTUM, eps=EPS)
    with torch.no_grad():
        for ours, reference in ((mine.weight_J, theirs.weight), (mine.bias_J, theirs.bias)):
            reference.copy_(ours.normal_())
    return mine, theirs


def rows(count: int = ROWS) -> Tensor:
    """Units of different mean and deviation."""
    return 2 * torch.randn(count, UNITS) * torch.rand(UNITS) + torch.linspace(-5, 5, UNITS)


def assert_same_statistics(mine: BatchNorm, theirs: nn.BatchNorm1d) -> None:
    torch.testing.assert_close(mine.running_mean_J, theirs.running_mean)
    torch.testing.assert_close(mine.running_var_J, theirs.running_var)


@pytest.mark.parametrize("count", [2, ROWS, 30])
def test_in_training_it_is_torchs_batch_normalisation(count: int) -> None:
    mine, theirs = (norm.double() for norm in batch_norms())
    x_BJ, slope_BJ = rows(count).double().requires_grad_(), torch.randn(count, UNITS).double()
    for _ in range(2):  # the second time around a mean that is known
        y_BJ, expected_BJ = mine(x_BJ), theirs(x_BJ)
        torch.testing.assert_close(y_BJ, expected_BJ)
        gradients = torch.autograd.grad((y_BJ * slope_BJ).sum(), [x_BJ, *mine.parameters()])
        expected = torch.autograd.grad((expected_BJ * slope_BJ).sum(), [x_BJ, *theirs.parameters()])
        torch.testing.assert_close(gradients, expected)


def test_running_statistics_are_those_of_torch() -> None:
    mine, theirs = batch_norms()
    for _ in range(20):
        x_BJ = rows()
        mine(x_BJ)
        theirs(x_BJ)
        assert_same_statistics(mine, theirs)
    assert (mine.running_mean_J - torch.linspace(-5, 5, UNITS)).abs().max() < 1.5


def test_in_scoring_it_takes_the_running_statistics() -> None:
    mine, theirs = batch_norms()
    for _ in range(3):
        mine(rows())
    theirs.running_mean, theirs.running_var = mine.running_mean_J.clone(), mine.running_var_J.clone()
    mine.eval()
    theirs.eval()
    for count in (1, ROWS):
        x_BJ = rows(count)
        torch.testing.assert_close(mine(x_BJ), theirs(x_BJ))
    assert_same_statistics(mine, theirs)


def test_trailing_axes_hold_the_units() -> None:
    flat, grouped = batch_norms()[0], BatchNorm(UNITS, momentum=MOMENTUM, eps=EPS)
    grouped.load_state_dict(flat.state_dict())
    x_BJ = rows()
    for _ in range(2):
        y_BKH = grouped(x_BJ.view(ROWS, MAPS, WIDTH))
        assert y_BKH.shape == (ROWS, MAPS, WIDTH)
        assert torch.equal(y_BKH.flatten(1), flat(x_BJ))
        flat.eval()
        grouped.eval()


def test_views_that_are_not_contiguous_are_taken() -> None:
    norm, x_KBH = BatchNorm(UNITS, momentum=MOMENTUM, eps=EPS), torch.randn(MAPS, ROWS, WIDTH)
    x_BKH = x_KBH.transpose(0, 1)
    torch.testing.assert_close(norm(x_BKH), norm(x_BKH.contiguous()), rtol=1e-4, atol=1e-5)
    layer = GroupedLayerNorm(MAPS, WIDTH, eps=EPS)
    assert torch.equal(layer(x_BKH), layer(x_BKH.contiguous()))


def test_a_batch_of_one_row_has_no_spread_and_stays_finite() -> None:
    norm, _ = batch_norms()
    x_BJ = rows(1).requires_grad_()
    y_BJ = norm(x_BJ)
    torch.testing.assert_close(y_BJ, norm.bias_J.unsqueeze(0), rtol=1e-4, atol=1e-4)
    (gradient_BJ,) = torch.autograd.grad(y_BJ.sum(), x_BJ)
    assert gradient_BJ.isfinite().all()
    assert all(statistic.isfinite().all() for statistic in norm.buffers())


def test_a_constant_unit_far_from_zero_stays_finite() -> None:
    norm = BatchNorm(1, momentum=0.5, eps=EPS)
    x_BJ = torch.full((ROWS, 1), 1e4)
    y_BJ = [norm(x_BJ) for _ in range(60)][-1]
    assert y_BJ.abs().max() < 0.1
    assert norm.running_var_J.item() < 1e-3


def test_a_small_spread_far_from_zero_is_seen() -> None:
    """Plain squares of numbers around 1000 have no digits left for a deviation of a hundredth."""
    norm = BatchNorm(1, momentum=1.0, eps=1e-8)
    x_BJ = 1000 + 0.01 * torch.randn(500, 1)
    y_BJ = [norm(x_BJ) for _ in range(3)][-1]
    exact = nn.BatchNorm1d(1, eps=1e-8).double()(x_BJ.double()).float()
    torch.testing.assert_close(y_BJ, exact, rtol=1e-2, atol=1e-2)


def test_every_vector_is_normalised_for_itself() -> None:
    layer = GroupedLayerNorm(MAPS, WIDTH, eps=EPS)
    with torch.no_grad():
        layer.weight_KH.normal_()
        layer.bias_KH.normal_()
    x_BKH = torch.randn(ROWS, MAPS, WIDTH) * torch.tensor([1.0, 5.0, 20.0]).view(MAPS, 1)
    y_BKH = layer(x_BKH)
    for k in range(MAPS):
        reference = nn.LayerNorm(WIDTH, eps=EPS)
        reference.load_state_dict({"weight": layer.weight_KH[k], "bias": layer.bias_KH[k]})
        torch.testing.assert_close(y_BKH[:, k], reference(x_BKH[:, k]))
    assert torch.equal(layer(x_BKH.flatten(1)), y_BKH.flatten(1)), "one after another in one axis, as in a bank"


@pytest.mark.parametrize("config", [BatchNormConfig(momentum=0.3), LayerNormConfig()])
def test_a_state_carries_everything_that_scoring_needs(config: BatchNormConfig | LayerNormConfig) -> None:
    norm, other = build_norm(config, MAPS, WIDTH), build_norm(config, MAPS, WIDTH)
    assert norm is not None
    assert other is not None
    for _ in range(3):
        norm(rows())
    with torch.no_grad():
        for weight in norm.parameters():
            weight.normal_()
    x_BJ = rows()
    assert not torch.equal(other.eval()(x_BJ), norm.eval()(x_BJ))
    other.load_state_dict(norm.state_dict())
    assert torch.equal(other(x_BJ), norm(x_BJ))


def test_settings_reach_the_layer() -> None:
    assert build_norm(NoNormConfig(), MAPS, WIDTH) is None
    batch = build_norm(BatchNormConfig(momentum=0.3, eps=0.5), MAPS, WIDTH)
    layer = build_norm(LayerNormConfig(eps=0.25), MAPS, WIDTH)
    assert isinstance(batch, BatchNorm)
    assert isinstance(layer, GroupedLayerNorm)
    assert (batch.momentum, batch.eps, batch.weight_J.shape) == (0.3, 0.5, (UNITS,))
    assert (layer.eps, layer.weight_KH.shape) == (0.25, (MAPS, WIDTH))


def test_the_exported_layer_scores_any_number_of_rows() -> None:
    norm, _ = batch_norms()
    norm(rows())
    norm.eval()
    program = torch.export.export(norm, (rows(5),), dynamic_shapes=({0: torch.export.Dim("rows")},))
    x_BJ = rows(11)
    torch.testing.assert_close(program.module()(x_BJ), norm(x_BJ))
