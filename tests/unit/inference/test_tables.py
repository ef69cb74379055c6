from pathlib import Path

import numpy as np
import torch

from recsys_mtl.inference.tables import FusedTables, joined
from recsys_mtl.weights import map_weights, save_weights


def tables() -> dict[str, torch.Tensor]:
    return {"a": torch.rand(5, 4), "b": torch.rand(3, 2), "c": torch.rand(6, 4)}


def test_rows_of_all_tables_of_a_width_are_looked_up_at_once() -> None:
    given = tables()
    fused = FusedTables(given)
    rows = np.array([fused.first_row["a"] + 4, fused.first_row["c"] + 5, fused.first_row["a"]])
    expected = torch.stack([given["a"][4], given["c"][5], given["a"][0]])
    torch.testing.assert_close(fused.vectors(4, rows), expected, rtol=0, atol=0)
    assert fused.width == {"a": 4, "b": 2, "c": 4}


def test_tables_that_follow_each_other_in_a_file_are_not_copied(tmp_path: Path) -> None:
    names = {"a": "embeddings.pooled.a.weight", "b": "embeddings.events.b.weight", "c": "embeddings.pooled.c.weight"}
    given = tables()
    others = {"ranker.bias": torch.rand(3), "ranker.steps": torch.tensor(7)}
    save_weights({names[name]: table for name, table in given.items()} | others, tmp_path / "weights.safetensors")
    loaded = map_weights(tmp_path / "weights.safetensors")
    fused = FusedTables({name: loaded[names[name]] for name in given})
    assert {weight.untyped_storage().data_ptr() for weight in fused.weights.values()} == {
        loaded["ranker.bias"].untyped_storage().data_ptr()
    }
    for name, table in given.items():
        rows = fused.first_row[name] + np.arange(len(table))
        torch.testing.assert_close(fused.vectors(fused.width[name], rows), table, rtol=0, atol=0)


def test_tables_apart_are_copied_together() -> None:
    one, other = torch.rand(5, 4), torch.rand(6, 4)
    torch.testing.assert_close(joined([one, other]), torch.cat([one, other]), rtol=0, atol=0)
    backwards = torch.rand(11, 4)
    torch.testing.assert_close(joined([backwards[5:], backwards[:5]]), backwards.roll(6, 0), rtol=0, atol=0)
