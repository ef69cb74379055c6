from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys_mtl.weights import NAMES, map_weights, save_weights

TENSORS = st.builds(
    lambda shape, dtype: torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.sampled_from(list(NAMES)),
)
WEIGHTS = st.dictionaries(st.sampled_from(["a", "b", "é", "embeddings.x.weight"]), TENSORS).filter(
    lambda weights: weights.get("embeddings.x.weight", torch.empty(0, 0)).dim() == 2
)


@given(weights=WEIGHTS)
def test_any_reader_of_the_format_reads_what_was_written(
    weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_weights(weights, path)
    for read in (map_weights, load_file):
        torch.testing.assert_close(read(path), weights, rtol=0, atol=0)


@given(weights=WEIGHTS)
def test_files_of_other_writers_are_read(
    weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(weights, path)
    torch.testing.assert_close(map_weights(path), weights, rtol=0, atol=0)


def test_tables_lie_first_and_by_width(tmp_path: Path) -> None:
    widths = {"embeddings.a": 8, "embeddings.b": 4, "embeddings.c": 8, "dense": 2}
    save_weights({name: torch.rand(3, width) for name, width in widths.items()}, tmp_path / "w")
    assert list(map_weights(tmp_path / "w")) == ["embeddings.b", "embeddings.a", "embeddings.c", "dense"]


def test_changes_do_not_reach_the_file(tmp_path: Path) -> None:
    save_weights({"a": torch.zeros(4)}, tmp_path / "w")
    map_weights(tmp_path / "w")["a"].fill_(1)
    assert not map_weights(tmp_path / "w")["a"].any()


@pytest.mark.parametrize("end", [0, 4, 20, 90, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, end: int) -> None:
    save_weights({"a": torch.zeros(40)}, tmp_path / "w")
    (tmp_path / "cut").write_bytes((tmp_path / "w").read_bytes()[:end])
    with pytest.raises((SafetensorError, OSError)):
        map_weights(tmp_path / "cut")
