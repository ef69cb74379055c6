"""Embedding tables in eight bits: each row has codes from 0 to 255, a scale and a lowest value of its own.

Layout as in fbgemm's row-wise quantisation: a row of D numbers is D bytes of codes, then scale and lowest value as two
float32.
"""

import torch
from torch import Tensor

LEVELS = 255
EXTRA = 8
"""Bytes of a row beside its codes."""


def quantise(table_ND: Tensor) -> Tensor:
    """Return the rows in eight bits (N, D + 8); each number moves by at most half of its row's scale."""
    lowest_N1 = table_ND.amin(1, keepdim=True)
    scale_N1 = (table_ND.amax(1, keepdim=True) - lowest_N1) / LEVELS
    divisor_N1 = scale_N1.masked_fill(scale_N1 == 0, 1.0)  # rows of equal numbers, such as zeros, are exact
    codes_ND = ((table_ND - lowest_N1) / divisor_N1).round().clamp(0, LEVELS).to(torch.uint8)
    extra_NE = torch.cat([scale_N1, lowest_N1], dim=1).float().contiguous().view(torch.uint8)
    return torch.cat([codes_ND, extra_NE], dim=1)


def dequantise(rows_NJ: Tensor) -> Tensor:
    """Return the numbers (N, D) of rows in eight bits."""
    scale_N1, lowest_N1 = torch.split(rows_NJ[:, -EXTRA:].contiguous().view(torch.float32), 1, dim=1)
    return torch.addcmul(lowest_N1, rows_NJ[:, :-EXTRA].float(), scale_N1)


def is_quantised(table: Tensor) -> bool:
    """Tell a table in eight bits from one of floats."""
    return table.dtype == torch.uint8


def width_of(table: Tensor) -> int:
    """Return D, how many numbers a row has."""
    return int(table.shape[1]) - EXTRA * is_quantised(table)


def as_floats(table: Tensor) -> Tensor:
    """Return a table of floats, itself if it is one."""
    return dequantise(table) if is_quantised(table) else table
