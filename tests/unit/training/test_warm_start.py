from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from recsys_mtl.data.encode import Encoder
from recsys_mtl.training import warm_start
from recsys_mtl.training.moments import Piece, _joined
from recsys_mtl.training.warm_start import new_values, row_sources
from tests import builders


def test_rows_are_matched_by_value_whatever_their_order(tmp_path: Path) -> None:
    builders.prepared(tmp_path / "data", rows=60)
    old = Encoder.load(tmp_path / "data")
    vocabularies = {table: ["new", *reversed(values)] for table, values in old.vocabularies.items()}
    sources = row_sources(old, Encoder(old.spec, vocabularies))
    rows = old.spec.rows["user"]
    np.testing.assert_array_equal(sources["user"], [0, 1, 0, *range(rows - 1, 1, -1)])
    assert new_values(sources) == len(vocabularies)


@pytest.mark.parametrize("new_rows", ["unknown", "zero"])
@pytest.mark.parametrize("block", [2, 100])
def test_values_take_their_rows_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_rows: str, block: int
) -> None:
    monkeypatch.setattr(warm_start, "BLOCK_ROWS", block)
    stored = 1 + torch.arange(21.0).reshape(7, 3)
    save_file({"w": stored}, tmp_path / "w.safetensors")
    sources = np.array([0, 1, 0, 6, 2, 3, 0, 5])
    target = torch.full((8, 3), torch.nan)
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        warm_start._fill(target, file, "w", sources, new_rows=new_rows)
    expected = stored[torch.from_numpy(sources)]
    if new_rows == "zero":
        expected[[2, 6]] = 0
    assert torch.equal(target, expected)


def test_moments_of_columns_on_several_workers_are_joined_to_their_mean_and_given_to_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[Piece] = [("m", (0,), torch.tensor([1.0, 2.0, 3.0])), ("m", (3,), torch.tensor([3.0, 4.0, 5.0]))]
    joined = _joined(pieces, rows=3)["m"]
    assert joined.tolist() == [2, 3, 4]
    save_file({"m": joined}, tmp_path / "m.safetensors")
    second = torch.empty(3)
    monkeypatch.setattr(warm_start, "local_parts", lambda _: [(second, (3,))])
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        for sources in (None, np.array([0, 1, 2])):
            second.zero_()
            warm_start._fill(None, file, "m", sources, new_rows="zero")
            assert second.tolist() == [2, 3, 4]
