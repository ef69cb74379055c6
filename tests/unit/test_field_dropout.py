import pytest
import torch

from recsys_mtl.config import ConfigError
from recsys_mtl.field_dropout import FieldDropout
from recsys_mtl.model import ModelConfig
from tests import dense

ROWS = 4000
SLICES = dense.LAYOUT.slices()


def test_a_field_is_dropped_whole_and_the_others_never() -> None:
    torch.manual_seed(0)
    fields_BX = torch.ones(ROWS, dense.LAYOUT.fields_dim)
    dropped_BX = FieldDropout({"author": 0.25, "hour": 0.0}, dense.LAYOUT)(fields_BX)
    author_BD = dropped_BX[:, SLICES["author"]]
    gone_B = author_BD[:, 0] == 0
    assert gone_B.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (author_BD[gone_B] == 0).all()
    torch.testing.assert_close(author_BD[~gone_B], torch.full_like(author_BD[~gone_B], 1 / 0.75))
    others = [SLICES[name] for name in ("user", "item", "hour")]
    assert all(torch.equal(dropped_BX[:, part], fields_BX[:, part]) for part in others)


def test_fields_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped_BX = FieldDropout({"user": 0.5, "item": 0.5}, dense.LAYOUT)(torch.ones(ROWS, dense.LAYOUT.fields_dim))
    both_B = (dropped_BX[:, SLICES["user"]][:, 0] == 0) & (dropped_BX[:, SLICES["item"]][:, 0] == 0)
    assert both_B.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_nothing_is_dropped_in_evaluation_or_unless_asked() -> None:
    fields_BX = torch.randn(5, dense.LAYOUT.fields_dim)
    assert torch.equal(FieldDropout({"user": 0.9}, dense.LAYOUT).eval()(fields_BX), fields_BX)
    assert torch.equal(FieldDropout({}, dense.LAYOUT)(fields_BX), fields_BX)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.field_dropout\.users: no such field; there are user, item, author"):
        ModelConfig(field_dropout={"users": 0.5}).build_ranker(dense.LAYOUT, dense.TASKS)


def test_it_reaches_the_ranker() -> None:
    ranker = ModelConfig(field_dropout={"user": 0.5}).build_ranker(dense.LAYOUT, dense.TASKS)
    features = dense.features(50)
    torch.manual_seed(0)
    first_BT = ranker(features)
    assert not torch.equal(ranker(features), first_BT)
    ranker.eval()
    assert torch.equal(ranker(features), ranker(features))
