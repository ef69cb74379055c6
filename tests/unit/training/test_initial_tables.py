"""Fresh tables are what one draw of each would give, however they are cut into blocks and parts."""

from itertools import pairwise

import pytest
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from recsys_mtl.training import sharding

NAME = "embeddings.pooled.embedding_bags.user.weight"


class Model(nn.Module):
    """All that `initialise_tables` asks of a model: a table's name and size."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.table = torch.empty(rows, columns, device="meta")

    def state_dict(self) -> dict[str, Tensor]:  # type: ignore[override]
        return {NAME: self.table}


def drawn(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(xxhash.xxh32_intdigest(f"{seed} {NAME}".encode()))
    return torch.randn(rows, columns, generator=generator) * 0.5


@given(
    rows=st.integers(1, 150),
    columns=st.integers(1, 20),
    numbers=st.integers(1, 1500),
    cuts=st.lists(st.integers(0, 150), max_size=3),
    column=st.integers(0, 20),
)
def test_parts_of_a_table_hold_their_place_in_the_whole(
    rows: int, columns: int, numbers: int, cuts: list[int], column: int
) -> None:
    whole, column = torch.full((rows, columns), torch.nan), min(column, columns)
    edges = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    windows = [((begin, 0), whole[begin:end, :column]) for begin, end in pairwise(edges)]
    windows += [((0, column), whole[:, column:])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "BLOCK_NUMBERS", numbers)
        for offsets, part in windows:  # each as on a worker that has nothing else
            patch.setattr(sharding, "local_parts", lambda _, part=part, offsets=offsets: [(part, offsets)])
            sharding.initialise_tables(Model(rows, columns), 7, deviation=0.5)
    assert torch.equal(whole, drawn(rows, columns, 7))


def test_a_worker_draws_no_more_than_its_parts_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "BLOCK_NUMBERS", 320)
    blocks = list(sharding.normal_blocks((10**9, 10), torch.Generator(), rows=70))
    assert [(start, tuple(block.shape)) for start, block in blocks] == [(0, (32, 10)), (32, (32, 10)), (64, (32, 10))]
    assert list(sharding.normal_blocks((10**9, 10), torch.Generator(), rows=0)) == []
