from pathlib import Path

import pytest
import torch
from rich.console import Console

from pipelines.quantise import run
from recsys_mtl.bundle import Bundle
from recsys_mtl.config import ConfigError
from recsys_mtl.quantised import is_quantised
from serving.golden import verify
from serving.scorer import Scorer
from tests import builders


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantise") / "data"
    builders.prepared(path)
    return path


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    path = data.parent / "whole"
    builders.bundle(path, data)
    return path


def test_a_bundle_of_eight_bits_scores_as_it_says(data: Path, whole: Path, tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    metrics = run(str(whole), str(data), "test", tmp_path / "small", console)
    small = Bundle.load(tmp_path / "small")
    assert all(map(is_quantised, small.tables.values()))
    assert verify(Scorer(small)) == len(small.golden)  # the engine's scores are those of the modules with these tables
    for before, after in metrics.values():
        assert after == pytest.approx(before, rel=0.02)
    text = console.export_text()
    assert "eight bits" in text
    assert "MB" in text


def test_tables_become_floats_for_the_modules(data: Path, whole: Path, tmp_path: Path) -> None:
    run(str(whole), str(data), "test", tmp_path / "small", Console(quiet=True))
    small, large = Bundle.load(tmp_path / "small"), Bundle.load(whole)
    for name, weight in large.model.embeddings.state_dict().items():
        near = small.model.embeddings.state_dict()[name]
        bound_N1 = (weight.amax(1, keepdim=True) - weight.amin(1, keepdim=True)) / 255
        assert ((near - weight).abs() <= 0.51 * bound_N1 + 1e-6).all()
    torch.testing.assert_close(small.ranker.state_dict(), large.ranker.state_dict(), rtol=0, atol=0)


def test_nothing_is_written_where_it_cannot_be(data: Path, whole: Path, tmp_path: Path) -> None:
    run(str(whole), str(data), "test", tmp_path / "small", Console(quiet=True))
    with pytest.raises(ConfigError, match=r"--out: .* exists"):
        run(str(whole), str(data), "test", tmp_path / "small", Console(quiet=True))
    with pytest.raises(ConfigError, match="in eight bits already"):
        run(str(tmp_path / "small"), str(data), "test", tmp_path / "again", Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
