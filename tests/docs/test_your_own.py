"""The architecture on the page is one."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import dense

PAGE = Path(__file__).parents[2] / "docs" / "models" / "your-own.md"


@pytest.fixture
def module() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "written"}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


@pytest.mark.parametrize("representations", [1, 3])
def test_it_adds_up_as_the_equation_says(module: dict[str, Any], representations: int) -> None:
    torch.manual_seed(0)
    layer = module["ResidualConfig"](hidden=(6, 4), own_weight=0.25).build(5, dense.events("click", "like", "follow"))
    x_BGR = torch.randn(8, representations, 5)
    h_BTH, own_BTH = layer(x_BGR), layer.own(x_BGR)
    assert h_BTH.shape == (8, 3, layer.out_dim) == (8, 3, 4)
    shared_BH = layer.shared(x_BGR.mean(1, keepdim=True))[:, 0]
    for k in range(3):
        torch.testing.assert_close(h_BTH[:, k], shared_BH + 0.25 * own_BTH[:, k])
    h_BTH.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
