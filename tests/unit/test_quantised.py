import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.quantised import LEVELS, as_floats, dequantise, is_quantised, quantise, width_of

ROWS = st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=4, max_size=4), min_size=1, max_size=5
)


@given(rows=ROWS)
def test_numbers_move_by_half_a_level_at_most(rows: list[list[float]]) -> None:
    table_ND = torch.tensor(rows)
    scale_N1 = (table_ND.amax(1, keepdim=True) - table_ND.amin(1, keepdim=True)) / LEVELS
    bound_N1 = scale_N1 / 2 + 1e-6 * table_ND.abs().amax(1, keepdim=True)
    assert ((dequantise(quantise(table_ND)) - table_ND).abs() <= bound_N1).all()


def test_rows_of_equal_numbers_are_exact() -> None:
    table_ND = torch.tensor([[0.0, 0.0, 0.0], [-1.5, -1.5, -1.5]])
    torch.testing.assert_close(dequantise(quantise(table_ND)), table_ND, rtol=0, atol=0)


def test_a_row_of_eight_bits_knows_its_width() -> None:
    table_ND = torch.rand(3, 16)
    small = quantise(table_ND)
    assert (is_quantised(small), width_of(small), small.nbytes) == (True, 16, 3 * 24)
    assert (is_quantised(table_ND), width_of(table_ND)) == (False, 16)
    assert as_floats(table_ND) is table_ND


def test_quantising_again_changes_nothing() -> None:
    once = dequantise(quantise(torch.randn(50, 8)))
    torch.testing.assert_close(dequantise(quantise(once)), once, rtol=0, atol=2e-6)
